"""The batched simulator as a policy sees it: observations in, episodes, automatic resets.

`LaneCore` adds episodes and observations to `Simulator`; `VectorEnv` is Gymnasium's vector API over
it and `experiments.learning.environment` has stable-baselines3's. The single environments are one
lane of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector import VectorEnv as GymVectorEnv

from artefacts import UsageError
from controller.physics import TraceBank
from controller.policies.features import FEATURES, Observer, Scales
from controller.policies.probing import Prober
from controller.scenarios import Setting, load_setting, read_scenario
from controller.scenarios.rewards import reward_scale
from envs.actions import checked_actions, reset_mask
from envs.simulator import Simulator, StepResult

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

EPISODE_FRAMES = 256


def observation_space() -> gym.spaces.Box:
    """FEATURES numbers within [-3, 3]; see `controller.policies.features.NAMES`."""
    return gym.spaces.Box(-3.0, 3.0, (FEATURES,), np.float32)


def observe(simulator: Simulator, observer: Observer, prober: Prober) -> npt.NDArray[np.float32]:
    """Tell both what has become known by now; observations (L, FEATURES) of every lane."""
    for found in simulator.deliver():
        prober.measured(found.lanes, found.known_s)
        observer.measured(found.lanes, found.known_s, found.rate_bps, found.complete)
    for ended in simulator.ends():
        observer.ended(ended.lanes, ended.in_time, ended.by_plan)
    return observer.observe(simulator.now_s, *simulator.backlogs())


class LaneCore:
    """Lanes with observations and episodes; `reset` and `step` speak in plain arrays.

    An episode begins at a random place of a random trace and is truncated after
    `episode_frames`; it ends (terminated is never set: the stream itself has no end) early where
    its trace does.
    """

    def __init__(
        self,
        setting: Setting,
        lanes: int,
        *,
        part: str = "train",
        half: str = "policy",
        episode_frames: int = EPISODE_FRAMES,
        seed: int | None = None,
    ) -> None:
        self.setting, self.lanes, self.half = setting, lanes, half
        self.episode_frames = episode_frames
        self.bank = TraceBank(setting.traces(part).traces)
        self.reward_scale = reward_scale(setting)
        self.observer = Observer(lanes, Scales(setting.scenario.frames.deadline_s))
        self.prober = Prober(setting.table, lanes)
        self.seed(seed)

    def seed(self, seed: int | Sequence[int] | None) -> None:
        """Begin anew with the randomness of `seed`; None draws it from the system."""
        self.simulator = Simulator(
            self.setting, self.bank, self.lanes, self.half, np.random.default_rng(seed)
        )
        self._frames = np.zeros(self.lanes, dtype=np.int64)
        self.plan = np.zeros(self.lanes, dtype=np.int64)

    def reset(self, lanes: Bools | None = None) -> npt.NDArray[np.float32]:
        """Place the masked lanes anew; gives every lane's observation."""
        mask = np.ones(self.lanes, dtype=np.bool_) if lanes is None else lanes
        self.simulator.place_randomly(mask, self.episode_frames)
        self.observer.reset(mask)
        self.prober.reset(mask)
        self._frames[mask] = 0
        return self.observe()

    def observe(self) -> npt.NDArray[np.float32]:
        """Observations at the lanes' present decision times, new measurements taken in."""
        return observe(self.simulator, self.observer, self.prober)

    def step(self, plan: npt.NDArray[np.int64]) -> tuple[StepResult, Bools]:
        """One frame in every lane; gives the result and which episodes are over.

        Where a lane is blind its plan may give way to a probe (`controller.policies.probing`), as
        the learned controller's does; `plan` is what was executed.
        """
        self.plan = self.prober.applied(plan, self.simulator.now_s)
        result = self.simulator.step(self.plan)
        self._frames += 1
        return result, result.ended | (self._frames >= self.episode_frames)


class VectorEnv(GymVectorEnv[Any, Any, Any]):
    """Gymnasium's vector API over the batched simulator (autoreset in the same step).

    All lanes draw from one generator. Until `reset` is given a seed it is seeded by the system, so
    that no two environments are alike.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self, scenario: str, num_envs: int = 1, part: str = "train", half: str = "policy"
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise UsageError(f"num_envs: found {num_envs!r}, expected a whole number above 0")
        setting = load_setting(read_scenario(scenario))
        self.num_envs = num_envs
        self.core = LaneCore(setting, num_envs, part=part, half=half)
        self._placed = False
        self.single_observation_space = observation_space()
        self._plans = len(setting.table)
        self.single_action_space = gym.spaces.Discrete(self._plans)
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start the lanes anew: all of them, or those of `options["reset_mask"]`.

        A seed, or a list of one for every lane, makes this episode and all that follow repeatable.
        It begins every lane anew and is refused beside a mask.
        """
        mask = reset_mask(options, self.num_envs)
        given = self._seed(seed)
        if mask is not None and (given is not None or not self._placed):
            found = "a seed beside it" if given is not None else "lanes that never began"
            raise UsageError(f"options['reset_mask']: found {found}, expected a reset of all first")
        if given is not None:
            self.core.seed(given)
        self._placed = True
        return self.core.reset(mask), {}

    def _seed(self, seed: int | list[int | None] | None) -> int | list[int] | None:
        known = [s for s in (seed if isinstance(seed, list) else [seed]) if s is not None]
        for one in known:
            if isinstance(one, bool) or not isinstance(one, int | np.integer) or one < 0:
                raise UsageError(f"seed: found {one!r}, expected whole numbers from 0")
        if not isinstance(seed, list):
            return seed
        if len(seed) != self.num_envs or 0 < len(known) < len(seed):
            raise UsageError(
                f"seed: found {len(known)} of a list of {len(seed)}, expected one for each of "
                f"{self.num_envs} lanes, or none at all"
            )
        return known or None

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], Floats, Bools, Bools, dict[str, Any]]:
        """One frame in every lane; finished episodes begin anew in the same step."""
        if not self._placed:
            raise ResetNeeded("step: found no reset before it, expected one")
        result, over = self.core.step(checked_actions(actions, self.num_envs, self._plans))
        observation = self.core.observe()
        infos = frame_info(self.core.plan, result)
        if over.any():
            infos["final_obs"] = observation.copy()
            infos["_final_obs"] = over.copy()
            observation = self.core.reset(over)
        return observation, result.reward, np.zeros_like(over), over, infos


def frame_info(plan: npt.NDArray[np.int64], result: StepResult) -> dict[str, Any]:
    """The parts of a step that are reported beside the reward (arrays of length L)."""
    return {
        "plan": plan,
        "correct": result.correct,
        "in_time": result.in_time,
        "latency_s": result.outcome.latency_s,
        "exit": result.outcome.answer_exit,
        "bytes_sent": result.outcome.bytes_sent,
        "device_s": result.outcome.device_s,
        "device_cost": result.device_cost,
        "byte_cost": result.byte_cost,
    }
