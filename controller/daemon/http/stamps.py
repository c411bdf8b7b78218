"""When what a socket holds can have come: the loop's looks at its sockets.

A loop that was held up finds requests that have waited in the system's queues. Counted from the
moment they are read, their deadlines would begin too late, and nobody would know.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable

Ready = list[tuple[selectors.SelectorKey, int]]
NEWCOMER_LOOKS = 4
"""From a connection in the system's queue to the first bytes that are read from it, at most."""


class StampingSelector(selectors.DefaultSelector):
    """Remembers when it has looked, and so since when what it finds can have been there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._looks = deque([clock()], NEWCOMER_LOOKS + 1)
        """The last ones, back to the last at which nothing was there and it was waited."""

    def select(self, timeout: float | None = None) -> Ready:
        """See `selectors`."""
        found = super().select(0)
        if not found and (timeout is None or timeout > 0):
            found = super().select(timeout)
            self._looks.clear()  # it came while it was waited for
        self._looks.append(self._clock())
        return found

    def since_s(self, *, newcomer: bool) -> float:
        """What the last look has found came then at the earliest.

        `newcomer`: on a connection that the same looks may have found before.
        """
        return self._looks[0] if newcomer or len(self._looks) < 2 else self._looks[-2]


def stamping_loop() -> asyncio.AbstractEventLoop:
    """A loop whose sockets are stamped; a signal that comes meanwhile comes when it is whole."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return asyncio.SelectorEventLoop(StampingSelector())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def arrival_s(*, newcomer: bool) -> float:
    """Since when what the running loop reads at this moment can have waited (monotonic seconds).

    A loop with another selector cannot tell: now.
    """
    selector = getattr(asyncio.get_running_loop(), "_selector", None)
    if isinstance(selector, StampingSelector):
        return selector.since_s(newcomer=newcomer)
    return time.monotonic()
