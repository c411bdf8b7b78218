"""Whether every thread and pool that answers depend on still does work that it is given.

A thread can live and yet be stuck in a computation. So each is given a small piece of work now and
then, a beat; one that has not come back for long means that nothing behind it will either. Time is
passed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Ask = Callable[[Callable[[], None]], None]
"""Gives a thread or pool work to do: to call what it is given."""
HANG_S = 5.0
"""What has not come back for so long hangs: no piece of work here takes as long."""


class Heartbeat:
    """Beats by name. `round` sends those that are due; `hung` may be asked from any thread."""

    def __init__(self, hang_s: float = HANG_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang_s, self._clock = hang_s, clock
        self._lock = threading.Lock()
        self._asks: dict[str, Ask] = {}
        self._sent_s: dict[str, float] = {}

    def add(self, name: str, ask: Ask) -> None:
        """Watch one more. `ask` must not wait."""
        with self._lock:
            self._asks[name] = ask

    def round(self) -> None:
        """Send a beat to each whose last one has come back."""
        now = self._clock()
        with self._lock:
            due = {name: ask for name, ask in self._asks.items() if name not in self._sent_s}
            self._sent_s |= dict.fromkeys(due, now)
        for name, ask in due.items():
            try:
                ask(lambda name=name: self._back(name))  # type: ignore[misc]
            except RuntimeError:  # a pool that is closed: its beat stays out
                continue

    def _back(self, name: str) -> None:
        with self._lock:
            self._sent_s.pop(name, None)

    @property
    def hung(self) -> tuple[str, ...]:
        """What has had a beat for too long."""
        late_s = self._clock() - self._hang_s
        with self._lock:
            return tuple(name for name, sent_s in self._sent_s.items() if sent_s < late_s)
