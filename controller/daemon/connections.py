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

from aiohttp import StreamReader, web

from controller.daemon.settings import LimitSettings
from controller.daemon.stamps import arrival_s
from controller.link.accepting import Admission

SWEEP_S = 0.5
READ_BYTES = 8_192
"""So much of a connection is read before others have their turn."""
FRAMING_BYTES, FRAMING_SHARE = 3 * READ_BYTES // 2, 1 / 64
"""What the chunks of a body may have around them, at least, and for each byte of it. Each chunk
costs a few microseconds, however short it is: those of half a kilobyte and more pass."""
DROP_BYTES, DROP_EVERY_S = 262_144, 0.005
"""Of a refused body so much is read at once, and how often."""
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
        self.arrived_s = self.made_s
        """When the last bytes came that can begin a request, at the earliest."""
        self.requests = 0
        self.under_way = False
        self.partial_s: float | None = None
        """Since when a part of a request's head is here."""
        self.stalled_s: float | None = None
        """Since when the other end takes nothing of what is sent."""
        self.on_network = True
        """Whether it is one over TCP."""
        self._dropped: int | None = None
        self.tiny_chunks = False
        """Whether the body that comes in has chunks of a few bytes."""
        self._chunked: StreamReader | None = None
        self._framed = 0
        """Bytes that came of a body in chunks, and of what is around them."""

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
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Not silent."""
        if self._dropped is not None:
            self._drop(len(data))
            return
        if data:
            self.heard_s = self._table.clock()
            if self.partial_s is None:
                self.arrived_s = arrival_s(newcomer=not self.requests)
            if self.partial_s is None and not self.under_way:
                self.partial_s = self.heard_s
        super().data_received(data)
        self._check_chunks(len(data))

    def _drop(self, count: int) -> None:
        """Some of a refused body came; it is read now and then, at next to no cost."""
        self._dropped = (self._dropped or 0) + count
        transport = self.transport
        if self._dropped > MOST_DROPPED or transport is None:
            self.hang_up()
            return
        transport.pause_reading()
        self._loop.call_later(DROP_EVERY_S, self._resume_transport_reading)

    def _check_chunks(self, count: int) -> None:
        body = self._chunked
        if body is None:
            return
        self._framed += count
        whole = body.total_bytes
        if self._framed - whole > FRAMING_BYTES + whole * FRAMING_SHARE:
            self._chunked, self.tiny_chunks = None, True

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

    def begin(self, chunked: StreamReader | None = None) -> None:
        """A request's head is whole. `chunked`: its body, where that comes in chunks."""
        self._chunked, self._framed, self.tiny_chunks = chunked, 0, False
        self.under_way, self.partial_s = True, None
        self.requests += 1

    def end(self) -> None:
        """Its answer is made."""
        self.under_way, self.partial_s, self._chunked = False, None, None
        self.heard_s = self._table.clock()

    def drop(self) -> None:
        """Take no more of what is sent apart: the answer is given, and the end is near."""
        self._dropped = 0
        if self.transport is not None:
            self.transport.max_size = DROP_BYTES  # type: ignore[attr-defined]

    def hang_up(self) -> None:
        """End it now."""
        self._table.open.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


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
