"""Reinforcement learning on the batched environment; the policy leaves it as numpy and JSON.

Choices (which checkpoint to keep) are made on the validation split and the policy half of the
outcomes; the test split and the report half are not touched here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from controller.physics import TraceBank
from controller.planners.queue_values import COUNTING, Solving, solve
from controller.policies.network import Policy, ScorerWeights, as_written, make_policy
from controller.policies.view import CANDIDATES, CONTEXT, WIDTH, PolicyView
from controller.rewards import reward_scale
from controller.scenario import Setting
from controller.sensing.belief import BandwidthBelief
from envs.views import HIDDEN, ViewedLanes, mean_reward
from experiments.learning.scorer import Scorer, ScorerPolicy, ScorerQPolicy

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """Everything that decides a run."""

    frames: int = 1_500_000
    """Frames (environment steps) over all lanes; 0 keeps planning alone."""
    planning_backlogs: int = 12
    """States of each backlog up to the deadline in the planning that comes first."""
    planning_sweeps: int = 150
    """Sweeps of its value iteration at most."""
    algorithm: Literal["ppo", "dqn"] = "ppo"
    """PPO, or DQN (which learns values and has no use for the hyper-parameters of rollouts)."""
    lanes: int = 512
    """Streams stepped together."""
    steps: int = 32
    """Frames a lane gives between two updates (PPO)."""
    epochs: int = 4
    """Passes over a rollout (PPO)."""
    batch: int = 4096
    """Frames per gradient step."""
    learning_rate: float = 1e-3
    """Adam's, falling linearly to a tenth."""
    gamma: float = 0.95
    """Discount per frame: what a plan does to queues and knowledge fades within some frames."""
    gae_lambda: float = 0.9
    """Of generalised advantage estimation (PPO)."""
    entropy: float = 0.0
    """Weight of the entropy bonus at the start, falling linearly to 0: what is kept decides by
    the greatest score, so what is trained must end up deciding so too."""
    hidden: int = 32
    """Units of both hidden layers of the scorer."""
    critic_share: float = 0.05
    """Share of the frames, at the start, in which only the value estimate learns: an untrained
    one would first unteach planning."""
    blind_s: float = 0.5
    """Seconds without a measurement after which a plan that tells nothing gives way to a probe."""
    episode_frames: int = 256
    """Frames of an episode; each begins at a random place of a random training trace."""
    validations: int = 8
    """How often the policy is judged on the validation traces; the best is kept."""
    validation_frames: int = 4000
    """Of every validation trace, each time."""
    seed: int = 0
    """Seeds initialisation, streams and sampling."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How far training is: frames, mean training reward, best validation reward so far."""

    frames: int
    total: int
    reward: float
    validation: float | None
    frames_per_s: float


class ViewVecEnv(VecEnv):
    """stable-baselines3's vector interface over viewed lanes (no copies per lane).

    An observation is a row of `View.flat` and what is hidden from the policy behind it.
    """

    def __init__(self, lanes: ViewedLanes, episode_frames: int) -> None:
        self.core, self._episode_frames = lanes, episode_frames
        self._scale = reward_scale(lanes.setting)
        self._frames = np.zeros(lanes.lanes, dtype=np.int64)
        self._actions: npt.NDArray[np.int64] = np.zeros(lanes.lanes, dtype=np.int64)
        self._rewards: list[float] = []
        self.lowest = np.full(len(CONTEXT), np.inf, dtype=np.float32)
        self.highest = np.full(len(CONTEXT), -np.inf, dtype=np.float32)
        space = gym.spaces.Box(-3.0, 3.0, (WIDTH + HIDDEN,), np.float32)
        super().__init__(lanes.lanes, space, gym.spaces.Discrete(CANDIDATES))

    def take_mean_reward(self) -> float:
        """Mean reward per frame since the last call (stable-baselines3's buffer adds values)."""
        mean = float(np.mean(self._rewards)) if self._rewards else 0.0
        self._rewards.clear()
        return mean

    def reset(self) -> Float32s:
        """Start every lane anew."""
        self._reset_seeds()
        self._place(np.ones(self.num_envs, dtype=np.bool_))
        return self._look()

    def _place(self, lanes: npt.NDArray[np.bool_]) -> None:
        self.core.simulator.place_randomly(lanes, self._episode_frames)
        self.core.forget(lanes)
        self._frames[lanes] = 0

    def _look(self) -> Float32s:
        self._view = self.core.look()
        context = self._view.context
        self.lowest = np.minimum(self.lowest, context.min(axis=0))
        self.highest = np.maximum(self.highest, context.max(axis=0))
        return np.concatenate([self._view.flat, self.core.hidden()], axis=1)

    def step_async(self, actions: npt.NDArray[np.int64]) -> None:
        """Remember the candidates."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(
        self,
    ) -> tuple[Float32s, Float32s, npt.NDArray[np.bool_], list[Any]]:
        """One frame in every lane; finished episodes begin anew, their last observation in info.

        Rewards count an answer's accuracy, not one sample's luck: the same in expectation.
        """
        # where fewer plans are there, what fills up stands for the first
        present = self._view.present[np.arange(self.num_envs), self._actions]
        result = self.core.step(self._view, np.where(present, self._actions, 0))
        self._frames += 1
        over = result.ended | (self._frames >= self._episode_frames)
        observation = self._look()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over.any():
            for lane in np.flatnonzero(over):
                infos[lane]["terminal_observation"] = observation[lane].copy()
                infos[lane]["TimeLimit.truncated"] = True
            self._place(over)
            observation = self._look()
        self._rewards.append(float(result.reward.mean()))
        reward = (self.core.simulator.mean_reward(result) * self._scale).astype(np.float32)
        return observation, reward, over, infos

    def run_as_planned(self) -> None:
        """One episode of every lane by planning alone: what its contexts are."""
        self.reset()
        for _ in range(self._episode_frames):
            self.step_async(np.zeros(self.num_envs, dtype=np.int64))
            self.step_wait()

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the shared core, once per asked lane."""
        return [getattr(self.core, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the shared core."""
        setattr(self.core, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the shared core once; the answer is every lane's."""
        answer = getattr(self.core, method_name)(*args, **kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No lane is wrapped."""
        return [False for _ in self._get_indices(indices)]


def train_policy(
    setting: Setting,
    args: TrainArgs,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
) -> Policy:
    """Plan over the queue, then learn what to add to it; gives what did best on validation traces.

    `planning` is told the share of the planning that is done, `report` of every rollout after it.
    `stopped` is asked after every rollout; an interrupted run gives the best policy so far.
    """
    torch.manual_seed(args.seed)
    train = setting.traces("train")
    planning(0.0)
    belief = BandwidthBelief.counted(train.traces, COUNTING)
    how = Solving(args.planning_backlogs, sweeps=args.planning_sweeps)
    belief, advantages = as_written(belief, solve(setting, belief, how))
    planning(1.0)
    view = PolicyView(setting, belief, advantages)
    lanes = ViewedLanes(
        setting, TraceBank(train.traces), args.lanes, view, "policy",
        np.random.default_rng(args.seed), args.blind_s,
    )  # fmt: skip
    env = ViewVecEnv(lanes, args.episode_frames)
    model = make_model(env, args)
    scorer = scorer_of(model)

    validation = Validation(setting, view, args.blind_s, args.validation_frames)
    keeper = _Keeper(validation, args, scorer, report, stopped)
    if args.frames > 0:
        model.learn(args.frames, callback=keeper)
    else:
        env.run_as_planned()
    weights = keeper.result(model.num_timesteps)
    training = asdict(args) | {"traces": train.source} | keeper.record
    contexts = (env.lowest, env.highest)
    return make_policy(setting, weights, belief, advantages, contexts, training, args.blind_s)


def make_model(env: ViewVecEnv, args: TrainArgs) -> PPO | DQN:
    """The stable-baselines3 model of `args` on lanes."""

    def falling(left: float) -> float:
        return args.learning_rate * (0.1 + 0.9 * left)

    common: dict[str, Any] = {
        "learning_rate": falling, "gamma": args.gamma, "batch_size": args.batch,
        "policy_kwargs": {"hidden": args.hidden}, "seed": args.seed, "device": "cpu",
    }  # fmt: skip
    if args.algorithm == "dqn":
        # explores by the plans that are next best least: a random candidate costs a frame
        return DQN(
            ScorerQPolicy, env, buffer_size=args.lanes * 512, learning_starts=args.lanes * 64,
            train_freq=4, gradient_steps=4, target_update_interval=args.lanes * 100,
            exploration_fraction=0.5, exploration_initial_eps=0.1, exploration_final_eps=0.01,
            **common,
        )  # fmt: skip
    return PPO(
        ScorerPolicy, env, n_steps=args.steps, n_epochs=args.epochs, gae_lambda=args.gae_lambda,
        ent_coef=args.entropy, **common,
    )  # fmt: skip


def scorer_of(model: PPO | DQN) -> Scorer:
    """The network that decides, shared with the model."""
    found = model.q_net.q_net if isinstance(model, DQN) else model.policy.action_net
    assert isinstance(found, Scorer)
    return found


class _Keeper(BaseCallback):
    """Judges the scorer on the validation traces now and then, and keeps the best weights."""

    def __init__(
        self,
        validation: Validation,
        args: TrainArgs,
        scorer: Scorer,
        report: Callable[[TrainReport], None],
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._validation, self._args, self._scorer = validation, args, scorer
        self._report, self._stopped = report, stopped
        self._next, self._halt = 0, False
        self._began_s = time.monotonic()
        self._best: ScorerWeights | None = None
        self.record: dict[str, Any] = {}
        """Of the best: `frames_seen`, `validation_reward`, and what planning alone had."""

    def _on_step(self) -> bool:
        return not self._halt

    def _on_rollout_end(self) -> None:
        if self._args.algorithm == "dqn" and self.num_timesteps % (64 * self._args.lanes):
            return
        reward = self.training_env.take_mean_reward()  # type: ignore[attr-defined]
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
            for parameter in self._scorer.parameters():
                parameter.requires_grad_(done >= self._args.critic_share)
        if self.num_timesteps >= self._next:
            self._next += max(self._args.frames // self._args.validations, 1)
            self._judge(self.num_timesteps)
        self._halt = self._stopped()

    def _judge(self, seen: int) -> None:
        weights = self._scorer.exported()
        reward = self._validation.reward(weights)
        if self._best is None:
            self.record["validation_reward_of_planning"] = reward
        if self._best is None or reward > self.record["validation_reward"]:
            self._best = weights
            self.record |= {"frames_seen": seen, "validation_reward": reward}

    def result(self, seen: int) -> ScorerWeights:
        """The best weights, the final ones included."""
        self._judge(seen)
        assert self._best is not None
        return self._best


@dataclass(frozen=True, slots=True)
class _Deciding:
    """Weights as someone who decides."""

    weights: ScorerWeights

    def decide(self, flat: Float32s) -> npt.NDArray[np.int64]:
        return np.asarray(self.weights.scores(flat).argmax(axis=1))


class Validation:
    """Mean reward on the validation traces, each run once from its start (policy half)."""

    def __init__(
        self, setting: Setting, view: PolicyView, blind_s: float, frames: int = 4000
    ) -> None:
        self._setting, self._view, self._blind_s = setting, view, blind_s
        self._frames = frames
        self._bank = TraceBank(setting.traces("validation").traces)

    def reward(self, weights: ScorerWeights) -> float:
        """Mean over the traces, each counted equally."""
        setting, lanes = self._setting, len(self._bank.names)
        rng = np.random.default_rng(setting.scenario.seeds.evaluate)
        viewed = ViewedLanes(setting, self._bank, lanes, self._view, "policy", rng, self._blind_s)
        return float(mean_reward(viewed, _Deciding(weights), self._frames).mean())
