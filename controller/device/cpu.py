"""The device's CPU as one resource: a thread that runs one job at a time, the frames' in order.

A rescue that may become necessary is announced (`reserve`). A job that would run into its time
waits, where it can, and the rescue is made at once: the CPU does not stand idle, both are in time.

Whether a job still can be in time goes by what jobs have taken here (`pace`): a profile that was
measured on a slower machine, or a busier one, must not cost a frame its only answer.
"""

from __future__ import annotations

import bisect
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.sensing.pace import DevicePace

_ONE = np.ones(1, dtype=np.bool_)
PACING, ENOUGH = 9, 3
"""So many of the newest jobs say what jobs take here, once there are enough."""
PACED_S = 0.001
"""A job of less than this, as it is expected, says little."""


@dataclass(frozen=True, slots=True)
class CpuJob:
    """One piece of local work. It is skipped where it begins too late or is no longer wanted.

    `expected_s` is what the profile says it takes; `due_s` its frame's deadline; `latest_start_s`
    the last useful beginning. One that may end early (behind a gate) is not `steady`: what it took
    says nothing of the next one.
    """

    work: Callable[[], Any]
    done: Callable[[CpuDone], None]
    expected_s: float
    due_s: float
    latest_start_s: float
    wanted: Callable[[], bool]
    steady: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Reservation:
    """Time that a frame's rescue may need: from `begin_s`, or from `latest_start_s` at the latest.

    Whoever made it submits the job then and releases it, or releases it when nothing is needed.
    `early` (called once, on the CPU's thread) asks for the job at once: another one would run into
    its time, and the CPU would stand idle until then.
    """

    begin_s: float
    latest_start_s: float
    expected_s: float
    due_s: float
    early: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class CpuDone:
    """A job that ended: its result (None where skipped or failed), when, and seconds spent."""

    result: Any
    ended_s: float
    spent_s: float
    skipped: bool
    error: str | None = None


class DeviceCpu:
    """Runs jobs one by one, what is due first before what came later.

    A frame's second job (its local head, its rescue) thus stands before a later frame's first, as
    in `controller.physics`, where frames are served in their order.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[CpuJob] = []
        self._reserved: list[Reservation] = []
        self._asked: set[Reservation] = set()
        self._closing = False
        self._running_until_s = 0.0
        self._shares: deque[float] = deque(maxlen=PACING)
        self._pace = 1.0
        self._newest = DevicePace(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, job: CpuJob) -> None:
        """Queue a job."""
        with self._changed:
            bisect.insort(self._waiting, job, key=lambda waiting: waiting.due_s)
            self._changed.notify()

    def reserve(self, place: Reservation, instead_of: Reservation | None = None) -> None:
        """Keep time for a job that may come, `instead_of` what was kept for it so far."""
        with self._changed:
            if instead_of is not None:
                self._forget(instead_of)
            bisect.insort(self._reserved, place, key=lambda one: one.begin_s)
            self._changed.notify()

    def release(self, place: Reservation) -> None:
        """It has come, or will not; twice is once."""
        with self._changed:
            self._forget(place)
            self._changed.notify()

    def _forget(self, place: Reservation) -> None:
        self._asked.discard(place)
        if place in self._reserved:
            self._reserved.remove(place)

    def beat(self, call: Callable[[], None]) -> None:
        """Have `call` made on the CPU's thread, before anything else that waits."""
        now = -math.inf  # it is due before every frame
        self.submit(CpuJob(call, lambda done: None, 0.0, now, math.inf, lambda: True))

    @property
    def pace(self) -> float:
        """What a job takes here, over what the profile says.

        On a device that is slow for a while by its newest jobs; else by more of them.
        """
        slower = self.newest_pace
        return slower if slower > 1.0 else self._pace

    @property
    def newest_pace(self) -> float:
        """What the newest jobs took over what the profile says: above 1 on a device that is slow
        for a while.
        """
        with self._changed:  # jobs that end on the CPU's thread change it
            return float(self._newest.at(self._clock())[0])

    def backlog_s(self) -> float:
        """Seconds until everything queued should be done; what will be skipped takes no time."""
        with self._changed:
            now, slower = self._clock(), max(self.newest_pace, 1.0)
            free = max(self._running_until_s, now)
            for job in self._waiting:
                if free <= self._latest_s(job) and job.wanted():
                    free += slower * job.expected_s
            return free - now

    def revise(self, left_s: float) -> None:
        """The running job knows better: it will take `left_s` more (called from its work)."""
        with self._changed:
            self._running_until_s = self._clock() + left_s

    def close(self) -> None:
        """Finish what is queued and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(5.0)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            now = self._clock()
            with self._changed:
                skip = now > self._latest_s(job) or not job.wanted()
                taken_s = max(self.newest_pace, 1.0) * job.expected_s
                self._running_until_s = now if skip else now + taken_s
            if skip:
                job.done(CpuDone(None, now, 0.0, True))
                continue
            result, error = None, None
            try:
                result = job.work()
            except Exception as problem:  # reported to the frame, which then has no such answer
                error = f"{type(problem).__name__}: {problem}"
            ended = self._clock()
            with self._changed:
                self._running_until_s = ended
                if result is not None:  # one that was given up on the way says nothing
                    self._learn(job, ended - now)
            job.done(CpuDone(result, ended, ended - now, False, error))

    def _learn(self, job: CpuJob, spent_s: float) -> None:
        """The median: one that the system has held up tells of the system."""
        if not job.steady or job.expected_s < PACED_S:
            return
        ratio = spent_s / job.expected_s
        self._newest.took(_ONE, np.array([ratio]), self._clock())
        self._shares.append(ratio)
        if len(self._shares) >= ENOUGH:
            self._pace = min(statistics.median(self._shares), 1.0)

    def _latest_s(self, job: CpuJob) -> float:
        """The last useful beginning, at the pace that jobs have here."""
        return job.latest_start_s + (1.0 - self.pace) * max(job.due_s - job.latest_start_s, 0.0)

    def _next(self) -> CpuJob | None:
        with self._changed:
            while True:
                now = self._clock()
                self._reserved = [p for p in self._reserved if now <= p.latest_start_s]
                self._asked &= set(self._reserved)
                for number, job in enumerate(self._waiting):
                    if self._closing or not self._should_wait(job, now):
                        return self._waiting.pop(number)
                if self._closing:
                    return None
                # until somebody says something, or the first of the reserved times is over
                until = self._reserved[0].latest_start_s if self._waiting else None
                self._changed.wait(None if until is None else max(until - now, 0.0) + 1e-4)

    def _should_wait(self, job: CpuJob, now: float) -> bool:
        """Whether a job would run into the reserved time of a frame due before, and can wait."""
        free, first = now, None
        for place in self._reserved:
            if place.due_s < job.due_s:
                if first is None and now + job.expected_s > place.latest_start_s:
                    first = place
                free = max(free, now) + place.expected_s
        if first is None or free > self._latest_s(job) or not job.wanted():
            return False
        if first not in self._asked:
            self._asked.add(first)
            first.early()
        return True
