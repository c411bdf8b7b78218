"""stable-baselines3's vector interface over the core: many lanes in one process, no copies.

Trainings of `experiments.learning` step it with what is hidden from the policy behind each
observation. `stable_baselines_env` makes one without that for any of stable-baselines3's
algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from stable_baselines3.common.vec_env import VecEnv

from artefacts import UsageError
from artefacts.arrays import Bools, Float32s, Ints
from controller.policies.observation import CANDIDATES
from controller.scenarios import Prices
from envs.actions import checked_actions
from envs.episodes import (
    EPISODE_FRAMES,
    LIMIT,
    Episodes,
    ObservationSpace,
    action_space,
    frame_info,
)
from envs.observed import ObservedLanes
from envs.preparation import HALVES, Prepared, prepare


class ObservedVecEnv(VecEnv):
    """The lanes of every group side by side.

    An observation is a row of `Observation.flat` and, without `prepared`, what is hidden from the
    policy behind it. With `prepared` (what the lanes were made of) it is the row alone, infos say
    what became of each frame, and `coinfer.export_policy` can make a policy of what was trained.
    """

    def __init__(
        self,
        groups: Sequence[ObservedLanes],
        episode_frames: int,
        prepared: Prepared | None = None,
    ) -> None:
        self.episodes = Episodes(groups, episode_frames, hidden=prepared is None)
        self.groups, self.prepared = self.episodes.groups, prepared
        self._actions: Ints = np.zeros(self.episodes.lanes, dtype=np.int64)
        self._rewards: list[float] = []
        self._placed = False
        space: gym.spaces.Box
        if prepared is None:
            space = gym.spaces.Box(-LIMIT, LIMIT, (self.episodes.width,), np.float32)
        else:
            space = ObservationSpace(prepared.origin)
        super().__init__(self.episodes.lanes, space, action_space())

    @property
    def contexts(self) -> tuple[Float32s, Float32s]:
        """Least and greatest context met so far (C,) each."""
        return self.episodes.lowest, self.episodes.highest

    def take_mean_reward(self) -> float:
        """Mean reward per frame since the last call (stable-baselines3's buffer adds values)."""
        mean = float(np.mean(self._rewards)) if self._rewards else 0.0
        self._rewards.clear()
        return mean

    def reset(self) -> Float32s:
        """Start every lane anew; a seed given by `seed` before counts once."""
        # one seed for all lanes: they draw from one generator each group
        if self.prepared is not None and self._seeds[0] is not None:
            self.episodes.seed(int(self._seeds[0]))
        self._reset_seeds()
        self._placed = True
        return self.episodes.reset()

    def step_async(self, actions: Ints) -> None:
        """Remember the candidates."""
        self._actions = checked_actions(actions, self.num_envs, CANDIDATES)

    def step_wait(self) -> tuple[Float32s, Float32s, Bools, list[Any]]:
        """One frame in every lane; finished episodes begin anew, their last observation in info.

        Rewards count an answer's accuracy, not one sample's luck: the same in expectation.
        """
        if not self._placed:
            raise ResetNeeded("step: found no reset before it, expected one")
        step = self.episodes.step(self._actions)
        observation, infos = step.observation, self._infos(step.results[0], step.sampled)
        if step.over.any():
            for lane in np.flatnonzero(step.over):
                infos[lane]["terminal_observation"] = observation[lane].copy()
                infos[lane]["TimeLimit.truncated"] = True
            observation = self.episodes.reset(step.over)
        self._rewards.append(float(step.sampled.mean()))
        return observation, step.reward.astype(np.float32), step.over, infos

    def _infos(self, result: Any, sampled: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        if self.prepared is None:
            return [{} for _ in range(self.num_envs)]
        found = frame_info(self.groups[0], result, sampled)
        rows = zip(*found.values(), strict=True)
        return [dict(zip(found, row, strict=True)) for row in rows]

    def run_as_planned(self) -> None:
        """One episode of every lane by planning alone: what its contexts are."""
        self.reset()
        for _ in range(self.episodes.episode_frames):
            self.step_async(np.zeros(self.num_envs, dtype=np.int64))
            self.step_wait()

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of this object, else of the first group, once per asked lane."""
        held = self if attr_name in ("contexts", "prepared") else self.groups[0]
        return [getattr(held, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of every group."""
        for group in self.groups:
            setattr(group, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the first group once; the answer is every lane's."""
        answer = getattr(self.groups[0], method_name)(*args, **kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No lane is wrapped."""
        return [False for _ in self._get_indices(indices)]


def stable_baselines_env(
    scenario: str | Path,
    num_envs: int = 64,
    part: str = "train",
    half: str = "policy",
    episode_frames: int = EPISODE_FRAMES,
    policy: str | Path | None = None,
    device_second: float | None = None,
    megabyte: float | None = None,
) -> ObservedVecEnv:
    """`num_envs` lanes of a scenario for stable-baselines3, stepped together in this process.

    Frame streams and closed loops alike; arguments, observations, actions and rewards are those of
    `envs.single.FrameStreamEnv`. Far faster than as many single environments.

    `scenario` is a shipped name or a file, `part` of its traces `train`, `validation` or `test`,
    `half` of the recorded answers `policy` or `report`. An episode has `episode_frames` frames.
    With the folder of a `policy` observations are that policy's own. `device_second` and `megabyte`
    are prices in correct answers, in the place of the scenario's.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise UsageError(f"num_envs: found {num_envs!r}, expected a whole number above 0")
    if half not in HALVES:
        raise UsageError(f"half: found {half!r}, expected {' or '.join(HALVES)}")
    prepared = prepare(scenario, part, policy, prices=Prices(device_second, megabyte))
    lanes = prepared.lanes(num_envs, half, np.random.default_rng())
    return ObservedVecEnv((lanes,), episode_frames, prepared)
