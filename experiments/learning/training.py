"""Reinforcement learning on the batched environment; the policy leaves it as numpy and JSON.

Choices (which checkpoint to keep) are made on the validation split and the policy half of the
outcomes; the test split and the report half are not touched here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback

from artefacts.arrays import Float32s, Floats
from controller.planners.queue_values import Solving, solve_prices
from controller.policies.network import Policy, as_written, make_policy
from controller.policies.weights import ScorerWeights
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from envs.observed import ObservedLanes
from envs.stable_baselines import ObservedVecEnv
from experiments.learning.curriculum import WhereItTrails, generated, with_generated
from experiments.learning.scorer import Scorer, ScorerPolicy, ScorerQPolicy
from experiments.learning.tasks import Data, TrainingTasks, for_prices, price_grids
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.learning.validation import (
    Judging,
    Validation,
    learnt_blind_s,
    same_weights,
    unheard,
)


def train_policy(
    setting: Setting,
    args: TrainArgs,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
    data: Data | None = None,
    tensorboard: Path | None = None,
    start: ScorerWeights | None = None,
    judging: Judging = unheard,
) -> Policy:
    """Plan over the queue, then learn what to add to it; gives what did best on validation traces.

    `planning` is called with the share of the planning that is done, `report` after every rollout.
    `stopped` is asked after every rollout; an interrupted run gives the best policy so far. `data`
    stands in for the scenario's own training and validation traces. `tensorboard` is a folder for
    TensorBoard's files: stable-baselines3's figures, rewards per frame, and validation rewards.
    `start`: what an earlier training has learnt to add, to go on from (None: nothing). `judging` is
    called with what is judged, and how far.

    `setting` is the scenario loaded, `args` say how is learnt.
    """
    data = Data.of(setting) if data is None else data
    grids = price_grids(setting, args.most_device_second, args.most_megabyte)
    planning(0.0)
    belief = BandwidthBelief.from_traces(data.train.traces)
    advantages = solve_prices(
        setting, belief, *grids, Solving(args.planning_backlogs, sweeps=args.planning_sweeps),
        planning,
    )  # fmt: skip
    belief, advantages = as_written(belief, advantages)
    rng = np.random.default_rng(args.seed)
    if args.generated:
        more = generated(setting, args.generated, np.random.default_rng([args.seed, 1]))
        data = replace(data, train=with_generated(data.train, more))
    tasks = for_prices(setting, belief, advantages, data, args.lanes, rng)
    asked: dict[str, Any] = {}
    planned: list[Floats] | None = None
    if not args.blind_s:
        blind_s, asked, planned = learnt_blind_s(tasks.judged, args.validation_frames, judging)
        args = replace(args, blind_s=blind_s)
    weights, contexts, record = learn(
        tasks, args, belief, report, stopped, tensorboard, start, judging, planned
    )
    training = asdict(args) | data.record | asked | record | {"interrupted": stopped()}
    return make_policy(setting, weights, belief, advantages, contexts, training, args.blind_s)


def learn(
    tasks: TrainingTasks,
    args: TrainArgs,
    belief: BandwidthBelief,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    tensorboard: Path | None = None,
    start: ScorerWeights | None = None,
    judging: Judging = unheard,
    planned: Sequence[Floats] | None = None,
) -> tuple[ScorerWeights, tuple[Float32s, Float32s], dict[str, Any]]:
    """Weights of the scorer that did best where it is judged, the contexts met, the record.

    At the `blind_s` of `args`, which is above 0 here.

    `tasks` are what is learnt and judged on, `belief` is how the bandwidth moves. `report` is
    called after every rollout, `stopped` asked; `tensorboard` is a folder for TensorBoard's files.
    `start`: weights to go on from, where they do better than planning alone (None: that). `judging`
    is called with what is judged, and how far. `planned`: what planning alone earns on
    every trace, by task, where that is known.
    """
    torch.manual_seed(args.seed)
    rngs = np.random.default_rng(args.seed).spawn(len(tasks.trained))
    env = ObservedVecEnv(
        [c.started(r, args.blind_s) for c, r in zip(tasks.trained, rngs, strict=True)],
        args.episode_frames,
    )
    model = make_model(env, args, tensorboard)
    first, known = "planning", {}
    if start is not None:
        known = judged_starts(tasks, args, start, judging)
        if known["validation_reward_of_start"] >= known["validation_reward_of_planning"]:
            scorer_of(model).take(start)
            first = "start"
    keeper = _Keeper(
        tasks, env.groups, belief, args, scorer_of(model), report, stopped, first, judging,
        planned if first == "planning" else None,
    )  # fmt: skip
    if args.frames > 0:
        model.learn(args.frames, callback=keeper)
    else:
        env.run_as_planned()
    weights = keeper.result(model.num_timesteps)
    return weights, env.contexts, known | keeper.record


def judged_starts(
    tasks: TrainingTasks, args: TrainArgs, start: ScorerWeights, judging: Judging = unheard
) -> dict[str, float]:
    """Validation rewards of weights to go on from, and of planning alone.

    What was learnt elsewhere may be worth less than nothing where `tasks` are judged, at the
    `blind_s` and `validation_frames` of `args`; `start` are weights to go on from. `judging`
    hears how far it is.
    """
    validation = Validation(
        tasks.judged, args.blind_s, args.validation_frames,
        lambda share: judging("validation of what it goes on from", share),
    )  # fmt: skip
    planning = replace(start, out=np.zeros_like(start.out))
    return {
        "validation_reward_of_start": validation.reward(start),
        "validation_reward_of_planning": validation.reward(planning),
    }


def make_model(env: ObservedVecEnv, args: TrainArgs, tensorboard: Path | None = None) -> PPO | DQN:
    """The stable-baselines3 model of `args` on lanes, with a folder for TensorBoard's files."""

    def falling(left: float) -> float:
        return args.learning_rate * (0.1 + 0.9 * left)

    common: dict[str, Any] = {
        "learning_rate": falling, "gamma": args.gamma, "batch_size": args.batch,
        "policy_kwargs": {"hidden": args.hidden, "without": args.without},
        "seed": args.seed, "device": "cpu",
        "tensorboard_log": None if tensorboard is None else str(tensorboard),
    }  # fmt: skip
    if args.algorithm == "dqn":
        # explores by the plans that are next best least: a random candidate costs a frame
        return DQN(
            ScorerQPolicy, env, buffer_size=args.lanes * 512, learning_starts=args.lanes * 64,
            train_freq=4, gradient_steps=4, target_update_interval=env.num_envs * 4,
            exploration_fraction=0.5, exploration_initial_eps=0.1, exploration_final_eps=0.01,
            **common,
        )  # fmt: skip
    return PPO(
        ScorerPolicy, env, n_steps=args.steps, n_epochs=args.epochs, gae_lambda=args.gae_lambda,
        ent_coef=args.entropy, **common,
    )  # fmt: skip


def critic_first(scorer: Scorer, args: TrainArgs, done: float) -> None:
    """Let the scorer learn only once the value estimate has had its share of the frames."""
    for parameter in scorer.parameters():
        parameter.requires_grad_(done >= args.critic_share)


def scorer_of(model: PPO | DQN) -> Scorer:
    """The network that decides, shared with the model."""
    found = model.q_net.q_net if isinstance(model, DQN) else model.policy.action_net
    assert isinstance(found, Scorer)
    return found


class _Keeper(BaseCallback):
    """Judges the scorer on the validation traces now and then, and keeps the best weights."""

    def __init__(
        self,
        tasks: TrainingTasks,
        groups: Sequence[ObservedLanes],
        belief: BandwidthBelief,
        args: TrainArgs,
        scorer: Scorer,
        report: Callable[[TrainReport], None],
        stopped: Callable[[], bool],
        first: str,
        judging: Judging,
        planned: Sequence[Floats] | None,
    ) -> None:
        super().__init__()
        self._args, self._scorer = args, scorer
        self._validation = Validation(
            tasks.judged, args.blind_s, args.validation_frames,
            lambda share: judging("validation", share),
        )  # fmt: skip
        self._planned = planned
        self._last: tuple[ScorerWeights, float] | None = None
        self._trained, self._groups = tasks.trained, groups
        self._trailing = [
            WhereItTrails(c.setting, c.bank, belief, args.validation_frames // 4, args.curriculum)
            for c in (tasks.trained if args.curriculum > 0 and args.frames > 0 else ())
        ]
        self._report, self._stopped, self._first = report, stopped, first
        self._next, self._halt = 0, False
        self._began_s = time.monotonic()
        self._best: ScorerWeights | None = None
        self.record: dict[str, Any] = {}
        """Of the best: `frames_seen`, `validation_reward`, and what it began with had."""

    def _on_step(self) -> bool:
        return not self._halt

    def _on_rollout_end(self) -> None:
        if self._args.algorithm == "dqn" and self.num_timesteps % (64 * self._args.lanes):
            return
        reward = self.training_env.take_mean_reward()  # type: ignore[attr-defined]
        self.logger.record("rollout/reward_per_frame", reward)
        spent = max(time.monotonic() - self._began_s, 1e-9)
        self._report(
            TrainReport(
                self.num_timesteps,
                self._args.frames,
                reward,
                self.record.get("validation_reward"),
                self.num_timesteps / spent,
            )
        )

    def _on_rollout_start(self) -> None:
        done = min(self.num_timesteps / self._args.frames, 1.0)
        if isinstance(self.model, PPO):
            self.model.ent_coef = self._args.entropy * max(1.0 - 1.25 * done, 0.0)
            critic_first(self._scorer, self._args, done)
        if self.num_timesteps >= self._next:
            self._next += max(self._args.frames // self._args.validations, 1)
            self.logger.record("validation/reward", self._judge(self.num_timesteps))
        self._halt = self._stopped()

    def _judge(self, seen: int) -> float:
        weights = self._scorer.exported()
        reward = self._reward(weights)
        if self._best is None:
            self.record[f"validation_reward_of_{self._first}"] = reward
        if self._best is None or reward > self.record["validation_reward"]:
            self._best = weights
            self.record |= {"frames_seen": seen, "validation_reward": reward}
        for group, task, trailing in zip(self._groups, self._trained, self._trailing, strict=False):
            group.simulator.shares = trailing.shares(task.encoder, weights, self._args.blind_s)
        return reward

    def _reward(self, weights: ScorerWeights) -> float:
        """Of these weights; what was judged is not judged again.

        A scorer that has learnt nothing yet decides as planning alone, and while the value estimate
        has its share of the frames nothing else is learnt.
        """
        planned, self._planned = self._planned, None
        if self._last is not None and same_weights(self._last[0], weights):
            return self._last[1]
        if planned is not None:
            reward = self._validation.weighed(planned)
        else:
            reward = self._validation.reward(weights)
        self._last = weights, reward
        return reward

    def result(self, seen: int) -> ScorerWeights:
        """The best weights, the final ones included."""
        self._judge(seen)
        assert self._best is not None
        return self._best
