"""Connections to the local interface over HTTP: how many are open, who gives way, who is hung up.

A connection with a request under way is never hung up for another's sake. Of the others those that
never had a request give way first, then those that have been silent longest. Knows aiohttp's
protocol of a connection, but nothing of what is asked over it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from controller.daemon.settings import LimitSettings
from controller.runtime.accepting import Admission

SWEEP_S = 0.5
READ_BYTES = 65_536
"""So much of a connection is read before others have their turn."""
READING_SHARE = 0.25
"""Of the loop's time that taking apart what is sent may have, over all connections."""
READING_START_S = 0.02
"""That a connection may spend so before its share counts: a body of some megabytes."""
MOST_DROPPED = 16_777_216
"""Of a refused body so much is read; then it is hung up."""
LINGER_S = 2.0
"""What is sent of a refused body is read for so long, so that the refusal can be read too."""


class HttpConnection(web.RequestHandler):
    """One connection: when it last sent something, and how many requests of it are under way."""

    def __init__(self, table: ConnectionTable, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._table = table
        self.made_s = self.heard_s = table.clock()
        self.requests = 0
        self.under_way = False
        self.partial_s: float | None = None
        """Since when a part of a request's head is here."""
        self.stalled_s: float | None = None
        """Since when the other end takes nothing of what is sent."""
        self.on_network = True
        """Whether it is one over TCP."""
        self._dropped: int | None = None
        self._reading = ReadingShare(table)

    # -- asyncio's protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counted from here on."""
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # asyncio's 256 KiB is a jam
        made: socket.socket | None = transport.get_extra_info("socket")
        self.on_network = made is None or made.family != socket.AF_UNIX
        self._table.open[self] = None
        self._table.coming -= 1

    def connection_lost(self, exc: BaseException | None) -> None:
        """Counted no more."""
        self._table.open.pop(self, None)
        self._reading.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Not silent. Whoever makes much work by it is read less often."""
        if self._dropped is not None:
            self._dropped += len(data)
            if self._dropped > MOST_DROPPED:
                self.hang_up()
            return
        if data:
            self.heard_s = self._table.clock()
            if self.partial_s is None and not self.under_way:
                self.partial_s = self.heard_s
        begun_s = time.thread_time()
        super().data_received(data)
        pause_s = self._reading.spent(time.thread_time() - begun_s)
        if pause_s > 0.0 and self.transport is not None:
            self.transport.pause_reading()
            self._reading.wake(self._loop.call_later(pause_s, self._read_on))

    def _read_on(self) -> None:
        self._reading.close()
        if not (self._reading_paused or self._buffer_paused):
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """aiohttp's, for its own buffers: not while this connection has spent its share."""
        if not self._reading.waits:
            super()._resume_transport_reading()

    def pause_writing(self) -> None:
        """The other end is slower than we are."""
        super().pause_writing()
        self.stalled_s = self._table.clock()

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self.stalled_s = None
        super().resume_writing()

    # -- what aiohttp finds wrong ----------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is one line of JSON as everything else."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status >= 500:  # ours to mend, not the client's to read
            self._table.log.error("request: %s", type(exc).__name__, exc_info=exc)
            answer = error_response(status, f"{type(exc).__name__} (see the daemon's log)")
        else:
            why = " ".join((message or "").split())[:200] or type(exc).__name__
            answer = error_response(status, f"request: found no HTTP that can be read ({why})")
        answer.force_close()
        return answer

    # -- told by the interface -------------------------------------------------------------------

    def begin(self) -> None:
        """A request's head is whole."""
        self.under_way, self.partial_s = True, None
        self.requests += 1

    def end(self) -> None:
        """Its answer is made."""
        self.under_way, self.partial_s = False, None
        self.heard_s = self._table.clock()

    def drop(self) -> None:
        """Take no more of what is sent apart: the answer is given, and the end is near."""
        self._dropped = 0

    def hang_up(self) -> None:
        """End it now."""
        self._table.open.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


class ReadingShare:
    """How much of the loop's time one connection may spend by what it sends.

    A body in chunks of a byte each costs a thousand times what one of the same length does that
    comes whole. All that are over their share have one share together.
    """

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._credit_s, self._since_s = READING_START_S, table.clock()
        self._handle: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing is read meanwhile."""
        return self._handle is not None

    def spent(self, cost_s: float) -> float:
        """How long to read nothing, after `cost_s` more were spent (0: read on)."""
        now_s = self._table.clock()
        rate = READING_SHARE / (1 + self._table.over_share)
        earned_s = self._credit_s + rate * (now_s - self._since_s)
        self._credit_s, self._since_s = min(earned_s, READING_START_S) - cost_s, now_s
        return 0.0 if self._credit_s >= 0.0 or self.waits else -self._credit_s / rate

    def wake(self, handle: asyncio.TimerHandle) -> None:
        """`handle` ends the pause."""
        self._handle = handle
        self._table.over_share += 1

    def close(self) -> None:
        """No pause is left."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._table.over_share -= 1


class ConnectionTable(Admission):
    """All that are open. `limits` is asked anew each time: it may be replaced while it serves."""

    def __init__(
        self,
        limits: Callable[[], LimitSettings],
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.log, self._limits = clock, log, limits
        self.most: int | None = None
        """What the system's limits leave, where that is less."""
        self.open: dict[HttpConnection, None] = {}
        """The one that came first is the first."""
        self.coming = 0
        """For whom room was made, and who have no protocol yet."""
        self.over_share = 0
        """Of which nothing is read, as reading them has cost more than their share."""

    def make_room(self) -> bool:
        """Room for one more, who is coming then; False where nobody can give way."""
        while len(self.open) + self.coming >= self._allowed():
            if not self.let_one_go():
                return False
        self.coming += 1
        return True

    def crowded(self) -> bool:
        """Newcomers come in small groups, so that none gives way before it could say a word."""
        return self.coming >= max(self._allowed() // 4, 1)

    def _allowed(self) -> int:
        allowed = self._limits().connections
        return allowed if self.most is None else min(allowed, self.most)

    def lost(self) -> None:
        """One for whom room was made does not come."""
        self.coming -= 1

    def let_one_go(self) -> bool:
        """Hang up who can be spared most; False where every connection has a request under way."""
        idle = [one for one in self.open if not one.under_way and one.stalled_s is None]
        if not idle:
            self.log.warning("every one of %d connections has a request under way", len(self.open))
            return False
        one = min(idle, key=lambda one: (one.requests > 0, one.heard_s))
        self.log.warning(
            "%d connections are open or coming: the one silent longest (%.1f s) is hung up",
            len(self.open) + self.coming,
            self.clock() - one.heard_s,
        )
        one.hang_up()
        return True

    def sweep(self) -> None:
        """Hang up who has had its time."""
        now, limits = self.clock(), self._limits()
        for one in list(self.open):
            why = overdue(one, now, limits)
            if why is not None:
                self.log.info("a connection is hung up: %s", why)
                one.hang_up()

    async def tend(self) -> None:
        """Sweep for as long as the interface serves."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()


def overdue(one: HttpConnection, now_s: float, limits: LimitSettings) -> str | None:
    """Why a connection's time is over; None while it is not."""
    if one.stalled_s is not None:
        late = now_s - one.stalled_s > limits.stalled_s
        return f"it took nothing of its answer for {limits.stalled_s:g} s" if late else None
    if one.under_way:
        return None
    since_s = one.partial_s if one.partial_s is not None or one.requests else one.made_s
    if since_s is not None:
        late = now_s - since_s > limits.head_s
        return f"no whole request head within {limits.head_s:g} s" if late else None
    late = now_s - one.heard_s > limits.idle_s
    return f"no request for {limits.idle_s:g} s" if late else None


def error_response(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    """A mistake as the protocol has it: one line of JSON under `error`."""
    body = json.dumps({"error": why}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def turned_away() -> bytes:
    """What a connection hears that there is no room for."""
    body = json.dumps({"error": "every connection has a request under way"}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
