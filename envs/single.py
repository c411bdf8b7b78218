"""The two environments that a user makes by name: one lane of the core, in Gymnasium's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded

from artefacts import UsageError
from artefacts.arrays import Float32s
from controller.policies.observation import CANDIDATES
from controller.scenarios import Prices, Setting
from envs.actions import checked_actions, checked_seed
from envs.episodes import EPISODE_FRAMES, Episodes, ObservationSpace, action_space, frame_info
from envs.preparation import HALVES, Prepared, prepare
from envs.rendering import Recorder, draw, show


class CoInferenceEnv(gym.Env[Float32s, np.int64]):
    """What both environments share; see `FrameStreamEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 25}  # noqa: RUF012
    kind: str

    def __init__(
        self,
        scenario: str | Path,
        part: str = "train",
        half: str = "policy",
        episode_frames: int = EPISODE_FRAMES,
        policy: str | Path | None = None,
        render_mode: str | None = None,
        device_second: float | None = None,
        megabyte: float | None = None,
    ) -> None:
        if half not in HALVES:
            raise UsageError(f"half: found {half!r}, expected {' or '.join(HALVES)}")
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise UsageError(f"render_mode: found {render_mode!r}, expected {' or '.join(modes)}")
        self.render_mode = render_mode
        self.prepared: Prepared = prepare(
            scenario, part, policy, self.kind, Prices(device_second, megabyte)
        )
        lanes = self.prepared.lanes(1, half, np.random.default_rng())
        self.episodes = Episodes((lanes,), episode_frames)
        self.observation_space = ObservationSpace(self.prepared.origin)  # type: ignore[assignment]
        self.action_space = action_space()
        self._running = False
        self._recorder = None if render_mode is None else Recorder(lanes)

    @property
    def setting(self) -> Setting:
        """The scenario, loaded."""
        return self.prepared.setting

    @property
    def contexts(self) -> tuple[Float32s, Float32s]:
        """Least and greatest context met so far (C,) each."""
        return self.episodes.lowest, self.episodes.highest

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """A new episode; `seed` makes it and all that follow repeatable.

        An environment that nobody seeded draws its randomness from the system.
        """
        checked_seed(seed)
        super().reset(seed=seed)
        if seed is not None:
            self.episodes.seed(seed)
        self._running = True
        observation = self.episodes.reset()
        if self._recorder is not None:
            self._recorder.begin()
            self._show()
        return observation[0], {}

    def step(self, action: np.int64) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """One frame under candidate `action`."""
        if not self._running:
            raise ResetNeeded("step: found no episode under way, expected a reset before it")
        step = self.episodes.step(checked_actions(np.atleast_1d(action), 1, CANDIDATES))
        (lanes,), (result,) = self.episodes.groups, step.results
        over = bool(step.over[0])
        self._running = not over
        info = {name: of[0] for name, of in frame_info(lanes, result, step.sampled).items()}
        if self._recorder is not None:
            self._recorder.record(result)
            self._show()
        return step.observation[0], float(step.reward[0]), False, over, info

    def _show(self) -> None:
        if self.render_mode == "human" and self._recorder is not None:
            show(self._recorder)

    def render(self) -> npt.NDArray[np.uint8] | None:
        """The last seconds: a picture (H, W, 3) with "rgb_array"; nothing with "human".

        With "human" every reset and step draws them in the terminal.
        """
        if self._recorder is None:
            gym.logger.warn("render: found no render_mode, expected 'human' or 'rgb_array'")
            return None
        return draw(self._recorder) if self.render_mode == "rgb_array" else None


class FrameStreamEnv(CoInferenceEnv):
    """`coinfer/FrameStream-v0`: frames arrive at a fixed rate; answer each correctly in time.

    The environment that shipped policies are trained in: the same observations, candidates,
    probing rule and rewards. `coinfer.export_policy` makes a policy of what was trained here.

    ## Description
    A camera on a weak device delivers frames at a fixed rate. For each of them a plan is chosen:
    how deep the network runs, which stretch of it an edge server computes, and how tensors cross.
    The link's bandwidth follows a recorded trace. It is known only through transfers that happened.

    ## Action Space
    `Discrete(12)`: which of the 12 candidates answers the frame that has just arrived.

    | action | plan |
    |---|---|
    | 0 | the plan that planning alone holds best |
    | 1 to 11 | the next best in planning's order; three of the 12 at least send every frame |

    Where a scenario has fewer than 12 plans, the actions that are left stand for action 0. Where
    nothing was measured for a while (0.5 s, or what the policy learnt) and the plan would not
    measure either, the best plan that sends takes its place. `info["plan"]` is what was carried
    out, an index into `env.unwrapped.setting.table.plans`.

    ## Observation Space
    `Box(-3, 3, (228,), float32)`, only what a device knows. The first 36 numbers are the context:

    | index | number | range |
    |---|---|---|
    | 0-3 | log rate of the last four measured transfers, newest first | -3 to 3 |
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
    | 22-23 | mean and deviation of the log rate that is believed in | -3 to 3 |
    | 24-25 | price of a device second; of a megabyte, / 5 | 0 to 3 |
    | 26-27 | log2 of the deadline / 0.1 s and of the interval / 50 ms, / 3 | -3 to 3 |
    | 28 | round trip / deadline | 0 to 3 |
    | 29 | greatest expected reward of a candidate | -3 to 3 |
    | 30 | log2 of what computing took / what the profile expects | -3 to 3 |
    | 31-32 | log2 of bytes that crossed / their mean; its change from frame to frame | -3 to 3 |
    | 33 | wait at the edge / deadline | 0 to 3 |
    | 34 | latency of the last frame / deadline (2: no answer) | 0 to 2 |
    | 35 | how sure the device's exits were | 0 to 1 |

    Numbers 30 to 35 are 0 where the scenario's `[world]` is off.

    Then 15 numbers for each of the 12 candidates (`controller.policies.observation.DESCRIBED`):

    | index | number | range |
    |---|---|---|
    | 36 + 15 k | advantage by planning against the best, 20-fold | -3 to 0 |
    | 37-40 + 15 k | the same were the rate the newest, fast mean, slow mean, least | -3 to 3 |
    | 41 + 15 k | expected reward of this frame | -3 to 3 |
    | 42 + 15 k | chance of the plan's own answer in time | 0 to 1 |
    | 43-44 + 15 k | intervals for which the plan keeps device and uplink | 0 to 3 |
    | 45 + 15 k | price paid, 10-fold | -3 to 3 |
    | 46 + 15 k | share of the plan's frames that send | 0 to 1 |
    | 47 + 15 k | log2(1 + KiB sent) / 3 | 0 to 3 |
    | 48-50 + 15 k | whether the plan is local, has gates, has a hedge | 0 or 1 |

    The last 12 numbers, 216 to 227, say which candidates there are (1), and which fill up (0).

    ## Rewards
    The recorded accuracy (mean quality) of the exit that answered within the deadline, else 0,
    minus the scenario's prices for device seconds and megabytes. `info["sampled_reward"]` has in
    its place the quality of one random recorded sample's answer: the same on average, with more
    noise.

    ## Starting State
    A random place of a random trace of `part`, nothing measured, idle device and link.
    `reset(seed=...)` makes it repeatable; without a seed the system draws.

    ## Episode End
    Never terminated: a stream has no end of its own. Truncated after `episode_frames`, or where
    the trace ends. A step after that raises `gymnasium.error.ResetNeeded`.

    ## Information
    `plan`, `quality` (0 to 1; 0 where no answer is in time), `in_time`, `latency_s`, `exit` (from
    0; -1: none in time), `bytes_sent`, `device_s`, `device_cost`, `byte_cost` and `sampled_reward`
    of the frame. `correct`: whether its quality is 1. `answers_taken`: quality of the answers of
    frames before that this one's jobs took the time of.

    ## Arguments
    - `scenario` (`"3g-alexnet"`): a shipped scenario's name, or the path of a `.toml` file.
    - `part` (`"train"`): traces of `"train"`, `"validation"` or `"test"`.
    - `half` (`"policy"`): samples of this half of the recorded outcomes; `"report"` is for judging.
    - `episode_frames` (256): frames of an episode.
    - `policy` (`None`): folder of a policy of this scenario. Its belief and its planning make the
      observations, in the place of the shipped policy's. Where neither is there, both are made
      of the training traces, which takes seconds to a minute.
    - `render_mode` (`None`): `"rgb_array"` or `"human"` (in the terminal) draws the last seconds.
    - `device_second` (`None`): price of a second of the device in correct answers, in the place of
      the scenario's. A scenario without prices then has hedged plans, too.
    - `megabyte` (`None`): the same of a megabyte that crosses the link.

    ```python
    >>> import gymnasium
    >>> env = gymnasium.make("coinfer.gym:coinfer/FrameStream-v0", scenario="3g-alexnet")
    >>> observation, info = env.reset(seed=0)
    >>> observation.shape
    (228,)
    >>> observation, reward, terminated, truncated, info = env.step(0)
    >>> (terminated, truncated)
    (False, False)

    ```

    ## Version History
    v0: first version. Under this name there was another environment before, with all plans of
    the scenario as actions and 22 numbers as observation. No shipped policy was trained in it.
    Numbers 30 to 35 are newer than the others: what was trained without them is still read.
    """

    kind = "frame-stream"

    def __init__(self, scenario: str | Path = "3g-alexnet", **options: Any) -> None:
        super().__init__(scenario, **options)


class ClosedLoopEnv(CoInferenceEnv):
    """`coinfer/ClosedLoop-v0`: Edgent's loop; the next inference starts when the last ends.

    ## Description
    As `FrameStreamEnv`, but for one inference at a time, without cancelling.

    ## Action Space
    `Discrete(12)`, the candidates, as in `FrameStreamEnv`.

    ## Observation Space
    `Box(-3, 3, (228,), float32)`, as in `FrameStreamEnv`; backlogs (17, 18) are always 0, and the
    interval (27) is the latency requirement.

    ## Rewards
    exp(accuracy) + 1/latency (1/s) if the inference met the latency requirement, else 0 (Li et al.,
    IEEE TWC 2020, section V-C), scaled to about 1 by the fastest plan's latency at 10 Mbit/s.
    `info["sampled_reward"]` has it unscaled.

    ## Starting State
    A random place of a random trace of `part`. Model loading is no part of an episode.

    ## Episode End
    Never terminated. Truncated after `episode_frames` inferences, or where the trace ends.

    ## Arguments
    `scenario` (`"edgent"`), `part`, `half`, `episode_frames`, `policy` and `render_mode` as in
    `FrameStreamEnv`. `device_second` and `megabyte` stay `None`: a closed loop has no prices.

    ```python
    >>> import gymnasium
    >>> env = gymnasium.make("coinfer.gym:coinfer/ClosedLoop-v0", part="validation")
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(1)
    >>> bool(info["latency_s"] > 0)
    True

    ```

    ## Version History
    v0: first version, as in `FrameStreamEnv`.
    """

    kind = "closed-loop"

    def __init__(self, scenario: str | Path = "edgent", **options: Any) -> None:
        super().__init__(scenario, **options)
