"""The local interface over gRPC: the other half of the Open Inference Protocol (extra `grpc`).

The same model, refusals and bounds as over HTTP. A request's message is read by the handler, not
before it: so a body has its time and its share of the held bytes here too. Imported only where
`device.toml` has a `[grpc]`.
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
from controller.daemon.inference import InferRequest
from controller.daemon.refusals import (
    TooLargeError,
    TooLateError,
    TooSlowError,
    UnknownModelError,
    UnsupportedError,
)
from controller.daemon.served import ServedModel
from controller.daemon.service import BusyError
from controller.daemon.settings import GrpcSettings, LimitSettings
from controller.link.addresses import check_address

# the library's own lines say nothing that is not answered or logged here
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

try:
    import grpc
    import grpc.aio

    from controller.daemon import grpc_messages as messages
except ImportError:
    raise UsageError(
        "grpc: found no gRPC, expected grpcio and protobuf (pip install 'coinfer[grpc]')"
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
MORE_CALLS = 64
"""Calls at once beside the frames under way: for health, metadata, and bodies that come in."""
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
        self._most_coming = max(limits.bodies_bytes // limits.body_bytes, 1)
        """How many messages may be coming in at once: each may be as long as one is allowed."""
        self._coming: dict[asyncio.Timeout, float] = {}
        """Since when each of them does, the oldest first."""
        self._whole = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Where it listens, as `grpc://HOST:PORT`. Raises `UsageError`."""
        host, port = self._settings.host, self._settings.port
        check_address(host)  # it knows no users
        limits = self._served.limits
        server = grpc.aio.server(
            options=server_options(limits),
            maximum_concurrent_rpcs=limits.live_frames + MORE_CALLS,
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
        unary = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
        }
        made: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(_guarded(call))
            for name, call in unary.items()
        }
        # a call of one message is on the wire what a stream of one is, and a stream is read by us
        made["ModelInfer"] = grpc.stream_unary_rpc_method_handler(_guarded(self._model_infer))
        return made

    # -- health and metadata ---------------------------------------------------------------------

    async def _server_live(self, sent: bytes, context: Any) -> bytes:
        messages.read("ServerLiveRequest", sent)
        return messages.make("ServerLiveResponse", live=True)

    async def _server_ready(self, sent: bytes, context: Any) -> bytes:
        messages.read("ServerReadyRequest", sent)
        return messages.make("ServerReadyResponse", ready=self._served.ready)

    async def _server_metadata(self, sent: bytes, context: Any) -> bytes:
        messages.read("ServerMetadataRequest", sent)
        return messages.make("ServerMetadataResponse", **self._served.server_metadata())

    async def _model_ready(self, sent: bytes, context: Any) -> bytes:
        asked = messages.read("ModelReadyRequest", sent)
        self._served.check(asked.name, asked.version)
        return messages.make("ModelReadyResponse", ready=self._served.ready)

    async def _model_metadata(self, sent: bytes, context: Any) -> bytes:
        asked = messages.read("ModelMetadataRequest", sent)
        self._served.check(asked.name, asked.version)
        return messages.make("ModelMetadataResponse", **self._served.metadata())

    # -- inference -------------------------------------------------------------------------------

    async def _model_infer(self, stream: Any, context: Any) -> bytes:
        served, arrival_s = self._served, self._served.now_s()
        left_s = context.time_remaining()
        until_s = None if left_s is None else arrival_s + left_s
        with served.bytes.account() as account:
            sent = await self._message(context)
            if len(sent) > served.limits.body_bytes:  # lowered since the library was told
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
        comes = False
        try:
            async with time:
                await self._turn()
                self._coming[time], comes = loop.time(), True
                return await self._read(context)
        except TimeoutError:
            if comes and time not in self._coming:
                raise BusyError("this body has been coming in longest, others need room") from None
            raise TooSlowError(f"body: found it not whole after {limits.body_s:g} s") from None
        finally:
            self._coming.pop(time, None)
            self._whole.set()

    async def _turn(self) -> None:
        """Wait for a place; one that has had `GIVE_WAY_S` is taken from its owner."""
        loop = asyncio.get_running_loop()
        while len(self._coming) >= self._most_coming:
            oldest, since_s = next(iter(self._coming.items()))
            left_s = since_s + GIVE_WAY_S - loop.time()
            if left_s <= 0.0:
                del self._coming[oldest]
                oldest.reschedule(loop.time())
                return
            self._whole.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._whole.wait()

    async def _read(self, context: Any) -> bytes:
        sent = await context.read()
        if sent is grpc.aio.EOF:
            raise UsageError("ModelInfer: found no message, expected one")
        if await context.read() is not grpc.aio.EOF:
            raise UsageError("ModelInfer: found a second message, expected one")
        return bytes(sent)


def server_options(limits: LimitSettings) -> list[tuple[str, int]]:
    """The library's own bounds, from the daemon's. They are what they are at the start."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.max_concurrent_streams", limits.live_frames + MORE_CALLS),
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


def _guarded(call: Callable[[Any, Any], Awaitable[bytes]]) -> Callable[[Any, Any], Any]:
    """A call whose refusals end it with gRPC's code for them, and one line."""

    async def handle(sent: Any, context: Any) -> bytes:
        try:
            return await call(sent, context)
        except CoinferError as error:
            code, why = CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error)
        except Exception as error:  # ours to mend, not the client's to read
            log.exception("gRPC call")
            code, why = grpc.StatusCode.INTERNAL, f"{type(error).__name__} (see the daemon's log)"
        await context.abort(code, why)
        raise AssertionError("unreachable")

    return handle
