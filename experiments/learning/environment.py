"""stable-baselines3's vector interface over viewed lanes, of one setting or of several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from controller.policies.observation import CANDIDATES, CONTEXT, WIDTH, Observation
from controller.scenarios.rewards import reward_scale
from envs.actions import checked_actions
from envs.observed import HIDDEN, ObservedLanes

Float32s = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class ViewVecEnv(VecEnv):
    """The lanes of every group side by side (no copies per lane).

    An observation is a row of `Observation.flat` and what is hidden from the policy behind it.
    Groups may differ in setting, prices and traces: a view has the same shape everywhere.
    """

    def __init__(self, groups: Sequence[ObservedLanes], episode_frames: int) -> None:
        self.groups, self._episode_frames = tuple(groups), episode_frames
        counts = [group.lanes for group in groups]
        ends = np.cumsum(counts)
        self._parts = [slice(int(end - n), int(end)) for end, n in zip(ends, counts, strict=True)]
        self._scale = np.repeat([reward_scale(group.setting) for group in groups], counts)
        lanes = int(ends[-1])
        self._frames = np.zeros(lanes, dtype=np.int64)
        self._actions: Ints = np.zeros(lanes, dtype=np.int64)
        self._rewards: list[float] = []
        self._views: list[Observation] = []
        self.lowest = np.full(len(CONTEXT), np.inf, dtype=np.float32)
        self.highest = np.full(len(CONTEXT), -np.inf, dtype=np.float32)
        space = gym.spaces.Box(-3.0, 3.0, (WIDTH + HIDDEN,), np.float32)
        super().__init__(lanes, space, gym.spaces.Discrete(CANDIDATES))

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

    def _place(self, lanes: Bools) -> None:
        for group, part in zip(self.groups, self._parts, strict=True):
            if lanes[part].any():
                group.simulator.place_randomly(lanes[part], self._episode_frames)
                group.forget(lanes[part])
        self._frames[lanes] = 0

    def _look(self) -> Float32s:
        self._views = [group.look() for group in self.groups]
        rows = [
            np.concatenate([view.flat, group.hidden()], axis=1)
            for view, group in zip(self._views, self.groups, strict=True)
        ]
        seen = rows[0] if len(rows) == 1 else np.concatenate(rows)
        context = seen[:, : len(CONTEXT)]
        self.lowest = np.minimum(self.lowest, context.min(axis=0))
        self.highest = np.maximum(self.highest, context.max(axis=0))
        return seen

    def step_async(self, actions: Ints) -> None:
        """Remember the candidates."""
        self._actions = checked_actions(actions, self.num_envs, CANDIDATES)

    def step_wait(self) -> tuple[Float32s, Float32s, Bools, list[Any]]:
        """One frame in every lane; finished episodes begin anew, their last observation in info.

        Rewards count an answer's accuracy, not one sample's luck: the same in expectation.
        """
        told, reward = np.zeros(self.num_envs), np.zeros(self.num_envs)
        over = np.zeros(self.num_envs, dtype=np.bool_)
        for group, view, part in zip(self.groups, self._views, self._parts, strict=True):
            action = self._actions[part]
            # where fewer plans are there, what fills up stands for the first
            present = view.present[np.arange(len(action)), action]
            result = group.step(view, np.where(present, action, 0))
            told[part], over[part] = result.reward, result.ended
            reward[part] = group.simulator.mean_reward(result)
        self._frames += 1
        over |= self._frames >= self._episode_frames
        observation = self._look()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over.any():
            for lane in np.flatnonzero(over):
                infos[lane]["terminal_observation"] = observation[lane].copy()
                infos[lane]["TimeLimit.truncated"] = True
            self._place(over)
            observation = self._look()
        self._rewards.append(float(told.mean()))
        return observation, (reward * self._scale).astype(np.float32), over, infos

    def run_as_planned(self) -> None:
        """One episode of every lane by planning alone: what its contexts are."""
        self.reset()
        for _ in range(self._episode_frames):
            self.step_async(np.zeros(self.num_envs, dtype=np.int64))
            self.step_wait()

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the groups, once per asked lane."""
        return [getattr(self.groups[0], attr_name, None) for _ in self._get_indices(indices)]

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
