"""One connection to the local interface over HTTP: what it may send, and what it owes meanwhile.

A connection whose whole request is worked on is never hung up for another's sake. Of the others
those give way first that are owed to: a first request, the rest of a head or of a body, taking the
answer, a turn; then those whose last answer is oldest. What a connection sends ahead of its answer
waits in the system's buffers. Knows aiohttp's protocol, but nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.streams import EMPTY_PAYLOAD

from artefacts import UsageError
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.errors import error_response, raw_refusal
from controller.daemon.http.stamps import arrival_s
from controller.daemon.http.turns import CHUNKED_S, OVERHEAD_S, Share

READ_BYTES = 8_192
"""So much of a connection is read before others have their turn."""
FIRST_BYTES = 2_048
"""The same of a head and of chunks: of those of a byte 8 KiB take 14 ms."""
MANY_LINES, PIECE_BYTES = 32, 256
"""Bytes of more lines than so many may be chunks of a byte each, and are parsed by such pieces."""
FRAMING_BYTES, FRAMING_SHARE = 768, 1 / 64
"""What the chunks of a body may have around them, at least, and for each byte of it. Each chunk
costs some ten microseconds, however short it is: those of half a kilobyte and more pass."""
HEAD_BYTES = 32_768
"""Of a request before its head is whole, give or take one reading."""
DROP_BYTES, DROP_EVERY_S = 262_144, 0.005
"""Of a refused body so much is read at once, and how often."""
MOST_DROPPED = 16_777_216
"""Of a refused body so much is read; then it is hung up."""
LINGER_S = 2.0
"""What is sent of a refused body is read for so long, so that the refusal can be read too."""


class HttpConnection(web.RequestHandler):
    """One connection: what it is waited for, since when, and what it may send meanwhile."""

    def __init__(self, table: ConnectionTable, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._table = table
        self.turns = table.turns
        self.made_s = table.clock()
        self.arrived_s = self.made_s
        """When the last bytes came that can begin a request, at the earliest."""
        self.requests = 0
        self.under_way = False
        self.begun_s = self.answered_s = self.made_s
        """When the first byte of the last request came, and when the last answer was made."""
        self.partial_s: float | None = None
        """Since when a part of a request's head is here."""
        self.delayed_s: float | None = None
        """Since when its request waits for a turn, cheap as it is to ask."""
        self.stalled_s: float | None = None
        """Since when the other end takes nothing of what is sent."""
        self.on_network = True
        """Whether it is one over TCP."""
        self._content: StreamReader = EMPTY_PAYLOAD
        """The body of the last request."""
        self._answering = False
        """Whether a request is under way or its answer is being written."""
        self.chunked = False
        """Whether the body of the request under way comes in chunks."""
        self._held = False
        """Whether such a body waits for a turn: nothing of it is parsed before."""
        self.share = Share(table.turns)
        """What its requests take of the loop."""
        self._framed = 0
        """Bytes that came of a body in chunks, and of what is around them."""
        self._head_bytes = 0
        """Of a request whose head is not whole."""
        self._dropped: int | None = None
        self._ahead, self._ahead_s = b"", 0.0
        """What came ahead of an answer, and when."""
        self._waited_s: float | None = None
        """Since when nothing was read, where that was so just before."""
        self._lost = asyncio.Event()

    @property
    def coming_in(self) -> bool:
        """Whether the body of the request under way is not whole yet."""
        return self.under_way and not self._content.is_eof()

    @property
    def dropping(self) -> bool:
        """Whether nothing more of what is sent is taken apart."""
        return self._dropped is not None

    @property
    def unread_bytes(self) -> int:
        """Of answers, handed over and not taken by the other end."""
        transport: asyncio.WriteTransport | None = self.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    # -- asyncio's protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counted from here on."""
        super().connection_made(transport)
        self._read_at_once(FIRST_BYTES)  # asyncio's 256 KiB is a jam
        made: socket.socket | None = transport.get_extra_info("socket")
        self.on_network = made is None or made.family != socket.AF_UNIX
        self._table.open[self] = None
        self._table.coming -= 1

    def connection_lost(self, exc: BaseException | None) -> None:
        """Counted no more."""
        self._table.open.pop(self, None)
        self._lost.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes, or none: aiohttp goes on with what it holds."""
        if self._dropped is not None:
            self._drop(len(data))
        elif not data:
            self._parse(data)
        else:
            since_s, self._waited_s = self._waited_s, None
            came_s = arrival_s(newcomer=not self.requests) if since_s is None else since_s
            if self._answering and self._content.is_eof():
                self._keep(data, came_s)
            else:
                self._take(data, came_s)

    def _read_at_once(self, count: int) -> None:
        if self.transport is not None:
            self.transport.max_size = count  # type: ignore[attr-defined]

    def _keep(self, data: bytes, came_s: float) -> None:
        """Bytes ahead of the answer: no more is read, as heads that are parsed take memory."""
        if not self._ahead:
            self._ahead_s = came_s
        self._ahead += data
        self._pause_transport_reading()

    def _go_on(self) -> None:
        """The answer is written: on with what came ahead of it."""
        if self._held:
            return
        data, self._ahead = self._ahead, b""
        if not data or self.transport is None or self.dropping:
            return
        self._waited_s = self._ahead_s  # what is still to be read may have come since
        self._take(data, self._ahead_s)
        if not self._buffer_paused and not self._reading_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._ahead and not self._held:
            super()._resume_transport_reading()

    def _take(self, data: bytes, came_s: float) -> None:
        if self.partial_s is None:
            self.arrived_s = came_s
            if not self.under_way:
                self.partial_s = self._table.clock()
        self._parse_pieces(data, came_s)
        if self._answering or self._messages:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse_head()

    def _parse_pieces(self, data: bytes, came_s: float) -> None:
        """Parse it; a body in chunks is looked at often, and not before it has had its turn."""
        may_be_chunks = self.chunked or not self._answering
        many = may_be_chunks and data.count(b"\n") > MANY_LINES
        step = PIECE_BYTES if many else max(len(data), 1)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self._parse(piece)
            self._check_chunks(len(piece))
            if self.dropping:
                return
            newest = self._messages[-1][0] if self._messages and not self._answering else None
            if getattr(newest, "chunked", False):
                self._held = True
                self._keep(data[at + step :], came_s)
                return

    def _parse(self, data: bytes) -> None:
        with self.share.taking():
            super().data_received(data)
        wrong = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if wrong is not None:
            wrong.__traceback__ = None  # its frames hold this connection, in a circle
            self._spoil(wrong)
        elif self._upgraded:  # to nothing that is served: what follows is no HTTP
            self.drop()

    def _spoil(self, why: BaseException) -> None:
        """Let whoever reads the body find this, and take no more of it."""
        if self.coming_in:
            self._content.set_exception(why)
        self.drop()

    def _refuse_head(self) -> None:
        if self.transport is not None:
            why = f"request: found a head of more than {HEAD_BYTES:,} bytes"
            self.transport.write(raw_refusal("431 Request Header Fields Too Large", why))
        self.drop()
        self._loop.call_later(LINGER_S, self.hang_up)

    def _drop(self, count: int) -> None:
        """Some of what nobody reads came; it is taken now and then, at next to no cost."""
        self._dropped = (self._dropped or 0) + count
        transport = self.transport
        if self._dropped > MOST_DROPPED or transport is None:
            self.hang_up()
            return
        transport.pause_reading()
        self._loop.call_later(DROP_EVERY_S, self._resume_transport_reading)

    def _check_chunks(self, count: int) -> None:
        if not self.chunked or not self.coming_in:
            return
        self._framed += count
        whole = self._content.total_bytes
        if whole > READ_BYTES:
            self._read_at_once(READ_BYTES)
        if self._framed - whole > FRAMING_BYTES + whole * FRAMING_SHARE:
            why = "body: found chunks of a few bytes, expected half a kilobyte or more"
            self._spoil(UsageError(why))

    def has_gone(self) -> bool:
        """Whether the other end has left while nothing of it is read."""
        transport = self.transport
        if transport is None or transport.is_closing() or transport.is_reading():
            return False
        sock = transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
        return bool(poll.poll(0))

    def pause_writing(self) -> None:
        """The other end is slower than we are."""
        super().pause_writing()
        self.stalled_s = self._table.clock()
        self._table.relieve()

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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; what came ahead of it has its turn then."""
        try:
            written = await super().finish_response(request, resp, start_time)
            if self.dropping:
                # closed with bytes that nobody has read, it would take the answer back
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await self._lost.wait()
            return written
        finally:
            self._answering = False
            self._loop.call_soon(self._go_on)

    # -- called by the interface ------------------------------------------------------------------

    def begin(self, request: web.BaseRequest) -> None:
        """A request's head is whole."""
        self._content = request.content
        self.chunked = request.content_length is None and request.body_exists
        self._framed = 0
        if not self.chunked:
            self._read_at_once(READ_BYTES)
        self.begun_s = self._table.clock() if self.partial_s is None else self.partial_s
        self.under_way = self._answering = True
        self.partial_s = None
        self.requests += 1

    def end(self) -> None:
        """Its answer is made."""
        self.under_way, self.partial_s = False, None
        self.share.settle()
        self._read_at_once(FIRST_BYTES)
        self.answered_s = self._table.clock()

    async def turn(self, cost_s: float = OVERHEAD_S) -> None:
        """Wait for a turn among the cheap requests of all connections."""
        async with self._delayed():
            await self.share.wait(cost_s)

    async def turn_of_chunks(self) -> None:
        """Wait for a turn, and take in what comes in chunks from then on."""
        await self.turn(CHUNKED_S)
        self._release()

    async def refused(self, *, late: bool) -> None:
        """Work that was asked for is refused, or `late`: it takes its share of the loop too."""
        async with self._delayed():
            await self.share.refuse(late=late)

    @contextlib.asynccontextmanager
    async def _delayed(self) -> AsyncIterator[None]:
        self.delayed_s = self._table.clock()
        try:
            yield
        finally:
            self.delayed_s = None

    def _release(self) -> None:
        """The body has had its turn, or nobody wants it."""
        if self._held:
            self._held = False
            self._go_on()
            if not self._ahead and not self._buffer_paused and not self._reading_paused:
                self._resume_transport_reading()

    def drop(self) -> None:
        """Take no more of what is sent apart: the end is near."""
        self._dropped = 0
        self._content.feed_eof()
        self._release()
        self._read_at_once(DROP_BYTES)

    def hang_up(self) -> None:
        """End it now."""
        self._table.open.pop(self, None)
        if self.transport is not None:
            self.transport.abort()
