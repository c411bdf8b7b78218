"""Whether a link is worth trying (`Breaker`), and whether a frame may rely on it (`Trust`).

Time is passed in.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


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

    def worked(self) -> None:
        """Something came back."""
        self._failed, self._wait_s = 0, self.first_s
        self._opened_until_s, self._trying = None, False

    def _open(self, now_s: float) -> None:
        self._trying = False
        self._opened_until_s = now_s + self._wait_s * (0.5 + self.rng.random())


@dataclass
class Trust:
    """Holds while the edge has answered each of the newest `answers` frames sent to it in time.

    Then a plan without a rescue may have what it asks for: a device free for the next frame. After
    `holds_s` without an answer it has to be earned again.
    """

    answers: int = 3
    holds_s: float = 1.0

    def __post_init__(self) -> None:
        """Nothing was answered."""
        self._answered = 0
        self._newest_s = float("-inf")

    def holds(self, now_s: float) -> bool:
        """Whether it does at `now_s`."""
        return self._answered >= self.answers and now_s - self._newest_s <= self.holds_s

    def answered(self, now_s: float) -> None:
        """The edge's answer was in time."""
        in_a_row = now_s - self._newest_s <= self.holds_s
        self._answered = self._answered + 1 if in_a_row else 1
        self._newest_s = now_s

    def missed(self) -> None:
        """It was not, or there was none."""
        self._answered = 0
