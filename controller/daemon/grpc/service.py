"""The local interface over gRPC: the other half of the Open Inference Protocol (extra `grpc`).

The same model, refusals and bounds as over HTTP. Every call's message is read by its handler, not
before it: so a message has its time, and few come in at once, whatever the call is. Imported only
where `device.toml` has a `[grpc]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from artefacts import CoinferError, UsageError
from controller.daemon.configuration.settings import GrpcSettings, LimitSettings
from controller.daemon.inference.open_inference import InferRequest
from controller.daemon.inference.refusals import (
    TooLargeError,
    TooLateError,
    TooSlowError,
    UnknownModelError,
    UnsupportedError,
)
from controller.daemon.inference.served import ServedModel
from controller.daemon.service import BusyError
from controller.link.addresses import check_address

# the library's own lines say nothing that is not answered or logged here
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

try:
    import grpc
    import grpc.aio

    from controller.daemon.grpc import messages as messages
except ImportError:
    raise UsageError(
        "grpc: found no gRPC, expected grpcio and protobuf (pip install grpcio protobuf)"
    ) from None

SERVICE = f"{messages.PACKAGE}.GRPCInferenceService"
GRACE_S = 2.0
"""What calls may still take when the daemon ends, once all frames are answered."""
PING_S = 30.0
"""A connection that says nothing is asked after so long whether it is there."""
LEAST_PING_S = 10.0
"""A client that asks more often than this is hung up by the library."""
GIVE_WAY_S = 0.05
"""On the same machine a message is there sooner; after this others may need its place."""
INCOMPLETE_CALLS = 64
"""Calls whose message is not whole; of more the oldest gives way."""
MOST_READ = 2
"""Messages that the library reads, given up or not, for each that may come in."""
MOST_CALLS = 1024
"""Whatever they do: the library turns more of them away, whoever they are from."""
MORE_STREAMS = 8
"""Calls at once of one connection, beside as many as there may be frames; more wait there."""
AHEAD_BYTES = 16_384
"""What the library takes of a call before it is read, and beyond what is read."""
SMALL_BYTES = 4096
"""Of a message that asks for health or metadata."""
CODES: dict[type[CoinferError], Any] = {
    UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    TooSlowError: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    BusyError: grpc.StatusCode.UNAVAILABLE,
    TooLateError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""gRPC's status code for each refusal."""
log = logging.getLogger("coinfer.device")


class GrpcInterface:
    """The protocol's six calls for one model."""

    def __init__(self, served: ServedModel, settings: GrpcSettings) -> None:
        self._served, self._settings = served, settings
        limits = served.limits
        self._most_coming = max(limits.bodies_bytes // limits.body_bytes // MOST_READ, 1)
        """How many messages may be coming in at once: each may be as long as one is allowed."""
        self._incomplete: dict[asyncio.Timeout, None] = {}
        """All calls whose message is not whole, the oldest first."""
        self._coming: dict[asyncio.Timeout, float] = {}
        """Since when the message of each of those that are read comes in, the oldest first."""
        self._whole = asyncio.Event()
        self._reading: set[asyncio.Future[Any]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Where it listens, as `grpc://HOST:PORT`. Raises `UsageError`."""
        host, port = self._settings.host, self._settings.port
        check_address(host)  # it knows no users
        limits = self._served.limits
        server = grpc.aio.server(
            options=server_options(limits),
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._handlers()),)
        )
        name = f"[{host}]" if ":" in host else host
        try:
            found = server.add_insecure_port(f"{name}:{port}")
        except RuntimeError:
            found = 0
        if not found:
            raise UsageError(f"grpc.host, grpc.port: cannot listen on {name}:{port}")
        await server.start()
        try:
            yield f"grpc://{name}:{found}"
        finally:
            await server.stop(GRACE_S)

    def _handlers(self) -> dict[str, Any]:
        # a call of one message is on the wire what a stream of one is, and a stream is read by us:
        # the library would read all messages of unary calls at once, and wait for them for ever
        return {
            name: grpc.stream_unary_rpc_method_handler(_guarded(call))
            for name, call in (
                ("ServerLive", self._server_live),
                ("ServerReady", self._server_ready),
                ("ServerMetadata", self._server_metadata),
                ("ModelReady", self._model_ready),
                ("ModelMetadata", self._model_metadata),
                ("ModelInfer", self._model_infer),
            )
        }

    # -- health and metadata ---------------------------------------------------------------------

    async def _server_live(self, context: Any) -> bytes:
        await self._small("ServerLiveRequest", context)
        return messages.make("ServerLiveResponse", live=True)

    async def _server_ready(self, context: Any) -> bytes:
        await self._small("ServerReadyRequest", context)
        return messages.make("ServerReadyResponse", ready=self._served.ready)

    async def _server_metadata(self, context: Any) -> bytes:
        await self._small("ServerMetadataRequest", context)
        return messages.make("ServerMetadataResponse", **self._served.server_metadata())

    async def _model_ready(self, context: Any) -> bytes:
        asked = await self._small("ModelReadyRequest", context)
        self._served.check(asked.name, asked.version)
        return messages.make("ModelReadyResponse", ready=self._served.ready)

    async def _model_metadata(self, context: Any) -> bytes:
        asked = await self._small("ModelMetadataRequest", context)
        self._served.check(asked.name, asked.version)
        return messages.make("ModelMetadataResponse", **self._served.metadata())

    async def _small(self, name: str, context: Any) -> Any:
        """The message of a call that has at most a name in it."""
        sent = await self._message(context)
        if len(sent) > SMALL_BYTES:
            raise TooLargeError(f"{name}: found {len(sent):,} bytes, expected {SMALL_BYTES:,}")
        return messages.read(name, sent)

    # -- inference -------------------------------------------------------------------------------

    async def _model_infer(self, context: Any) -> bytes:
        served, arrival_s = self._served, self._served.now_s()
        left_s = context.time_remaining()
        until_s = None if left_s is None else arrival_s + left_s
        with served.bytes.account() as account:
            sent = await self._message(context)
            if len(sent) > served.limits.body_bytes:  # lowered since the library was set up
                raise TooLargeError(f"body: found more than {served.limits.body_bytes:,} bytes")
            account.take(len(sent))
            read = partial(self._understood, sent)
            request = await served.work.run(
                read, len(sent), left_s=served.limits.longest_deadline_s
            )
            answers = await served.answers(request, arrival_s, until_s)
        return messages.build_answer(served.name, served.version, request, answers, served.classes)

    def _understood(self, sent: bytes) -> InferRequest:
        messages.check_bounds(sent)
        asked = messages.read("ModelInferRequest", sent)
        self._served.check(asked.model_name, asked.model_version)
        return messages.parse_infer(asked, self._served.expected)

    async def _message(self, context: Any) -> bytes:
        """The request's one message, within its time. Where too many come, the oldest gives way."""
        limits, loop = self._served.limits, asyncio.get_running_loop()
        time = asyncio.timeout(limits.body_s)
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
                raise BusyError("this body has been coming in longest, others need room") from None
            raise TooSlowError(f"body: found it not whole after {limits.body_s:g} s") from None
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
            raise UsageError("call: found no message, expected one")
        if await self._next(context) is not grpc.aio.EOF:
            raise UsageError("call: found a second message, expected one")
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


def server_options(limits: LimitSettings) -> list[tuple[str, int]]:
    """The library's own bounds, from the daemon's. They are what they are at the start."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_allowed_incoming_connections", max(limits.connections // 4, 4)),
        ("grpc.max_concurrent_streams", limits.live_frames + MORE_STREAMS),
        # without a probe for what the link takes, which on loopback opens windows of megabytes
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", AHEAD_BYTES),
        # short: whoever greets and says nothing keeps a place that the library gives to nobody
        # else, and clients open a connection anew by themselves
        ("grpc.max_connection_idle_ms", _ms(min(limits.head_s, limits.idle_s))),
        ("grpc.server_handshake_timeout_ms", _ms(limits.head_s)),
        ("grpc.keepalive_time_ms", _ms(PING_S)),
        ("grpc.keepalive_timeout_ms", _ms(limits.stalled_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(LEAST_PING_S)),
    ]


def _ms(seconds: float) -> int:
    return max(round(1e3 * seconds), 1)


def _guarded(call: Callable[[Any], Awaitable[bytes]]) -> Callable[[Any, Any], Any]:
    """A call whose refusals end it with gRPC's code for them, and one line."""

    async def handle(stream: Any, context: Any) -> bytes:
        try:
            return await call(context)
        except CoinferError as error:
            code, why = CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error)
        except Exception as error:  # ours to mend, not the client's to read
            log.exception("gRPC call")
            code, why = grpc.StatusCode.INTERNAL, f"{type(error).__name__} (see the daemon's log)"
        await context.abort(code, why)
        raise AssertionError("unreachable")

    return handle
