"""The two environments a user makes by name; each is one lane of the batched simulator."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.scenarios import load_setting, read_scenario
from envs.actions import checked_actions
from envs.vector import EPISODE_FRAMES, LaneCore, frame_info, observation_space


class _LaneEnv(gym.Env[npt.NDArray[np.float32], np.int64]):
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    kind: str

    def __init__(
        self,
        scenario: str,
        part: str = "train",
        half: str = "policy",
        episode_frames: int = EPISODE_FRAMES,
    ) -> None:
        setting = load_setting(read_scenario(scenario))
        if setting.scenario.kind != self.kind:
            raise UsageError(
                f"scenario '{scenario}': found kind '{setting.scenario.kind}', expected "
                f"'{self.kind}' for {type(self).__name__}"
            )
        self.setting = setting
        self.core = LaneCore(setting, 1, part=part, half=half, episode_frames=episode_frames)
        self.observation_space = observation_space()  # type: ignore[assignment]
        self.action_space = gym.spaces.Discrete(len(setting.table))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """A new episode; `seed` makes it and all that follow repeatable.

        An environment that nobody seeded draws its randomness from the system.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.core.seed(seed)
        return self.core.reset()[0], {}

    def step(
        self, action: np.int64
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One frame under plan `action`."""
        plan = checked_actions(np.atleast_1d(action), 1, len(self.setting.table))
        result, over = self.core.step(plan)
        info = {name: value[0] for name, value in frame_info(self.core.plan, result).items()}
        return self.core.observe()[0], float(result.reward[0]), False, bool(over[0]), info


class FrameStreamEnv(_LaneEnv):
    """`coinfer/FrameStream-v0`: frames arrive at a fixed rate; answer each correctly in time.

    ## Action
    `Discrete(P)`: the plan for the frame that has just arrived, an index into the scenario's
    plans (`env.unwrapped.setting.table.plans`): exit, edge interval, wire codec, and in scenarios
    with `[plans] confidence` the earlier exits that end the frame where they are sure enough.
    Where nothing was heard of the link for 0.5 s and the plan would not tell of it either, the
    link is asked in its place by a cheap one (`controller.policies.probing.probe_plan`);
    `info["plan"]` is what was executed.

    ## Observation
    `Box(-3, 3, (22,), float32)`, only what a device knows (`controller.policies.features`):

    | index | feature | range |
    |---|---|---|
    | 0-3 | log rate (of the payload) of the last four measured transfers, newest first | -3 to 3 |
    | 4-7 | log age of those measurements | 0 to 1 |
    | 8-11 | whether they were complete (1) or cancelled (0) | 0 or 1 |
    | 12-13 | fast (1 s) and slow (10 s) mean of the log rate | -3 to 3 |
    | 14 | mean deviation of the log rate from its slow mean | 0 to 3 |
    | 15 | log rate since the last change point | -3 to 3 |
    | 16 | log age of that change point | 0 to 1 |
    | 17 | device backlog / deadline | 0 to 3 |
    | 18 | bytes still owed to the uplink / 16 KiB | 0 to 3 |
    | 19-20 | recent share answered in time, and by the plan itself | 0 to 1 |
    | 21 | whether anything was measured yet | 0 or 1 |

    ## Reward
    1 if the frame was answered correctly within the deadline (the recorded outcome of a random
    sample at the exit that answered), minus the scenario's prices for device seconds and
    megabytes. The parts are in `info`.

    ## Start and end
    A random place of a random training trace, by a random phase; truncated after
    `episode_frames` or where the trace ends. Never terminated. `reset(seed=...)` makes it
    repeatable; without a seed the system draws, so that no two environments are alike.

    ## Versions
    v0: first version.
    """

    kind = "frame-stream"

    def __init__(self, scenario: str = "3g-alexnet", **options: Any) -> None:
        super().__init__(scenario, **options)


class ClosedLoopEnv(_LaneEnv):
    """`coinfer/ClosedLoop-v0`: Edgent's loop; the next inference starts when the last ends.

    ## Action, observation
    As `coinfer/FrameStream-v0` (backlogs are always 0 here).

    ## Reward
    exp(accuracy) + 1/latency (1/s) if the step met the latency requirement, else 0 (Li et al.,
    IEEE TWC 2020, section V-C); the accuracy is the recorded one of the exit under its codec.

    ## Start and end
    A random place of a random training trace; truncated after `episode_frames` inferences or where
    the trace ends. Model loading is charged once at the start of a whole-trace evaluation, not of
    an episode.

    ## Versions
    v0: first version.
    """

    kind = "closed-loop"

    def __init__(self, scenario: str = "edgent", **options: Any) -> None:
        super().__init__(scenario, **options)
