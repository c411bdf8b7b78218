"""Episodes over observed lanes: the one core of every environment.

Owns where episodes begin and end, what a step is worth, and the range of the contexts met. The
single environments (`envs.single`), Gymnasium's vector API (`envs.vector`) and stable-baselines3's
(`envs.stable_baselines`) are adapters around it; the physics lies below, in `envs.simulator`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.policies.observation import CANDIDATES, CONTEXT, MOST_OBSERVED, WIDTH, Observation
from controller.scenarios.rewards import reward_scale
from envs.observed import HIDDEN, ObservedLanes
from envs.records import StepResult

EPISODE_FRAMES = 256
LIMIT = MOST_OBSERVED
"""Observations lie within [-LIMIT, LIMIT]."""


class ObservationSpace(gym.spaces.Box):
    """A `Box` that knows where its numbers come from (`envs.preparation.Prepared.origin`).

    stable-baselines3 keeps the space inside a saved model: `export_policy` reads it there and
    refuses a model of another scenario.
    """

    def __init__(self, origin: str) -> None:
        super().__init__(-LIMIT, LIMIT, (WIDTH,), np.float32)
        self.origin = origin


@dataclass(frozen=True, slots=True)
class Step:
    """One frame in every lane (arrays of length L, lanes of all groups behind one another).

    `reward` counts an answer's recorded accuracy, scaled to about 1; `sampled` is the plain reward
    of the single samples that were drawn. `observation` belongs to the episode of the frame, also
    where it is `over`.
    """

    observation: Float32s
    reward: Floats
    sampled: Floats
    over: Bools
    results: tuple[StepResult, ...]
    """One for every group."""


class Episodes:
    """Lanes of one or several groups, stepped together, with episodes.

    An episode begins at a random place of a random trace. It is over after `episode_frames`, or
    where its trace ends. Groups may differ in setting, prices and traces: an observation has the
    same shape everywhere. With `hidden` what no policy may see stands behind each row, for a value
    estimate (`ObservedLanes.hidden`).
    """

    def __init__(
        self, groups: Sequence[ObservedLanes], episode_frames: int, *, hidden: bool = False
    ) -> None:
        if isinstance(episode_frames, bool) or episode_frames != int(episode_frames) or (
            episode_frames < 1
        ):  # fmt: skip
            raise UsageError(
                f"episode_frames: found {episode_frames!r}, expected a whole number above 0"
            )
        self.groups, self.episode_frames = tuple(groups), episode_frames
        counts = [group.lanes for group in groups]
        ends = np.cumsum(counts)
        self.lanes = int(ends[-1])
        self.width = WIDTH + (HIDDEN if hidden else 0)
        self._hidden = hidden
        self._parts = [slice(int(end - n), int(end)) for end, n in zip(ends, counts, strict=True)]
        self._scale = np.repeat([reward_scale(group.setting) for group in groups], counts)
        self._frames = np.zeros(self.lanes, dtype=np.int64)
        self._observations: list[Observation] = []
        self.lowest = np.full(len(CONTEXT), np.inf, dtype=np.float32)
        self.highest = np.full(len(CONTEXT), -np.inf, dtype=np.float32)
        """Least and greatest context met so far (C,)."""

    def seed(self, seed: int | Sequence[int] | None) -> None:
        """Every lane begins anew with the randomness of `seed`; None draws it from the system."""
        rngs = [np.random.default_rng(seed)]
        if len(self.groups) > 1:
            rngs = rngs[0].spawn(len(self.groups))
        for group, rng in zip(self.groups, rngs, strict=True):
            group.restart(rng)

    def reset(self, lanes: Bools | None = None) -> Float32s:
        """New episodes in the masked lanes (all of them); gives every lane's observation."""
        mask = np.ones(self.lanes, dtype=np.bool_) if lanes is None else lanes
        for group, part in zip(self.groups, self._parts, strict=True):
            if mask[part].any():
                group.simulator.place_randomly(mask[part], self.episode_frames)
                group.forget(mask[part])
        self._frames[mask] = 0
        return self._observe()

    def step(self, candidates: Ints) -> Step:
        """One frame in every lane under these candidates (L,), which are checked already.

        Where a lane has fewer plans than candidates, what fills up stands for the first.
        """
        sampled, reward = np.zeros(self.lanes), np.zeros(self.lanes)
        over = np.zeros(self.lanes, dtype=np.bool_)
        results = []
        for group, observation, part in zip(
            self.groups, self._observations, self._parts, strict=True
        ):
            action = candidates[part]
            present = observation.present[np.arange(len(action)), action]
            result = group.step(observation, np.where(present, action, 0))
            sampled[part], over[part] = result.reward, result.ended
            reward[part] = group.simulator.mean_reward(result)
            results.append(result)
        self._frames += 1
        over |= self._frames >= self.episode_frames
        return Step(self._observe(), reward * self._scale, sampled, over, tuple(results))

    def _observe(self) -> Float32s:
        self._observations = [group.observe() for group in self.groups]
        rows = [
            np.concatenate([seen.flat, group.hidden()], axis=1) if self._hidden else seen.flat
            for seen, group in zip(self._observations, self.groups, strict=True)
        ]
        seen = rows[0] if len(rows) == 1 else np.concatenate(rows)
        context = seen[:, : len(CONTEXT)]
        self.lowest = np.minimum(self.lowest, context.min(axis=0))
        self.highest = np.maximum(self.highest, context.max(axis=0))
        return seen


def action_space() -> gym.spaces.Discrete:
    """The candidates: `Discrete(CANDIDATES)`."""
    return gym.spaces.Discrete(CANDIDATES)


def frame_info(group: ObservedLanes, result: StepResult, sampled: Floats) -> dict[str, Any]:
    """What is reported of a group's step beside its reward (arrays of length L)."""
    return {
        "plan": group.plan,
        "quality": result.quality,
        "correct": result.quality >= 1.0,
        "in_time": result.in_time,
        "latency_s": result.outcome.latency_s,
        "exit": result.outcome.answer_exit,
        "bytes_sent": result.outcome.bytes_sent,
        "device_s": result.outcome.device_s,
        "device_cost": result.device_cost,
        "byte_cost": result.byte_cost,
        "answers_taken": result.taken.quality,
        "sampled_reward": sampled,
    }
