"""Controllers that know the traces they are judged on: rivals and bounds, in simulation only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.planners.fixed import FixedController
from controller.registry import Future
from controller.scenarios import Setting
from experiments.evaluation.bound import clairvoyant_values
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.optimum_play import OptimumController
from experiments.evaluation.optimum_queue import CoupledQueue
from experiments.evaluation.single_plans import best_single
from traces.trace import BandwidthTrace


def best_single_controller(factory: ControllerFactory, future: Future) -> FixedController:
    """The plan that earns most when used for every frame of all the traces."""
    setting, traces, frames = factory.setting, future.traces, factory.max_frames
    plan = factory.once(
        ("best-single", traces, frames),
        lambda: best_single(setting, traces, "report", max_frames=frames),
    )
    return FixedController("best-single", plan)


def oracle(factory: ControllerFactory, future: Future) -> OracleController:
    """The oracle of one trace."""
    return OracleController(factory.setting, future.trace)


def optimum(factory: ControllerFactory, future: Future) -> OptimumController:
    """The optimum of one trace, over as many frames as are run."""
    queue = factory.once("optimum", lambda: CoupledQueue(factory.setting))
    return OptimumController(queue, future.trace, factory.max_frames, factory.progress)


class OracleController:
    """Knows the trace and nothing of the samples: the best plan at each start.

    In a stream what keeps a resource busy past the next frame takes that share of an answer from
    the plan's value, or it would overload the device; it is a strong rival, not the bound. Values
    are worked out ahead, `AHEAD` frames at a time, at a few device backlogs (rounded up).
    """

    AHEAD = 512
    BACKLOGS = 6

    def __init__(self, setting: Setting, trace: BandwidthTrace, name: str = "oracle") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._setting, self._trace = setting, trace
        self._levels_s = np.linspace(0.0, setting.scenario.frames.deadline_s, self.BACKLOGS)
        self.reset()

    def reset(self) -> None:
        """Nothing worked out."""
        self._first = -1
        self._plans = np.zeros((0, 0), dtype=np.int64)

    def observe(self, measurement: Measurement) -> None:
        """It knows already."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The plan of greatest value at this moment."""
        if self._setting.closed_loop:
            return int(self._best(np.array([situation.now_s]), 0.0)[0])
        place = situation.frame - self._first
        if self._first < 0 or not 0 <= place < len(self._plans):
            starts = situation.now_s + np.arange(self.AHEAD) * self._setting.interval_s
            self._plans = np.stack(
                [
                    self._best(np.asarray(starts, dtype=np.float64), float(b))
                    for b in self._levels_s
                ],
                axis=1,
            )
            self._first, place = situation.frame, 0
        level = int(np.searchsorted(self._levels_s, situation.device_backlog_s - 1e-9))
        return int(self._plans[place, min(level, self.BACKLOGS - 1)])

    def _best(self, starts_s: Floats, backlog_s: float) -> npt.NDArray[np.int64]:
        values, busy = clairvoyant_values(self._setting, self._trace, starts_s, "policy", backlog_s)
        if not self._setting.closed_loop:
            over = np.maximum(busy / self._setting.interval_s - 1.0, 0.0)
            values = values - over * np.maximum(values.max(axis=1, keepdims=True), 0.0)
        return np.asarray(values.argmax(axis=1))
