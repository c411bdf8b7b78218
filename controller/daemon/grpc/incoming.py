"""Messages of calls as they come in: few at once, each with its time.

Every call's message is read by its handler, not before it. Where too many come, the oldest gives
way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc.aio

from controller.daemon.grpc.channel import Bounds

GIVE_WAY_S = 0.05
"""On the same machine a message is there sooner; after this others may need its place."""
INCOMPLETE_CALLS = 64
"""Calls whose message is not whole; of more the oldest gives way."""
MOST_READ = 2
"""Messages that the library reads, given up or not, for each that may come in."""


class RefusedError(Exception):
    """A call that ends without an answer: the name of gRPC's status code, and why in one line."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


class MessageReader:
    """Reads every call's one message. `bounds` may be replaced meanwhile."""

    def __init__(self, bounds: Bounds, backlog_bytes: Callable[[], int]) -> None:
        """`backlog_bytes`: of whole messages that whoever answers has not taken yet."""
        self.bounds, self._backlog_bytes = bounds, backlog_bytes
        self._most_coming = max(bounds.bodies_bytes // bounds.body_bytes // MOST_READ, 1)
        """How many messages may be coming in at once: each may be as long as one is allowed."""
        self._incomplete: dict[asyncio.Timeout, None] = {}
        """All calls whose message is not whole, the oldest first."""
        self._coming: dict[asyncio.Timeout, float] = {}
        """Since when the message of each of those that are read comes in, the oldest first."""
        self._whole = asyncio.Event()
        self._reading: set[asyncio.Future[Any]] = set()

    async def message(self, context: Any) -> bytes:
        """A call's message, within its time. Raises `RefusedError`."""
        body_s, loop = self.bounds.body_s, asyncio.get_running_loop()
        time = asyncio.timeout(body_s)
        try:
            async with time:
                self._incomplete[time] = None
                if len(self._incomplete) > INCOMPLETE_CALLS:
                    # of those that are read each has its time
                    self._give_way(next(one for one in self._incomplete if one not in self._coming))
                await self._turn()
                self._coming[time] = loop.time()
                return await self._read(context)
        except TimeoutError:
            if time not in self._incomplete:
                raise RefusedError(
                    "UNAVAILABLE", "this body has been coming in longest, others need room"
                ) from None
            raise RefusedError(
                "DEADLINE_EXCEEDED", f"body: found it not whole after {body_s:g} s"
            ) from None
        finally:
            self._incomplete.pop(time, None)
            self._coming.pop(time, None)
            self._whole.set()

    def _give_way(self, one: asyncio.Timeout) -> None:
        del self._incomplete[one]
        self._coming.pop(one, None)
        one.reschedule(asyncio.get_running_loop().time())

    async def _turn(self) -> None:
        """Wait for a place; one that has had `GIVE_WAY_S` is taken from its owner."""
        while (left_s := self._until_turn_s()) > 0.0:
            self._whole.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._whole.wait()

    def _until_turn_s(self) -> float:
        """How long to wait before another look at the places; 0 where there is one."""
        if len(self._reading) >= MOST_READ * self._most_coming:
            return GIVE_WAY_S  # the library is slow to end those that were given up
        if self._backlog_bytes() > self.bounds.bodies_bytes // MOST_READ:
            return GIVE_WAY_S  # the daemon is slow to take what is whole
        if len(self._coming) < self._most_coming:
            return 0.0
        oldest, since_s = next(iter(self._coming.items()))
        left_s = since_s + GIVE_WAY_S - asyncio.get_running_loop().time()
        if left_s <= 0.0:
            self._give_way(oldest)
        return left_s

    async def _read(self, context: Any) -> bytes:
        sent = await self._next(context)
        if sent is grpc.aio.EOF:
            raise RefusedError("INVALID_ARGUMENT", "call: found no message, expected one")
        if await self._next(context) is not grpc.aio.EOF:
            raise RefusedError("INVALID_ARGUMENT", "call: found a second message, expected one")
        return bytes(sent)

    async def _next(self, context: Any) -> Any:
        """A call's next message. One that is given up is read to its end all the same.

        The library never frees a message that comes whole behind a reading that was cancelled. A
        reading ends with its call.
        """
        reading = asyncio.ensure_future(context.read())
        self._reading.add(reading)
        reading.add_done_callback(self._read_to_its_end)
        return await asyncio.shield(reading)

    def _read_to_its_end(self, reading: asyncio.Future[Any]) -> None:
        self._reading.discard(reading)
        self._whole.set()
        if not reading.cancelled():
            reading.exception()  # whoever still waits has it too
