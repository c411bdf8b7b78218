"""What learns best here: `python -m experiments.analyses.algorithms --scenario 3g-mobilenet`.

Planning alone, PPO, DQN and recurrent PPO (an LSTM over what is seen) with the same frames of
experience, from the same start; each judged once, at its end, on the validation logs (what `coinfer
train` keeps is the best of several checkpoints, planning's own among them). Mean rewards with the
answers' accuracies; several seeds.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback

from artefacts import CoinferError
from controller.planners.queue_values import solve_prices
from controller.policies.network import as_written
from controller.policies.probing import BLIND_S
from controller.scenarios import Setting, load_priced
from controller.sensing.belief import BandwidthBelief
from envs.observed import mean_reward
from envs.stable_baselines import ObservedVecEnv
from experiments.arguments import LineParser, add_price_options, count, prices_given
from experiments.learning.recurrent import RecurrentScorerPolicy, recurrent_reward
from experiments.learning.scorer import Scorer
from experiments.learning.tasks import Data, TrainingTasks, for_prices
from experiments.learning.training import critic_first, make_model, scorer_of
from experiments.learning.training_args import TrainArgs

MEMORY = 16
"""Units of the LSTM."""
JUDGED_FRAMES = 4000


class Row(msgspec.Struct, frozen=True):
    """One training: reward on the validation logs, and seconds it took."""

    algorithm: str
    seed: int
    reward: float
    seconds: float


def measured(setting: Setting, args: TrainArgs, seeds: list[int]) -> list[Row]:
    """Every algorithm with every seed; the first row is planning alone."""
    data, own = Data.of(setting), setting.prices
    belief = BandwidthBelief.from_traces(data.train.traces)
    grids = np.array([own.device_second]), np.array([own.megabyte])
    belief, advantages = as_written(belief, solve_prices(setting, belief, *grids))
    rows: list[Row] = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        tasks = for_prices(setting, belief, advantages, data, args.lanes, rng)
        for algorithm in ("planning", "ppo", "dqn", "recurrent ppo"):
            if algorithm == "planning" and rows:
                continue
            began = time.monotonic()
            reward = _reward(algorithm, tasks, replace(args, seed=seed))
            rows.append(Row(algorithm, seed, reward, round(time.monotonic() - began, 1)))
            print(msgspec.json.encode(rows[-1]).decode(), flush=True)
    return rows


def _reward(algorithm: str, tasks: TrainingTasks, args: TrainArgs) -> float:
    torch.manual_seed(args.seed)
    (task,), (judged,) = tasks.trained, tasks.judged
    env = ObservedVecEnv(
        [task.started(np.random.default_rng(args.seed), args.blind_s)], args.episode_frames
    )
    lanes = judged.started(
        np.random.default_rng(judged.setting.scenario.seeds.evaluate), args.blind_s
    )
    if algorithm == "recurrent ppo":
        made = _recurrent(env, args)
        made.learn(args.frames, callback=CriticFirst(made.policy.action_net, args))
        return float(recurrent_reward(lanes, made.policy, JUDGED_FRAMES).mean())
    model = make_model(env, replace(args, algorithm="dqn" if algorithm == "dqn" else "ppo"))
    if algorithm != "planning":
        first = CriticFirst(scorer_of(model), args) if algorithm == "ppo" else None
        model.learn(args.frames, callback=first)
    weights = scorer_of(model).exported()
    return float(mean_reward(lanes, weights, JUDGED_FRAMES).mean())


class CriticFirst(BaseCallback):
    """What `coinfer train` does for PPO: the value estimate learns first."""

    def __init__(self, scorer: Scorer, args: TrainArgs) -> None:
        super().__init__()
        self._scorer, self._args = scorer, args

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        critic_first(self._scorer, self._args, min(self.num_timesteps / self._args.frames, 1.0))


def _recurrent(env: ObservedVecEnv, args: TrainArgs) -> Any:
    def falling(left: float) -> float:
        return args.learning_rate * (0.1 + 0.9 * left)

    return RecurrentPPO(
        RecurrentScorerPolicy, env, n_steps=args.steps, n_epochs=args.epochs,
        batch_size=args.batch, learning_rate=falling, gamma=args.gamma,
        gae_lambda=args.gae_lambda, ent_coef=args.entropy, seed=args.seed, device="cpu",
        policy_kwargs={"hidden": args.hidden, "memory": MEMORY},
    )  # fmt: skip


def main() -> None:
    """Print a row a training."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--scenario", required=True)
    add_price_options(parser)
    parser.add_argument("--frames", type=count, default=400_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        setting = load_priced(args.scenario, prices_given(args))
        measured(setting, TrainArgs(frames=args.frames, blind_s=BLIND_S), args.seeds)
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
