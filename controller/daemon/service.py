"""Frames from anywhere in the process, answered by one engine on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from artefacts import CoinferError
from artefacts.heartbeat import HANG_S, Heartbeat
from controller.device.engine import FrameEngine
from controller.device.frame import FrameRecord, Raw
from controller.interface import Controller

TICK_S = 0.25
"""The engine's thread looks up this often when nothing happens."""
PATIENCE = 4.0
"""A computation hangs behind so many times what the longest should take, and `HANG_S`."""

Done = Callable[[FrameRecord], None]
log = logging.getLogger("coinfer.device")


class BusyError(CoinferError):
    """As many frames are under way as the limits allow, or the service is ending."""


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """How many frames came and how they ended, since the start."""

    frames: int
    answered: int
    late: int
    refused: int


class FrameService:
    """`submit` from any thread; the answer comes on the engine's. `drain` before `close`."""

    def __init__(self, engine: FrameEngine, live_frames: int, hang_s: float = HANG_S) -> None:
        self.engine = engine
        self.live_frames = live_frames
        self._hang_s, self._looked_s = hang_s, time.monotonic()
        self.heartbeat = Heartbeat(max(hang_s, PATIENCE * engine.longest_s))
        """Of every thread and pool that answers depend on, beside the engine's own."""
        self.heartbeat.add("computing", engine.beat)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = self._frames = self._answered = self._late = self._refused = 0
        self._ending = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self.engine.begin(self.engine.clock())
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the engine's thread runs and has looked up lately, and nothing else hangs."""
        hangs = time.monotonic() - self._looked_s > self._hang_s
        return self._thread.is_alive() and not hangs and not self.heartbeat.hung

    @property
    def counts(self) -> ServiceCounts:
        """Since the start."""
        with self._lock:
            return ServiceCounts(self._frames, self._answered, self._late, self._refused)

    def check_room(self, frames: int) -> None:
        """Raises `BusyError` where so many frames more would be too many."""
        with self._lock:
            self._check_room(frames)

    def _check_room(self, frames: int) -> None:
        if self._ending or self._under_way + frames > self.live_frames:
            self._refused += frames
            raise BusyError(
                "the device is stopping"
                if self._ending
                else f"{self._under_way} frames are under way, expected fewer than "
                f"{max(self.live_frames - frames + 1, 1)}" + (f" for {frames} more" * (frames > 1))
            )

    def submit(
        self,
        sample: Raw,
        done: Done,
        *,
        deadline_s: float | None = None,
        threshold: float | None = None,
        arrival_s: float | None = None,
    ) -> None:
        """Have a raw sample answered: `done` is called once, on the engine's thread.

        `arrival_s` (the engine's clock, now): what the deadline counts from. Raises `BusyError`.
        """
        with self._lock:
            self._check_room(1)
            self._under_way += 1
            number = self._frames
            self._frames += 1
        arrived = self.engine.clock() if arrival_s is None else arrival_s

        def ended(record: FrameRecord) -> None:
            with self._lock:
                self._under_way -= 1
                self._answered += record.latency_s is not None
                self._late += record.latency_s is None
                self._idle.notify_all()
            done(record)

        self.engine.post(lambda: self._begin(number, arrived, sample, deadline_s, threshold, ended))

    def _begin(
        self,
        number: int,
        arrived_s: float,
        sample: Raw,
        deadline_s: float | None,
        threshold: float | None,
        ended: Done,
    ) -> None:
        try:
            self.engine.start(number, arrived_s, sample, deadline_s, threshold, ended)
        except Exception as error:  # a frame must end, and the engine must outlive it
            log.exception("frame %d", number)
            why = f"{type(error).__name__}: {error}"
            if not self.engine.fail(number, why):
                ended(_nothing(number, arrived_s - self.engine.begin_s, why))

    def replace_controller(self, controller: Controller) -> None:
        """Another controller decides from the next frame on; those under way go on as they are.

        It has been reset: one that cannot begin is found before it is to take over.
        """

        def swap() -> None:
            if self.engine.watch.measured is not None:
                controller.observe(self.engine.watch.measured)
            self.engine.controller = controller

        self.engine.post(swap)

    def drain(self, timeout_s: float) -> bool:
        """Take no more frames and wait for those under way; False where some are left."""
        until = time.monotonic() + timeout_s
        with self._lock:
            self._ending = True
            while self._under_way:
                left = until - time.monotonic()
                if left <= 0 or not self._idle.wait(left):
                    return not self._under_way
        return True

    def close(self) -> None:
        """End the engine's thread, its link and its CPU."""
        with self._lock:
            self._ending = True
        self._stopped.set()
        self.engine.post(lambda: None)
        if self._thread.is_alive():
            self._thread.join(2.0 * TICK_S + 5.0)
        self.engine.close()
        self.engine.link.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._looked_s = time.monotonic()
            self.heartbeat.round()
            try:
                self.engine.wait(self.engine.clock() + TICK_S)
                self.engine.look_around()
            except Exception:  # whatever befell one event, the frames after it are to be answered
                log.exception("engine")


def _nothing(number: int, arrival_s: float, why: str) -> FrameRecord:
    """The record of a frame that was never begun."""
    return FrameRecord(
        number, 0, arrival_s, None, None, False, None, None, None, 0, 0.0, why
    )  # fmt: skip
