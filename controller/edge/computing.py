"""The edge's computing thread: batches in the order of their deadlines, and what is announced
meanwhile.

It knows no connection: results and refusals are reported, to be passed on by another thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from artefacts import CoinferError
from artefacts.arrays import Float32s
from controller.edge.arrivals import Arrival
from controller.edge.peer import Peer
from controller.edge.scheduler import Scheduler, SchedulerArgs, Work
from controller.edge.served import Interval, Served, ServedModels
from controller.plans import Hop


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was admitted, and whose it is."""

    peer: Peer
    arrival: Arrival
    codec: str
    hops: tuple[Hop, ...] = ()
    """That are still to come, on other nodes."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """What its reply says beside the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back of a job: the reply's metadata, and the bytes of its tensor (or none)."""

    job: Job
    meta: dict[str, Any]
    data: bytes


@dataclass(frozen=True, slots=True)
class Onward:
    """A job that this edge has done its part of: what is handed on, and what was done."""

    job: Job
    meta: Mapping[str, Any]
    """Of the codec that `data` is encoded by, and its shape."""
    data: bytes
    times: Mapping[str, Any] = field(default_factory=dict)
    """This edge's own, for whoever asked."""


class Outcomes(Protocol):
    """Who hears what became of jobs, on the computing thread."""

    def computed(self, answers: Sequence[Answer]) -> None:
        """A batch is done."""

    def partly(self, done: Sequence[Onward]) -> None:
        """Of these the rest is another node's."""

    def refused(self, job: Job, reason: str, queue_s: float = 0.0, failed: bool = False) -> None:
        """A job gets no answer; it waited for `queue_s`. `failed`: it is the sample's fault."""

    def failed(self, job: Job, error: Exception) -> None:
        """Computing a job failed, through no fault of whoever asked."""

    def unprepared(self, interval: Interval, error: Exception) -> None:
        """An announced interval could not be run."""


class Computing:
    """`run` is the thread's; what is given to it may come from any other.

    `company` says whether several devices are connected: a request waits for others only then.
    Of each model `most_intervals` are held ready, and no more than have `most_bytes` of weights.
    """

    def __init__(
        self,
        models: ServedModels,
        scheduler: Scheduler,
        outcomes: Outcomes,
        clock: Callable[[], float],
        company: Callable[[], bool],
        most_intervals: int,
        most_bytes: float = math.inf,
    ) -> None:
        self._models, self._scheduler, self._outcomes = models, scheduler, outcomes
        self._clock, self._company, self._most_intervals = clock, company, most_intervals
        self._changed = threading.Condition()
        self._closing = False
        self._beats: deque[Callable[[], None]] = deque()
        self._to_prepare: deque[Interval] = deque()
        self._prepared: dict[Interval, int] = {}
        """And how many bytes of weights each holds."""
        self._most_bytes = most_bytes
        self.served = self.batches = 0
        self.computed_s = 0.0
        self.on_batch: Callable[[int, float], None] = lambda size, seconds: None
        """Hears of every batch: its size and seconds."""
        self.on_answer: Callable[[Arrival, float, float, int], None] | None = None
        """Hears of every request that was computed: when that began, ended, with how many."""

    # -- from other threads ----------------------------------------------------------------------

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._scheduler)

    def offer(self, interval: Interval, job: Job) -> str | None:
        """Queue a job; gives why it is refused, None where it is not."""
        now = self._clock()
        work = Work(interval, now, job.arrival.timing.until_s, job)
        with self._changed:
            reason = self._scheduler.offer(work, now)
            if reason is None:
                self._changed.notify()
        return reason

    def remove(self, gone: Callable[[Job], bool]) -> int:
        """Take out the jobs that wait and that nobody waits for; how many those were."""
        with self._changed:
            return self._scheduler.remove(lambda work: gone(work.job))

    def announce(self, intervals: Sequence[Interval]) -> None:
        """These will be asked for: made ready when nothing else is to be done."""
        with self._changed:
            for interval in intervals:
                held = [n for one, n in self._prepared.items() if one[0] == interval[0]]
                if interval not in self._prepared and len(held) < self._most_intervals:
                    size = self._models.interval_bytes(interval)
                    if sum(held) + size <= self._most_bytes:
                        self._prepared[interval] = size
                        self._to_prepare.append(interval)
            self._changed.notify()

    def reschedule(self, args: SchedulerArgs) -> None:
        """Put requests together so from here on."""
        with self._changed:
            self._scheduler.args = args
            self._changed.notify()

    def beat(self, call: Callable[[], None]) -> None:
        """Have `call` made by the thread, as soon as it looks up."""
        with self._changed:
            self._beats.append(call)
            self._changed.notify()

    def close(self) -> None:
        """End the thread, once what it computes is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # -- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        """Compute until `close`."""
        while (found := self._next()) is not None:
            batch, late = found
            now = self._clock()
            for work in late:
                reason = f"its time was over {now - work.until_s:.3f} s before the edge was free"
                self._outcomes.refused(work.job, reason, now - work.job.arrival.timing.last_s)
            if batch:
                self._compute(batch[0].key, [work.job for work in batch])  # type: ignore[arg-type]
            elif not late:
                self._prepare()

    def _next(self) -> tuple[list[Work], list[Work]] | None:
        """What to do next (nothing: something is to be made ready); None at the end."""
        with self._changed:
            while not self._closing:
                while self._beats:
                    self._beats.popleft()()
                now = self._clock()
                batch, late, again = self._scheduler.take(now, company=self._company())
                if batch or late or (self._to_prepare and not len(self._scheduler)):
                    return batch, late
                self._changed.wait(None if again == float("inf") else max(again - now, 0.0))
        return None

    def _compute(self, interval: Interval, jobs: Sequence[Job]) -> None:
        began, served = self._clock(), self._models[interval[0]]
        taken, tensors = self._decoded(served, interval, jobs)
        if taken:
            self._answer(began, interval, taken, tensors)

    def _answer(
        self, began: float, interval: Interval, taken: Sequence[Job], tensors: Sequence[Float32s]
    ) -> None:
        """Run a batch and report what it gives."""
        served = self._models[interval[0]]
        try:
            whole = np.concatenate(tensors) if len(tensors) > 1 else tensors[0]
            y = served.executor.run(*interval[1:], whole)
            done = self._clock()
            replies = [
                served.onward(interval, y[k : k + 1], job.hops[0])
                if job.hops
                else served.answer(interval, y[k : k + 1])
                for k, job in enumerate(taken)
            ]
        except Exception as error:  # the one worker must outlive any single request
            if len(taken) == 1:
                self._outcomes.failed(taken[0], error)
                return
            # a value of one device's (an id that the network has not) is no fault of the others
            for job, tensor in zip(taken, tensors, strict=True):
                self._answer(self._clock(), interval, [job], [tensor])
            return
        with self._changed:
            self._scheduler.done(interval, len(taken), done - began, done)
        self.batches += 1
        self.computed_s += done - began
        self.on_batch(len(taken), done - began)
        answers, onward = [], []
        for job, (meta, data) in zip(taken, replies, strict=True):
            timing = job.arrival.timing
            times = timing.meta() | {"queue_s": began - timing.last_s, "compute_s": done - began}
            if job.hops:
                onward.append(Onward(job, meta, data, times))
            else:
                answers.append(Answer(job, meta | times | dict(job.said), data))
        self.served += len(answers)
        self._outcomes.computed(answers)
        if onward:
            self._outcomes.partly(onward)
        if self.on_answer is not None:
            for job in taken:
                self.on_answer(job.arrival, began, done, len(taken))

    def _decoded(
        self, served: Served, interval: Interval, jobs: Sequence[Job]
    ) -> tuple[list[Job], list[Float32s]]:
        """The jobs whose tensors can be read, and those tensors; the others are refused."""
        _, branch, start, _ = interval
        taken, tensors = [], []
        for job in jobs:
            meta, data = job.arrival.meta, job.arrival.data
            try:
                tensors.append(served.executor.decode(job.codec, branch, start, meta, data))
                taken.append(job)
            except CoinferError as error:
                self._outcomes.refused(job, str(error), failed=True)
            except Exception as error:  # the one worker must outlive any single request
                self._outcomes.failed(job, error)
        return taken, tensors

    def _prepare(self) -> None:
        """Make one announced interval ready."""
        with self._changed:
            if not self._to_prepare:
                return
            interval = self._to_prepare.popleft()
        try:
            self._models[interval[0]].prepare(interval)
        except Exception as error:  # whoever asks for it will hear the same
            self._outcomes.unprepared(interval, error)
