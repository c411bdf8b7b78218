"""What stands between the daemon's engine and a controller: other deadlines, and its faults.

Requests bring deadlines that a controller was not made for. Controllers of other packages may fail.
Neither costs a frame its answer.
"""

from __future__ import annotations

from controller.daemon.foreign_controllers import FaultTolerantController
from controller.interface import Controller, FrameResult, Measurement, Overruled, Situation
from controller.planners.fixed import device_only_plan
from controller.registry.making import GuardedController
from controller.scenarios import Setting

SAME_DEADLINE = 0.1
"""A policy decides for deadlines that differ from its own by at most this share."""


class AnyDeadline:
    """A controller for the scenario's deadline, and another for frames that bring their own."""

    def __init__(self, usual: Controller, other: Controller, deadline_s: float) -> None:
        self.name = usual.name
        self.initial_probe_bytes = 0
        self._usual, self._other, self._deadline_s = usual, other, deadline_s

    @property
    def fallbacks(self) -> int:
        """Frames that the usual one left to another rule; see `LearnedController`."""
        return int(getattr(self._usual, "fallbacks", 0))

    @property
    def faults(self) -> int:
        """Calls of the usual one that failed; see `FaultTolerantController`."""
        return int(getattr(self._usual, "faults", 0))

    def reset(self) -> None:
        """Both forget."""
        self._usual.reset()
        self._other.reset()

    def observe(self, measurement: Measurement) -> None:
        """Both hear it."""
        self._usual.observe(measurement)
        self._other.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """Both hear it."""
        self._usual.record(result)
        self._other.record(result)

    def overruled(self, frame: int, plan: int) -> None:
        """Both hear it, as far as they want to."""
        for one in (self._usual, self._other):
            if isinstance(one, Overruled):
                one.overruled(frame, plan)

    def decide(self, situation: Situation) -> int:
        """By whom the deadline suits."""
        off = abs(situation.deadline_s - self._deadline_s)
        chosen = self._usual if off <= SAME_DEADLINE * self._deadline_s else self._other
        return chosen.decide(situation)


def fault_tolerant(made: Controller, setting: Setting) -> Controller:
    """`made`; where another package wrote it, so that its faults cost no frame its answer."""
    if isinstance(made, GuardedController):
        return FaultTolerantController(made, device_only_plan(setting))
    return made
