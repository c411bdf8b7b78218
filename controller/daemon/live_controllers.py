"""What stands between the daemon's engine and a controller: other deadlines, and its faults.

Requests bring deadlines that a controller was not made for. Controllers of other packages may fail.
Neither costs a frame its answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from artefacts import UsageError
from controller.interface import Controller, FrameResult, Measurement, Overruled, Situation
from controller.planners.fixed import device_only_plan
from controller.registry.making import GuardedController
from controller.scenarios import Setting

SAME_DEADLINE = 0.1
"""A policy decides for deadlines that differ from its own by at most this share."""
LOG_EVERY_S = 10.0
"""Faults are said at most so often; each line gives their number."""
log = logging.getLogger("coinfer.device")


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


class FaultTolerantController:
    """Decides as `made` does, and for plan `local` where that fails; counts the faults.

    Every method but `reset` raises nothing for what the package's own method raises. `reset` raises
    `UsageError`: a controller that cannot begin must not take over.
    """

    def __init__(
        self, made: GuardedController, local: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.initial_probe_bytes = made.name, made.initial_probe_bytes
        self._made, self._local, self._clock = made, local, clock
        self._lock = threading.Lock()  # metrics are asked for on another thread than frames
        self._faults, self._said_s = 0, -float("inf")
        self._fallbacks = 0

    @property
    def faults(self) -> int:
        """Calls that failed, since it was made."""
        with self._lock:
            return self._faults

    @property
    def fallbacks(self) -> int:
        """Frames that it left to another rule; the newest number known where asking fails."""
        try:
            self._fallbacks = self._made.fallbacks
        except UsageError as error:
            self._failed(error)
        return self._fallbacks

    def reset(self) -> None:
        """A new stream begins."""
        self._made.reset()

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended."""
        try:
            self._made.observe(measurement)
        except UsageError as error:
            self._failed(error)

    def record(self, result: FrameResult) -> None:
        """A frame ended."""
        try:
            self._made.record(result)
        except UsageError as error:
            self._failed(error)

    def overruled(self, frame: int, plan: int) -> None:
        """The engine took another plan."""
        try:
            self._made.overruled(frame, plan)
        except UsageError as error:
            self._failed(error)

    def decide(self, situation: Situation) -> int:
        """Its plan, or the local one."""
        try:
            return self._made.decide(situation)
        except UsageError as error:
            self._failed(error)
            return self._local

    def _failed(self, error: UsageError) -> None:
        now_s = self._clock()
        with self._lock:
            self._faults += 1
            faults, said = self._faults, now_s - self._said_s < LOG_EVERY_S
            if not said:
                self._said_s = now_s
        if not said:
            log.error("%s (%d faults; frames that it fails run on the device)", error, faults)


def fault_tolerant(made: Controller, setting: Setting) -> Controller:
    """`made`; where another package wrote it, so that its faults cost no frame its answer."""
    if isinstance(made, GuardedController):
        return FaultTolerantController(made, device_only_plan(setting))
    return made
