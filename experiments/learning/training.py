"""PPO on the batched environment; the policy leaves it as numpy and JSON.

Choices (which checkpoint to keep) are made on the validation split and the policy half of the
outcomes; the test split and the report half are not touched here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from controller.physics import TraceBank
from controller.planners.robust import BandwidthBelief, RobustPlanner
from controller.policies.network import Policy, make_policy
from controller.policies.observation import Observer, Scales
from controller.policies.probing import Prober
from controller.scenario import Setting
from envs.simulator import Simulator
from envs.vector import LaneCore, observation_space, observe
from experiments.learning.imitation import LANES, imitate


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """Everything that decides a PPO run."""

    frames: int = 3_000_000
    """Frames (environment steps) over all lanes."""
    lanes: int = 256
    """Streams stepped together."""
    steps: int = 64
    """Frames a lane gives between two updates."""
    epochs: int = 6
    """Passes over a rollout."""
    batch: int = 2048
    """Frames per gradient step."""
    learning_rate: float = 3e-4
    """Adam's, falling linearly to a tenth."""
    gamma: float = 0.95
    """Discount per frame: what a plan does to queues and knowledge fades within some frames."""
    gae_lambda: float = 0.9
    """Of generalised advantage estimation."""
    entropy: float = 0.004
    """Weight of the entropy bonus at the start, falling linearly to 0: what is kept decides by
    the greatest score, so what is trained must end up deciding so too."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers (tanh)."""
    warm_start: bool = True
    """First imitate the robust planner (see `.imitation`), then improve by reward."""
    critic_share: float = 0.08
    """Share of the frames, at the start, in which only the value estimate learns: an untrained
    one would first unteach what was imitated."""
    validations: int = 8
    """How often the policy is judged on the validation traces; the best is kept."""
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


class LaneVecEnv(VecEnv):
    """stable-baselines3's vector interface over the batched environment (no copies per lane)."""

    def __init__(self, core: LaneCore) -> None:
        self.core = core
        self._actions: npt.NDArray[np.int64] = np.zeros(core.lanes, dtype=np.int64)
        self._rewards: list[float] = []
        super().__init__(
            core.lanes, observation_space(), gym.spaces.Discrete(len(core.setting.table))
        )

    def take_mean_reward(self) -> float:
        """Mean reward per frame since the last call (stable-baselines3's buffer adds values)."""
        mean = float(np.mean(self._rewards)) if self._rewards else 0.0
        self._rewards.clear()
        return mean

    def reset(self) -> npt.NDArray[np.float32]:
        """Start every lane anew."""
        if self._seeds[0] is not None:
            self.core.seed(self._seeds[0])
        self._reset_seeds()
        return self.core.reset()

    def step_async(self, actions: npt.NDArray[np.int64]) -> None:
        """Remember the plans."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], list[Any]]:
        """One frame in every lane; finished episodes begin anew, their last observation in info."""
        result, over = self.core.step(self._actions)
        observation = self.core.observe()
        infos: list[dict[str, Any]] = [{} for _ in range(self.core.lanes)]
        if over.any():
            for lane in np.flatnonzero(over):
                infos[lane]["terminal_observation"] = observation[lane].copy()
                infos[lane]["TimeLimit.truncated"] = True
            observation = self.core.reset(over)
        self._rewards.append(float(result.reward.mean()))
        reward = (result.reward * self.core.reward_scale).astype(np.float32)
        return observation, reward, over, infos

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
    warming: Callable[[float], None] = lambda share: None,
) -> Policy:
    """Train with PPO and give the policy that did best on the validation traces.

    `warming` is told the share of the warm start that is done, `report` of every rollout after it.
    `stopped` is asked after every rollout; an interrupted run gives the best policy so far.
    """
    torch.manual_seed(args.seed)
    core = LaneCore(setting, args.lanes, seed=args.seed)
    model = PPO(
        "MlpPolicy",
        LaneVecEnv(core),
        learning_rate=lambda left: args.learning_rate * (0.1 + 0.9 * left),
        n_steps=args.steps,
        batch_size=args.batch,
        n_epochs=args.epochs,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        ent_coef=args.entropy,
        policy_kwargs={"net_arch": list(args.hidden), "activation_fn": torch.nn.Tanh},
        seed=args.seed,
        device="cpu",
    )
    if args.warm_start:
        belief = BandwidthBelief(setting.traces("train").traces)
        rng = np.random.default_rng([args.seed, 1])
        simulator = Simulator(setting, core.bank, LANES, "policy", rng)
        imitate(
            actor_of(model),
            setting,
            simulator,
            lambda: RobustPlanner(setting, belief),
            args.seed,
            warming,
        )
    keeper = _Keeper(setting, args, report, stopped)
    model.learn(args.frames, callback=keeper)
    return keeper.result(model)


def actor_of(model: Any) -> torch.nn.Sequential:
    """The layers from observation to scores (shared with the model, not copied)."""
    return torch.nn.Sequential(model.policy.mlp_extractor.policy_net, model.policy.action_net)


class _Keeper(BaseCallback):
    """Judges the policy on the validation traces now and then, and keeps the best."""

    def __init__(
        self,
        setting: Setting,
        args: TrainArgs,
        report: Callable[[TrainReport], None],
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._setting, self._args, self._report, self._stopped = setting, args, report, stopped
        self._rollouts = max(args.frames // (args.lanes * args.steps), 1)
        self._done = 0
        self._began_s = time.monotonic()
        self.best: Policy | None = None
        self.best_reward: float | None = None
        self._validation = Validation(setting)
        self._halt = False

    def _on_step(self) -> bool:
        return not self._halt

    def _on_rollout_end(self) -> None:
        self._done += 1
        reward = self.training_env.take_mean_reward()  # type: ignore[attr-defined]
        spent = max(time.monotonic() - self._began_s, 1e-9)
        self._report(
            TrainReport(
                self.num_timesteps,
                self._args.frames,
                reward,
                self.best_reward,
                self.num_timesteps / spent,
            )
        )

    def _on_rollout_start(self) -> None:
        left = max(1.0 - self.num_timesteps / self._args.frames, 0.0)
        self.model.ent_coef = self._args.entropy * max(1.25 * left - 0.25, 0.0)  # type: ignore[attr-defined]
        every = max(self._rollouts // self._args.validations, 1)
        if self._done % every == 0:
            self._judge(self.model)
        learns = not self._args.warm_start or 1.0 - left >= self._args.critic_share
        for parameter in actor_of(self.model).parameters():
            parameter.requires_grad_(learns)
        self._halt = self._stopped()

    def _judge(self, model: Any) -> None:
        policy = extract_policy(self._setting, model, self._record())
        reward = self._validation.reward(policy)
        if self.best_reward is None or reward > self.best_reward:
            self.best, self.best_reward = policy, reward

    def _record(self) -> dict[str, Any]:
        source = self._setting.traces("train").source
        return {
            "algorithm": "PPO", "frames_seen": self.num_timesteps, "traces": source,
        } | asdict(self._args)  # fmt: skip

    def result(self, model: Any) -> Policy:
        """The best policy, the final one included."""
        self._judge(model)
        assert self.best is not None
        self.best.card.training["validation_reward"] = self.best_reward
        return self.best


class Validation:
    """Mean reward of a policy on the validation traces, each run once from its start."""

    def __init__(self, setting: Setting, frames: int = 4000) -> None:
        self._setting, self._frames = setting, frames
        self._bank = TraceBank(setting.traces("validation").traces)

    def reward(self, policy: Policy) -> float:
        """Mean reward per frame over all validation frames (policy half of the outcomes)."""
        setting, bank = self._setting, self._bank
        lanes = len(bank.names)
        rng = np.random.default_rng(setting.scenario.seeds.evaluate)
        simulator = Simulator(setting, bank, lanes, "policy", rng)
        observer = Observer(lanes, Scales(setting.scenario.frames.deadline_s))
        prober = Prober(setting.table, lanes)
        everyone = np.ones(lanes, dtype=np.bool_)
        simulator.place(everyone, np.arange(lanes), np.zeros(lanes))
        alive, total, count = everyone.copy(), 0.0, 0
        for _ in range(self._frames):
            scores = policy.scores(observe(simulator, observer, prober))
            plan = prober.applied(scores.argmax(axis=1), simulator.now_s, scores)
            result = simulator.step(plan)
            total += float(result.reward[alive].sum())
            count += int(alive.sum())
            alive &= ~result.ended
            if not alive.any():
                break
            stay = ~alive
            simulator.now_s = np.where(stay, 0.0, simulator.now_s)
        return total / max(count, 1)


def extract_policy(setting: Setting, model: Any, training: dict[str, Any]) -> Policy:
    """The actor of a stable-baselines3 PPO model as numpy layers."""
    layers = [m for m in model.policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
    layers.append(model.policy.action_net)
    weights = [m.weight.detach().cpu().numpy().T.copy() for m in layers]
    biases = [m.bias.detach().cpu().numpy().copy() for m in layers]
    return make_policy(setting, weights, biases, training)


def policy_frequencies(policy: Policy, observations: npt.NDArray[np.float32]) -> Sequence[float]:
    """Share of observations for which each plan is chosen."""
    chosen = policy.decide(observations)
    return [float(x) for x in np.bincount(chosen, minlength=len(policy.card.plans)) / len(chosen)]
