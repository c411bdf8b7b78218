"""The process that speaks gRPC for the daemon: `python -m controller.daemon.grpc.gateway`.

What a call costs here, however it begins and ends, costs the daemon nothing: this process has an
interpreter of its own, gives way to the daemon where both want a processor, and is the first that a
system without memory ends. It knows no models: it hands whole messages to the daemon by its
standard output (`channel`), and hands back what it hears on its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

# the library's own lines say nothing that is not answered or logged here
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from controller.daemon.grpc.channel import (
    ANSWER_BYTES,
    OK,
    Beat,
    Begin,
    Bounds,
    Call,
    End,
    Fault,
    Gone,
    NoteReader,
    NoteWriter,
    OfDaemon,
    Reloaded,
    Reply,
    Serving,
    Unable,
    connect_reader,
    connect_writer,
)
from controller.daemon.grpc.incoming import MessageReader, RefusedError

SERVICE = "inference.GRPCInferenceService"
INFER = "ModelInfer"
METHODS = (
    "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", INFER,
)  # fmt: skip
NICE = 10
"""How much this process gives way to the daemon (sched(7))."""
FIRST_TO_END = 800
"""Of 1000: how gladly the system ends this process where no memory is left (proc(5))."""
GRACE_S = 2.0
"""What calls may still take when the daemon ends, once all frames are answered."""
BEAT_S = 1.0
PING_S = 30.0
"""A connection that says nothing is asked after so long whether it is there."""
LEAST_PING_S = 10.0
"""A client that asks more often than this is hung up by the library."""
MOST_CALLS = 1024
"""Whatever they do: the library turns more of them away, whoever they are from."""
MORE_STREAMS = 8
"""Calls at once of one connection, beside as many as there may be frames; more wait there."""
AHEAD_BYTES = 32_768
"""What the library takes of a call before it is read, and beyond what is read."""
SMALL_BYTES = 4096
"""Of a message that asks for health or metadata."""


class Daemon:
    """The daemon, as this process sees it. Every call is asked once and gets one reply."""

    def __init__(self, notes: NoteReader, writer: NoteWriter) -> None:
        self._notes, self.writer = notes, writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[tuple[Reply, bytes]]] = {}

    async def begin(self) -> Begin:
        """What it wants; ends this process where it has ended."""
        found = await self._notes.next()
        if found is None or not isinstance(found[0], Begin):
            raise SystemExit(1)
        return found[0]

    def ask(self, method: str, sent: bytes, arrival_s: float, left_s: float | None) -> int:
        """Ask for the answer to a call; its number. The message is not kept for longer."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        until_s = None if left_s is None else arrival_s + left_s
        self.writer.say(Call(number, method, arrival_s, until_s), sent)
        return number

    async def answer(self, number: int) -> bytes:
        """The answer. Raises `RefusedError`. A call that is cancelled meanwhile is given up."""
        try:
            said, answer = await self._asked[number]
        finally:
            if self._asked.pop(number, None) is not None:
                self.writer.say(Gone(number))
        if said.code != OK:
            raise RefusedError(said.code, said.why)
        return answer

    async def listen(self, reloaded: Callable[[Bounds], None]) -> None:
        """Hear replies and changes until the daemon says `End`. Its own end ends this process."""
        while (found := await self._notes.next()) is not None:
            note, data = found
            if isinstance(note, Reply):
                waiting = self._asked.pop(note.number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result((note, data))
            elif isinstance(note, Reloaded):
                reloaded(note.bounds)
            elif isinstance(note, End):
                return
        os._exit(0)  # nobody is left to answer anything


class Gateway:
    """The protocol's calls, each of them answered by the daemon."""

    def __init__(self, daemon: Daemon, begin: Begin) -> None:
        self._daemon, self._begin = daemon, begin
        self._incoming = MessageReader(begin.bounds, lambda: daemon.writer.backlog_bytes)

    async def serve(self) -> None:
        """Until the daemon says that it is the end."""
        host, port = self._begin.host, self._begin.port
        server = grpc.aio.server(
            options=server_options(self._begin.bounds), maximum_concurrent_rpcs=MOST_CALLS
        )
        # a call of one message is on the wire what a stream of one is, and a stream is read by us:
        # the library would read all messages of unary calls at once, and wait for them for ever
        handlers = {
            method: grpc.stream_unary_rpc_method_handler(self._handler(method))
            for method in METHODS
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            found = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            found = 0
        if not found:
            self._daemon.writer.say(Unable(f"grpc.host, grpc.port: cannot listen on {host}:{port}"))
            return
        await server.start()
        self._daemon.writer.say(Serving(found))
        beating = asyncio.create_task(self._beat())
        await self._daemon.listen(self._reloaded)
        # those under way are answered meanwhile
        listening = asyncio.create_task(self._daemon.listen(self._reloaded))
        await server.stop(GRACE_S)
        for task in (beating, listening):
            task.cancel()

    def _reloaded(self, bounds: Bounds) -> None:
        self._incoming.bounds = bounds

    async def _beat(self) -> None:
        while True:
            self._daemon.writer.say(Beat())
            await asyncio.sleep(BEAT_S)

    def _handler(self, method: str) -> Callable[[Any, Any], Awaitable[bytes]]:
        """A call whose refusals end it with gRPC's code for them, and one line."""

        async def handle(stream: Any, context: Any) -> bytes:
            try:
                return await self._answer(method, context)
            except RefusedError as error:
                code, why = error.code, error.why
            except Exception as error:  # ours to mend, not the client's to read
                self._daemon.writer.say(Fault(traceback.format_exc(limit=-8)[-SMALL_BYTES:]))
                code, why = "INTERNAL", f"{type(error).__name__} (see the daemon's log)"
            await context.abort(grpc.StatusCode[code], why)
            raise AssertionError("unreachable")

        return handle

    async def _answer(self, method: str, context: Any) -> bytes:
        arrival_s, left_s = time.monotonic(), context.time_remaining()
        # nothing here keeps the message while the daemon answers it
        number = self._daemon.ask(method, await self._message(method, context), arrival_s, left_s)
        return await self._daemon.answer(number)

    async def _message(self, method: str, context: Any) -> bytes:
        sent = await self._incoming.message(context)
        if method != INFER and len(sent) > SMALL_BYTES:
            raise RefusedError(
                "RESOURCE_EXHAUSTED",
                f"{method}Request: found {len(sent):,} bytes, expected {SMALL_BYTES:,}",
            )
        return sent


def server_options(bounds: Bounds) -> list[tuple[str, int]]:
    """The library's own bounds, from the daemon's. They are what they are at the start."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", bounds.body_bytes),
        ("grpc.max_allowed_incoming_connections", max(bounds.connections // 4, 4)),
        ("grpc.max_concurrent_streams", bounds.live_frames + MORE_STREAMS),
        # without a probe for what the link takes, which on loopback opens windows of megabytes
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", AHEAD_BYTES),
        # short: whoever greets and says nothing keeps a place that the library gives to nobody
        # else, and clients open a connection anew by themselves
        ("grpc.max_connection_idle_ms", _ms(min(bounds.head_s, bounds.idle_s))),
        ("grpc.server_handshake_timeout_ms", _ms(bounds.head_s)),
        ("grpc.keepalive_time_ms", _ms(PING_S)),
        ("grpc.keepalive_timeout_ms", _ms(bounds.stalled_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(LEAST_PING_S)),
    ]


def _ms(seconds: float) -> int:
    return max(round(1e3 * seconds), 1)


def give_way() -> None:
    """Let the daemon have the processors first, and the memory; what a system cannot is left."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    # a session of its own, as this process is one, is weighed against others as a whole (sched(7))
    for name, value in (("autogroup", NICE), ("oom_score_adj", FIRST_TO_END)):
        with contextlib.suppress(OSError):
            Path(f"/proc/self/{name}").write_text(str(value))


async def _serve() -> None:
    notes, _ = await connect_reader(os.fdopen(0, "rb", 0), OfDaemon, ANSWER_BYTES)
    daemon = Daemon(notes, await connect_writer(os.fdopen(1, "wb", 0)))
    await Gateway(daemon, await daemon.begin()).serve()


def main() -> None:
    """Serve. The daemon alone ends it: a service manager's signals go to both at once."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    give_way()
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
