"""Which requests the edge computes next: earliest deadline first, alike ones in one batch.

Pure bookkeeping: time is passed in, nothing here waits, computes or sends.

On one machine the order of deadlines makes the greatest lateness as small as any order can, where
all work is there at the beginning (Jackson 1955). Where work arrives over time and may be
interrupted, that order meets all deadlines whenever any order does (Dertouzos, IFIP 1974). A
network's run is not interrupted: an urgent request waits for the batch before it, and for no more.
Under overload the order is a bad one, for one late request makes the next one late as well
(Stankovic et al., Deadline Scheduling for Real-Time Systems, 1998). So a request is admitted
only if it and all that were admitted before it are expected to be on time. It is refused when it
comes otherwise.

A batch of n alike requests takes the first one's seconds and n - 1 times those of a further one
(measured in Clipper, NSDI 2017, and Nexus, SOSP 2019: nearly linear in n). Both are learnt by
running means, and what is expected is a mean and some mean deviations, as TCP's timer does it
(Jacobson, SIGCOMM 1988; RFC 6298).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

LEARNING = 0.2
"""Weight of a new measurement in the running mean (and deviation) of a batch's seconds."""
TRY_EVERY_S = 1.0
DEVIATIONS = 2.0
"""An expectation is the mean and this many mean deviations (as TCP's timer, RFC 6298: four)."""


class SchedulerArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests are put together, and how many may wait."""

    waiting: int = 256
    """Requests that may wait; one more is refused."""
    batch: int = 8
    """Requests computed at once."""
    batch_wait_s: float = 0.001
    """How long a request waits for company where other devices are connected."""


@dataclass(frozen=True, slots=True)
class Work:
    """A request: `key` says what it can be computed together with, `until_s` when it is late."""

    key: Hashable
    arrived_s: float
    until_s: float
    job: Any


@dataclass(slots=True)
class _Cost:
    """Running mean and mean deviation of one request's seconds, and of each further one's."""

    first_s: float = 0.0
    spread_s: float = 0.0
    further_s: float = 0.0
    known: bool = False
    seen: int = 0
    tried_s: float = -math.inf

    def expected_s(self, count: int) -> float:
        mean = self.first_s + (count - 1) * self.further_s
        return mean + DEVIATIONS * self.spread_s if self.known else 0.0

    def learn(self, count: int, seconds: float) -> None:
        self.seen += 1
        if self.seen <= 2:
            # the first run of all is cold, and says nothing of those that follow
            self.first_s = self.further_s = seconds / count
            self.spread_s, self.known = self.first_s / 2.0, True
            return
        if count == 1:
            off = abs(seconds - self.first_s)
            self.spread_s += LEARNING * (off - self.spread_s)
            self.first_s += LEARNING * (seconds - self.first_s)
        else:
            each = max(seconds - self.first_s, 0.0) / (count - 1)
            off = abs(seconds - self.first_s - (count - 1) * self.further_s)
            self.spread_s += LEARNING * (off - self.spread_s)
            self.further_s += LEARNING * (each - self.further_s)


@dataclass
class Scheduler:
    """Requests that wait, in the order of their deadlines. Not thread-safe: the owner locks."""

    args: SchedulerArgs = field(default_factory=SchedulerArgs)

    def __post_init__(self) -> None:
        """Nothing waits, nothing is known."""
        self._waiting: list[Work] = []
        self._costs: dict[Hashable, _Cost] = {}
        self._busy_until_s = -math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    def expected_s(self, key: Hashable, count: int = 1) -> float:
        """Seconds that `count` requests of a kind are expected to take at most (0: unknown)."""
        cost = self._costs.get(key)
        return 0.0 if cost is None else cost.expected_s(count)

    def offer(self, work: Work, now_s: float) -> str | None:
        """Take a request in; why not, where it or one that was promised before would be late."""
        if len(self._waiting) >= self.args.waiting:
            return f"{self.args.waiting} requests are waiting"
        if now_s > work.until_s:
            return f"its time was over {now_s - work.until_s:.3f} s before it was whole"
        idle = not self._waiting and now_s >= self._busy_until_s
        place = bisect.bisect_right(self._waiting, work.until_s, key=lambda w: w.until_s)
        self._waiting.insert(place, work)
        late = self._first_late(max(now_s, self._busy_until_s), place)
        if late is None or (idle and self._may_try(work.key, now_s)):
            return None
        del self._waiting[place]
        missing, whose = late
        what = "it" if whose is work else "one that was admitted before"
        return f"{what} would be {1e3 * missing:.1f} ms late behind what is waiting"

    def remove(self, gone: Callable[[Work], bool]) -> int:
        """Take out what nobody waits for any more; how many that were."""
        before = len(self._waiting)
        self._waiting = [w for w in self._waiting if not gone(w)]
        return before - len(self._waiting)

    def _may_try(self, key: Hashable, now_s: float) -> bool:
        """Whether an edge with nothing to do computes what it believes will be late.

        An estimate that a few slow runs made too great would otherwise refuse everything, and never
        learn better.
        """
        cost = self._costs.get(key)
        if cost is None:
            return True
        if cost.seen > 1 and now_s - cost.tried_s < TRY_EVERY_S:
            return False
        cost.tried_s = now_s
        return True

    def _first_late(self, start_s: float, place: int) -> tuple[float, Work] | None:
        """By how much the first of those behind `place` would be late, and which it is."""
        at, room = start_s, dict[Hashable, int]()
        for number, work in enumerate(self._waiting):
            cost = self._costs.get(work.key)
            if cost is not None and cost.known:
                # it joins the batch of its kind that is open, or opens one
                left = room.get(work.key, 0)
                at += cost.further_s if left > 0 else cost.expected_s(1)
                room[work.key] = left - 1 if left > 0 else self.args.batch - 1
            if number >= place and at > work.until_s:
                return at - work.until_s, work
        return None

    def take(self, now_s: float, *, company: bool) -> tuple[list[Work], list[Work], float]:
        """(a batch to compute now, what is too late for that, when to ask again at the latest).

        An empty batch with a finite time: the first request waits for `company`, other devices
        that may ask for the same.
        """
        late = [w for w in self._waiting if now_s > w.until_s]
        if late:
            self._waiting = [w for w in self._waiting if now_s <= w.until_s]
        if not self._waiting:
            return [], late, math.inf
        head = self._waiting[0]
        batch = self._alike(head, now_s)
        latest = head.arrived_s + self.args.batch_wait_s
        slack = head.until_s - self.expected_s(head.key, len(batch) + 1) - now_s
        if company and len(batch) < self.args.batch and now_s < latest and slack > latest - now_s:
            return [], late, latest
        chosen = set(map(id, batch))
        self._waiting = [w for w in self._waiting if id(w) not in chosen]
        self._busy_until_s = now_s + self.expected_s(head.key, len(batch))
        return batch, late, now_s

    def _alike(self, head: Work, now_s: float) -> list[Work]:
        """The head and what can be computed with it, without making the head late."""
        batch: list[Work] = []
        for work in self._waiting:
            if work.key != head.key:
                continue
            if batch and now_s + self.expected_s(head.key, len(batch) + 1) > head.until_s:
                break
            batch.append(work)
            if len(batch) == self.args.batch:
                break
        return batch

    def done(self, key: Hashable, count: int, seconds: float, now_s: float) -> None:
        """A batch was computed: learn what its kind takes."""
        cost = self._costs.setdefault(key, _Cost())
        cost.learn(count, seconds)
        cost.tried_s = now_s
        self._busy_until_s = now_s
