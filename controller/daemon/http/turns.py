"""Turns of requests that are cheap to ask: pages, metrics, readiness, chunks, and what is refused.

Each takes the event loop some tenths of a millisecond, and nothing bounds how many are asked. All
of them together get a share of the loop's time, one after another as they come; the frames that the
loop serves beside them have the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

SHARE = 0.2
"""Of the loop's time, in the long run."""
BURST_S = 0.02
"""Of the loop's time, at once: a page and what it asks for, or a scrape of metrics."""
OVERHEAD_S = 1e-4
"""What reading a head and writing an answer take beside the handler."""
REFUSAL_S = 3e-4
"""What it takes at least where work is asked for and refused."""
LATE_S = 2e-3
"""The same where work was begun in vain, on other threads: unpacked, decoded, computed."""
CHUNKED_S = 2e-3
"""What a body in chunks takes, as reckoned before anything of it is parsed."""
CREDIT = 8
"""A connection that was answered so often may be too late as often, and waits for no turn."""
Found = TypeVar("Found")


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

    def charge(self, seconds: float) -> None:
        """Count what was taken without a turn."""
        self._take(seconds)

    def _take(self, seconds: float) -> None:
        self._paid_s = max(self._paid_s, self._clock()) + seconds / SHARE


class Share:
    """What the requests of one connection take of the loop, and what of it was counted before."""

    def __init__(self, turns: Turns, clock: Callable[[], float] = time.thread_time) -> None:
        """`clock`: of the loop's thread: what others make it wait for is not its requests' cost."""
        self._turns, self._clock = turns, clock
        self._spent_s = self._paid_for_s = 0.0
        """Of the request under way."""
        self._credit = 0

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Note the time that the block takes, which must not give the loop to others."""
        begun_s = self._clock()
        try:
            yield
        finally:
            self._spent_s += self._clock() - begun_s

    def steps(self, work: Coroutine[Any, Any, Found]) -> Awaitable[Found]:
        """`work`, each step of which is noted."""
        return _Steps(work, self.taking)

    async def wait(self, cost_s: float) -> None:
        """Until there is time for a request that will take so much."""
        await self._turns.wait(cost_s)
        self._paid_for_s += cost_s

    def answered(self) -> None:
        """Work that was asked for is done."""
        self._credit = min(self._credit + 1, CREDIT)

    async def refuse(self, *, late: bool) -> None:
        """Until there is time for what a refusal has taken; a camera that is `late` has no time."""
        spent_s = OVERHEAD_S + self._spent_s - self._paid_for_s
        owed_s = max(spent_s, LATE_S if late else REFUSAL_S)
        self._paid_for_s = self._spent_s = 0.0
        if late and self._credit:
            self._credit -= 1
            self._turns.charge(owed_s)
        else:
            await self._turns.wait(owed_s)

    def settle(self) -> None:
        """The request is over: what it took beyond what was counted for it is counted too."""
        if self._paid_for_s:
            self._turns.charge(max(self._spent_s - self._paid_for_s, 0.0))
        self._spent_s = self._paid_for_s = 0.0


class _Steps(Generic[Found]):
    """Awaits `work`; whatever runs between two of its waits runs inside `taking`."""

    def __init__(
        self,
        work: Coroutine[Any, Any, Found],
        taking: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._work, self._taking = work, taking

    def __await__(self) -> Generator[Any, Any, Found]:
        go_on = partial(self._work.send, None)
        while True:
            try:
                with self._taking():
                    waits_for = go_on()
            except StopIteration as ended:
                found: Found = ended.value
                return found
            try:
                go_on = partial(self._work.send, (yield waits_for))
            except BaseException as error:  # the work's to handle
                go_on = partial(self._work.throw, error)
