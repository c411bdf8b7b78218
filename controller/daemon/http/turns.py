"""Turns of requests that are cheap to ask: pages, metrics, readiness, and what is refused.

Each takes the event loop some tenths of a millisecond, and nothing bounds how many are asked. All
of them together get a share of the loop's time, one after another as they come; the frames that the
loop serves beside them have the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

SHARE = 0.2
"""Of the loop's time, in the long run."""
BURST_S = 0.02
"""Of the loop's time, at once: a page and what it asks for, or a scrape of metrics."""
OVERHEAD_S = 1e-4
"""What reading a head and writing an answer take beside the handler."""
REFUSAL_S = 3e-4
"""What it takes where work is asked for and refused."""


class Turns:
    """Who waits first has the first turn; whoever has gone meanwhile costs nothing."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._paid_s = -float("inf")
        """When what was taken so far has been paid, at the share."""
        self._first = asyncio.Lock()

    async def wait(self, cost_s: float) -> None:
        """Until there is time for one more, which takes so much of it."""
        async with self._first:
            while (early_s := self._paid_s - BURST_S / SHARE - self._clock()) > 0:
                await self._sleep(early_s)
            self._take(cost_s)

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Count the time that the block takes, which must not give the loop to others."""
        begun_s = self._clock()
        try:
            yield
        finally:
            self._take(self._clock() - begun_s)

    def _take(self, seconds: float) -> None:
        self._paid_s = max(self._paid_s, self._clock()) + seconds / SHARE
