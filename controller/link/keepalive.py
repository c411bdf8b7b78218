"""Pings of one link: when the next is due, which are answered, and how long the edge is silent.

No socket, thread or clock: times are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

KEEPALIVE_S = 1.0
"""A ping goes out so often while requests do."""
IDLE_KEEPALIVE_S = 10.0
"""And so often while none do (0.2 KB each: 55 MB a month)."""
SILENCE_S = 5.0
"""How long a ping may go without anything being heard."""
MOST_PINGS = 64
"""That an answer is waited for."""


@dataclass
class KeepAlive:
    """`begin` for every connection. `used_s`: when a request went out last."""

    used_s: float
    every_s: float = KEEPALIVE_S
    pings: int = 0
    """Asked for so far, over all connections."""

    def __post_init__(self) -> None:
        """Nothing was asked yet."""
        self._sent_s: dict[int, float] = {}
        self._asked_s = self._heard_s = 0.0
        self._awaited_s: float | None = None

    def begin(self, now_s: float) -> None:
        """A new connection, on which the edge has just been heard."""
        self._sent_s.clear()
        self._heard_s, self._awaited_s = now_s, None

    def ask(self, now_s: float) -> int:
        """A ping is to go out; gives its number, apart from those of requests."""
        number = (1 << 63) + self.pings
        self.pings += 1
        self._asked_s = now_s
        if self._awaited_s is None:
            self._awaited_s = now_s
        return number

    def sent(self, number: int, now_s: float) -> None:
        """It goes out now: how long it waited behind our own uploads is not the link's doing."""
        self._sent_s[number] = now_s
        if len(self._sent_s) > MOST_PINGS:  # an edge that answers anything but these
            del self._sent_s[next(iter(self._sent_s))]

    def __contains__(self, number: object) -> bool:
        return number in self._sent_s

    def answered(self, number: int, now_s: float) -> float:
        """A ping has come back; gives the seconds that it took."""
        return now_s - self._sent_s.pop(number)

    def heard(self, now_s: float) -> None:
        """Something came from the edge."""
        self._heard_s, self._awaited_s = now_s, None

    def due(self, now_s: float) -> bool:
        """Whether to ask again: an unused connection costs little."""
        recent = now_s - self.used_s < IDLE_KEEPALIVE_S
        return now_s - self._asked_s >= (self.every_s if recent else IDLE_KEEPALIVE_S)

    def unanswered_s(self, now_s: float) -> float:
        """Seconds that a ping has waited for anything to be heard (0 where none does)."""
        awaited_s = self._awaited_s  # once: whoever asks is on another thread
        return 0.0 if awaited_s is None else max(now_s - awaited_s, 0.0)

    def silent_s(self, now_s: float) -> float | None:
        """How long nothing was heard, where that is too long."""
        if self._awaited_s is None or now_s - self._awaited_s < SILENCE_S:
            return None
        return now_s - self._heard_s
