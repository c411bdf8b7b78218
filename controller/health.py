"""Whether an edge is worth asking (`Breaker`, `Breakers`), and whether a frame may rely on it
(`EdgeReliability`).

Time is passed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

IN_VAIN = 10
"""So many frames in a row without an answer in time: what else comes back counts for nothing."""
USELESS = 3
"""After so many another edge is asked, where there is one."""


@dataclass
class Breaker:
    """Opens after `failures` frames in a row of which nothing came back.

    A circuit breaker with jittered exponential back-off, after Nygard ("Release It!", 2007, chapter
    5): closed, everything passes; open, nothing; then one trial, whose end decides.
    """

    failures: int = 2
    first_s: float = 0.25
    longest_s: float = 8.0
    trial_s: float = 2.0
    """A trial of which nothing is heard for so long has failed, however it ended."""
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        """Closed."""
        self._failed = 0
        self._wait_s = self.first_s
        self._opened_until_s: float | None = None
        self._trying = False
        self._tried_s = 0.0
        self.opened = 0
        """Times it opened."""

    @property
    def open(self) -> bool:
        """Whether frames are held back (a trial aside)."""
        return self._opened_until_s is not None

    def allows(self, now_s: float) -> bool:
        """Whether a frame may be sent now; an open breaker lets a trial pass when its time came."""
        if self._opened_until_s is None:
            return True
        if self._trying and now_s - self._tried_s >= self.trial_s:
            self.failed(now_s)
        if self._trying or now_s < self._opened_until_s:
            return False
        self._trying, self._tried_s = True, now_s
        return True

    def failed(self, now_s: float) -> None:
        """Nothing came back of a frame that was sent, or it could not be sent."""
        self._failed += 1
        if self._opened_until_s is None:
            if self._failed >= self.failures:
                self.opened += 1
                self._open(now_s)
        elif self._trying:
            self._wait_s = min(2.0 * self._wait_s, self.longest_s)
            self._open(now_s)

    def abandoned(self) -> None:
        """The frame that was to be the trial has not been sent after all: the next one may."""
        self._trying = False

    def renewed(self, now_s: float) -> None:
        """Something became another: a trial may pass at once."""
        if self._opened_until_s is not None:
            self._trying, self._opened_until_s = False, now_s

    def worked(self) -> None:
        """Something came back."""
        self._failed, self._wait_s = 0, self.first_s
        self._opened_until_s, self._trying = None, False

    def _open(self, now_s: float) -> None:
        self._trying = False
        self._opened_until_s = now_s + self._wait_s * (0.5 + self.rng.random())


@dataclass
class _Edge:
    """What is known of one edge: whether anything comes back, whether it is of use."""

    silence: Breaker
    use: Breaker
    in_vain: int = 0


class Breakers:
    """A breaker for each edge (lane) that a device may ask.

    An edge of which nothing comes back gets no frames. One that says something to every request,
    but has not answered one in time `USELESS` times in a row, gives way to another edge; after
    `IN_VAIN` times it counts as one that is silent.
    """

    def __init__(self, rng: random.Random, make: Callable[[], Breaker] | None = None) -> None:
        """`make`: an edge's breaker."""
        self._make = make or (lambda: Breaker(rng=rng))
        self._rng = rng
        self._edges: dict[int, _Edge] = {}
        self._asked: tuple[int, ...] = ()

    @property
    def open(self) -> bool:
        """Whether frames are held back from every edge (a trial aside)."""
        return bool(self._asked) and all(self._edge(k).silence.open for k in self._asked)

    @property
    def opened(self) -> int:
        """Times that frames were held back from an edge."""
        return sum(edge.silence.opened for edge in self._edges.values())

    def first(self, lanes: Sequence[int]) -> int:
        """Of edges in the order of preference the one that serves (a trial aside)."""
        speak = [k for k in lanes if not self._edge(k).silence.open]
        useful = [k for k in speak if not self._edge(k).use.open]
        return [*useful, *speak, *lanes][0]

    def allows(self, lanes: Sequence[int], now_s: float) -> int | None:
        """The edge to send a frame to now; None where no edge may be asked."""
        self._asked = tuple(lanes)
        for lane in lanes:
            edge = self._edge(lane)
            if not edge.silence.allows(now_s):
                continue
            if edge.use.allows(now_s):
                return lane
            edge.silence.abandoned()
        return next((k for k in lanes if self._edge(k).silence.allows(now_s)), None)

    def failed(self, lane: int, now_s: float) -> None:
        """Nothing came back of a frame, it was refused, or it could not be sent."""
        edge = self._edge(lane)
        edge.in_vain += 1
        edge.silence.failed(now_s)
        edge.use.failed(now_s)

    def carried(self, lane: int, now_s: float) -> None:
        """Something came back of a frame, but no answer in time."""
        edge = self._edge(lane)
        edge.in_vain += 1
        edge.use.failed(now_s)
        if edge.in_vain >= IN_VAIN:
            edge.silence.failed(now_s)
        else:
            edge.silence.worked()

    def heard(self, lane: int) -> None:
        """Something came back of what needed no answer in time."""
        edge = self._edge(lane)
        if edge.in_vain < IN_VAIN:
            edge.silence.worked()

    def answered(self, lane: int) -> None:
        """A frame's answer came in time."""
        edge = self._edge(lane)
        edge.in_vain = 0
        edge.silence.worked()
        edge.use.worked()

    def abandoned(self, lane: int) -> None:
        """The frame that was to be sent there has not been sent after all."""
        edge = self._edge(lane)
        edge.silence.abandoned()
        edge.use.abandoned()

    def renewed(self, lane: int, now_s: float) -> None:
        """An edge has greeted us anew: what befell the connection before says little of it."""
        edge = self._edge(lane)
        edge.silence.renewed(now_s)
        edge.use.renewed(now_s)

    def _edge(self, lane: int) -> _Edge:
        if lane not in self._edges:
            self._edges[lane] = _Edge(self._make(), Breaker(failures=USELESS, rng=self._rng))
        return self._edges[lane]


@dataclass
class EdgeReliability:
    """Holds while the edge has answered the newest frame sent to it in time, within `holds_s`.

    Then a plan without a rescue may have what it asks for: a device free for the next frame. One
    answer is enough: with more, time kept for fallbacks delays the frames whose answers are waited
    for, and a device that computes most of its time never earns them again.
    """

    holds_s: float = 1.0

    def __post_init__(self) -> None:
        """Nothing was answered."""
        self._newest_s = float("-inf")

    def holds(self, now_s: float) -> bool:
        """Whether it does at `now_s`."""
        return now_s - self._newest_s <= self.holds_s

    def answered(self, now_s: float) -> None:
        """The edge's answer was in time."""
        self._newest_s = now_s

    def missed(self) -> None:
        """It was not, or there was none."""
        self._newest_s = float("-inf")
