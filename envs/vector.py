"""Gymnasium's vector API over the core: many lanes of one scenario in one process.

`envs.episodes.Episodes` is the core that is wrapped here; `envs.single` wraps one lane of it, and
`envs.stable_baselines` gives the same lanes to stable-baselines3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv

from artefacts import UsageError
from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.policies.observation import CANDIDATES
from controller.scenarios import Prices, Setting
from envs.actions import checked_actions, lane_seeds, reset_mask
from envs.episodes import EPISODE_FRAMES, Episodes, ObservationSpace, action_space, frame_info
from envs.preparation import HALVES, prepare
from envs.rendering import Recorder, draw


class CoInferenceVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` lanes stepped together; a lane whose episode is over begins anew in the same step.

    Observations, actions, rewards and the other arguments are those of `envs.single`; `render_mode`
    is `None` or `"rgb_array"`, which draws every lane. All lanes
    draw from one generator. Until `reset` is given a seed it is seeded by the system, so that no
    two environments are alike.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"], "render_fps": 25,
    }  # fmt: skip
    kind: str

    def __init__(
        self,
        scenario: str | Path,
        num_envs: int = 1,
        part: str = "train",
        half: str = "policy",
        episode_frames: int = EPISODE_FRAMES,
        policy: str | Path | None = None,
        render_mode: str | None = None,
        device_second: float | None = None,
        megabyte: float | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise UsageError(f"num_envs: found {num_envs!r}, expected a whole number above 0")
        if half not in HALVES:
            raise UsageError(f"half: found {half!r}, expected {' or '.join(HALVES)}")
        if render_mode not in (None, "rgb_array"):
            raise UsageError(
                f"render_mode: found {render_mode!r}, expected rgb_array (in a terminal one "
                "environment is drawn: gymnasium.make)"
            )
        self.num_envs, self.render_mode = num_envs, render_mode
        prices = Prices(device_second, megabyte)
        self.prepared = prepare(scenario, part, policy, self.kind, prices)
        lanes = self.prepared.lanes(num_envs, half, np.random.default_rng())
        self.episodes = Episodes((lanes,), episode_frames)
        self._placed = False
        drawn = 0 if render_mode is None else num_envs
        self._recorders = [Recorder(lanes, lane) for lane in range(drawn)]
        self.single_observation_space = ObservationSpace(self.prepared.origin)
        self.single_action_space = action_space()
        batch = gym.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)

    @property
    def setting(self) -> Setting:
        """The scenario, loaded."""
        return self.prepared.setting

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """Start the lanes anew: all of them, or those of `options["reset_mask"]`.

        A seed, or a list of one for every lane, makes this episode and all that follow repeatable.
        It begins every lane anew and is refused beside a mask.
        """
        mask = reset_mask(options, self.num_envs)
        given = lane_seeds(seed, self.num_envs)
        if mask is not None and (given is not None or not self._placed):
            found = "a seed beside it" if given is not None else "lanes that never began"
            raise UsageError(f"options['reset_mask']: found {found}, expected a reset of all first")
        if given is not None:
            self.episodes.seed(given)
        self._placed = True
        self._begin(np.ones(self.num_envs, dtype=np.bool_) if mask is None else mask)
        return self.episodes.reset(mask), {}

    def step(self, actions: Ints) -> tuple[Float32s, Floats, Bools, Bools, dict[str, Any]]:
        """One frame in every lane.

        Where episodes are over, `infos["final_obs"]` has their last observations, and
        `infos["_final_obs"]` says which lanes these are.
        """
        if not self._placed:
            raise ResetNeeded("step: found no reset before it, expected one")
        step = self.episodes.step(checked_actions(actions, self.num_envs, CANDIDATES))
        infos = frame_info(self.episodes.groups[0], step.results[0], step.sampled)
        for recorder in self._recorders:
            recorder.record(step.results[0])
        self._begin(step.over)
        observation = step.observation
        if step.over.any():
            infos["final_obs"] = observation.copy()
            infos["_final_obs"] = step.over.copy()
            observation = self.episodes.reset(step.over)
        return observation, step.reward, np.zeros_like(step.over), step.over, infos

    def _begin(self, lanes: Bools) -> None:
        """Nothing has been drawn yet of the episodes that begin in some lanes."""
        for recorder, begins in zip(self._recorders, lanes, strict=False):
            if begins:
                recorder.begin()

    def render(self) -> tuple[Any, ...] | None:
        """With "rgb_array" the last seconds of every lane, a picture (H, W, 3) each."""
        if self.render_mode is None:
            gym.logger.warn("render: found no render_mode, expected 'rgb_array'")
            return None
        return tuple(draw(recorder) for recorder in self._recorders)


class FrameStreamVectorEnv(CoInferenceVectorEnv):
    """`gymnasium.make_vec("coinfer.gym:coinfer/FrameStream-v0", num_envs=N)`."""

    kind = "frame-stream"


class ClosedLoopVectorEnv(CoInferenceVectorEnv):
    """`gymnasium.make_vec("coinfer.gym:coinfer/ClosedLoop-v0", num_envs=N)`."""

    kind = "closed-loop"
