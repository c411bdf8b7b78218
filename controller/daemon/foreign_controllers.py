"""A controller of another package on a thread of its own: what it does wrong costs no frame.

It may raise, decide for no plan, take too long or never come back. The frame then runs on the
device. While a call is out, the next frames do so at once; where it comes back, they are asked for
again.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from artefacts import UsageError
from controller.interface import FrameResult, Measurement, Situation
from controller.registry.making import GuardedController

SHARE = 0.2
"""Of a frame's deadline that its decision may take."""
RESET_S = 10.0
"""A reset may take so long: no frame waits for it."""
COUNT_S = 0.01
"""So long it may take to say how often it fell back."""
MOST_WAITING = 256
"""Calls that wait for one that does not come back; of more, what it should hear is let go."""
LOG_EVERY_S = 10.0
"""Faults are said at most so often; each line gives their number."""
Found = TypeVar("Found")
log = logging.getLogger("coinfer.device")


class _TooLateError(UsageError):
    """A call that has not come back in time."""


class _Call(Generic[Found]):
    """A call that is made on another thread, and what came of it."""

    def __init__(self, call: Callable[[], Found]) -> None:
        self._call, self._ended = call, threading.Event()
        self._found: list[Found] = []
        self._error: UsageError | None = None

    def make(self) -> None:
        """On the thread that it belongs to."""
        try:
            self._found.append(self._call())
        except BaseException as error:  # the thread goes on, whatever it was
            self._error = _fault(error)
        finally:
            self._ended.set()

    @property
    def out(self) -> bool:
        """Whether it has not come back."""
        return not self._ended.is_set()

    def result(self, within_s: float) -> Found:
        """What it gave, or raised; `TimeoutError` where it does not come back in time."""
        if not self._ended.wait(within_s):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._found[0]


Calls = queue.SimpleQueue[Callable[[], None] | None]


def _make_calls(calls: Calls) -> None:
    """The thread: it knows nothing of who puts calls, so that it ends with them."""
    while (call := calls.get()) is not None:
        with contextlib.suppress(BaseException):  # the next one is to be made all the same
            call()
        del call


def _fault(error: BaseException) -> UsageError:
    if isinstance(error, UsageError):
        return error
    return UsageError(f"a controller's call ended by {type(error).__name__}")


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
        self._late: _Call[int] | None = None
        """The newest call that did not come back in time."""
        self._calls: Calls = queue.SimpleQueue()
        # nobody waits for it at the end: it may hang for ever
        threading.Thread(
            target=_make_calls, args=(self._calls,), name="controller", daemon=True
        ).start()
        weakref.finalize(self, self._calls.put, None)

    @property
    def faults(self) -> int:
        """Calls that failed, since it was made."""
        with self._lock:
            return self._faults

    @property
    def fallbacks(self) -> int:
        """Frames that it left to another rule; the newest number known where asking fails."""
        try:
            self._fallbacks = self._asked("fallbacks", lambda: self._made.fallbacks, COUNT_S)
        except UsageError as error:
            self._failed(error)
        return self._fallbacks

    def reset(self) -> None:
        """A new stream begins."""
        call = _Call(self._made.reset)
        self._calls.put(call.make)
        try:
            call.result(RESET_S)
        except TimeoutError:
            raise self._too_long("reset", RESET_S) from None

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended."""
        self._tell(lambda: self._made.observe(measurement))

    def record(self, result: FrameResult) -> None:
        """A frame ended."""
        self._tell(lambda: self._made.record(result))

    def overruled(self, frame: int, plan: int) -> None:
        """The engine took another plan."""
        self._tell(lambda: self._made.overruled(frame, plan))

    def decide(self, situation: Situation) -> int:
        """Its plan, or the local one."""
        within_s = SHARE * situation.deadline_s
        try:
            return self._asked("decide", lambda: self._made.decide(situation), within_s)
        except _TooLateError as error:
            self._failed(error)
            self.overruled(situation.frame, self._local)  # once it has decided
        except UsageError as error:
            self._failed(error)
        return self._local

    def _asked(self, method: str, ask: Callable[[], int], within_s: float) -> int:
        if self._late is not None:
            if self._late.out:
                raise UsageError(f"{self._made.origin}: it has not come back")
            self._late = None
        call = _Call(ask)
        self._calls.put(call.make)
        try:
            return call.result(within_s)
        except TimeoutError:
            self._late = call
            raise self._too_long(method, within_s) from None

    def _too_long(self, method: str, within_s: float) -> _TooLateError:
        return _TooLateError(
            f"{self._made.origin}: {method} has not come back within {1e3 * within_s:.0f} ms"
        )

    def _tell(self, hear: Callable[[], None]) -> None:
        """Let it hear something, behind what it is about."""

        def heard() -> None:
            try:
                hear()
            except BaseException as error:  # the thread goes on, whatever it was
                self._failed(_fault(error))

        if self._calls.qsize() < MOST_WAITING:
            self._calls.put(heard)

    def _failed(self, error: UsageError) -> None:
        now_s = self._clock()
        with self._lock:
            self._faults += 1
            faults, said = self._faults, now_s - self._said_s < LOG_EVERY_S
            if not said:
                self._said_s = now_s
        if not said:
            log.error("%s (%d faults; frames that it fails run on the device)", error, faults)
