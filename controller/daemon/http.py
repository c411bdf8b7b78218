"""The local interface over HTTP: the Open Inference Protocol, JPEG bodies, metrics, a live page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from artefacts import UsageError
from controller.daemon.inference_v2 import (
    EXTENSIONS,
    HEADER_LENGTH,
    Answer,
    InferRequest,
    build_answer,
    metadata,
    parse_infer,
)
from controller.daemon.metrics import DeviceMetrics
from controller.daemon.pictures import Pictures, decode_jpeg
from controller.daemon.service import BusyError, FrameService
from controller.daemon.settings import LimitSettings
from controller.runtime.engine import FrameRecord

LIVE_PAGE = Path(__file__).with_name("live.html")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOO_LATE, BUSY = 504, 503
REPLY_S = 0.003
"""An answer is given out so long before its deadline: it still has to be written and read."""
ASKED = ("deadline_ms", "threshold")
log = logging.getLogger("coinfer.device")


class _Refused(Exception):
    """A request that gets no answer; `status` is HTTP's."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


HELD = "held bytes"
"""Under this name a request keeps how much of its body is held."""


class LocalInterface:
    """The daemon's HTTP application. `limits` may be replaced while it serves."""

    def __init__(
        self,
        service: FrameService,
        metrics: DeviceMetrics,
        limits: LimitSettings,
        version: str,
        classes: tuple[str, ...],
    ) -> None:
        self._service, self._metrics, self.limits = service, metrics, limits
        self._version, self._classes = version, classes
        model = service.engine.model
        self._name = model.spec.name
        self._size = (model.spec.input_shape[1], model.spec.input_shape[2])
        self.ready = True
        self._held_bytes = 0

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._one_line])
        model, versioned = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/v2", self._server),
            ("GET", "/v2/", self._server),
            ("GET", "/v2/health/live", self._live),
            ("GET", "/v2/health/ready", self._ready),
            ("POST", "/infer", self._infer),
            ("GET", "/metrics", self._scrape),
            ("GET", "/live", self._page),
            ("GET", "/live/state", self._state),
        ]
        for root in (model, versioned):
            routes += [
                ("GET", root, self._model),
                ("GET", root + "/ready", self._model_ready),
                ("POST", root + "/infer", self._infer),
            ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        return app

    @web.middleware
    async def _one_line(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A mistake is one line of JSON under `error`, as the protocol has it."""
        try:
            return await handler(request)
        except UsageError as error:
            return _error(400, str(error))
        except BusyError as error:
            return _error(BUSY, str(error), {"Retry-After": "1"})
        except _Refused as error:
            return _error(error.status, str(error))
        except (web.RequestPayloadError, BadHttpMessage, ConnectionError) as error:
            return _error(400, f"body: {type(error).__name__}: {str(error)[:100]!r}")
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except Exception as error:  # ours to mend, not the client's to read
            log.exception("%s %s", request.method, request.path)
            return _error(500, f"{type(error).__name__} (see the daemon's log)")

    # -- the protocol ----------------------------------------------------------------------------

    async def _server(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"name": "coinfer", "version": self._version, "extensions": list(EXTENSIONS)}
        )

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"ready": self._serves}, status=200 if self._serves else BUSY)

    @property
    def _serves(self) -> bool:
        return self.ready and self._service.alive

    def _known(self, request: web.Request) -> None:
        name, version = request.match_info.get("model"), request.match_info.get("version", "1")
        if name is not None and (name, version) != (self._name, "1"):
            raise _Refused(
                404,
                f"model: found {name[:60]!r} version {version[:20]!r}, expected '{self._name}' "
                "version '1'",
            )

    async def _model(self, request: web.Request) -> web.Response:
        self._known(request)
        return web.json_response(metadata(self._name, self._size))

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._known(request)
        return web.json_response(
            {"name": self._name, "ready": self._serves}, status=200 if self._serves else BUSY
        )

    async def _infer(self, request: web.Request) -> web.Response:
        arrival_s = self._service.engine.clock()
        self._known(request)
        try:
            return await self._inferred(request, arrival_s)
        finally:
            self._held_bytes -= request.get(HELD, 0)

    async def _inferred(self, request: web.Request, arrival_s: float) -> web.Response:
        if request.content_type.startswith("image/") and request.content_type != "image/jpeg":
            kind = request.content_type[:40]
            raise _Refused(415, f"Content-Type: found {kind!r}, expected image/jpeg, or JSON")
        body = await self._read(request)
        if request.content_type == "image/jpeg":
            return await self._infer_jpeg(request, body, arrival_s)
        asked = await asyncio.to_thread(
            parse_infer, body, request.headers.get(HEADER_LENGTH), self._size, self.limits.pixels
        )
        answers = await self._answers(asked, arrival_s)
        made, header_length = build_answer(self._name, asked, answers)
        if header_length is None:
            return web.Response(body=made, content_type="application/json")
        headers = {HEADER_LENGTH: str(header_length)}
        return web.Response(body=made, content_type="application/octet-stream", headers=headers)

    async def _read(self, request: web.Request) -> bytes:
        """The body, within its time; what it holds counts until the request is answered."""
        limits = self.limits
        try:
            async with asyncio.timeout(limits.body_s):
                return await self._body(request)
        except TimeoutError:
            raise _Refused(408, f"body: found it not whole after {limits.body_s:g} s") from None

    async def _body(self, request: web.Request) -> bytes:
        """What was sent, unpacked; refused as soon as it is longer than the limits allow."""
        limits, body = self.limits, bytearray()
        async for part in request.content.iter_chunked(65536):
            body += part
            self._held_bytes += len(part)
            request[HELD] = len(body)
            if len(body) > limits.body_bytes:
                raise _Refused(413, f"body: found more than {limits.body_bytes:,} bytes")
            if self._held_bytes > limits.bodies_bytes:
                raise BusyError(
                    f"{self._held_bytes:,} bytes of requests are held, expected at most "
                    f"{limits.bodies_bytes:,}"
                )
        return bytes(body)

    async def _infer_jpeg(
        self, request: web.Request, body: bytes, arrival_s: float
    ) -> web.Response:
        _known_queries(request)
        picture = await asyncio.to_thread(decode_jpeg, body, self._size, self.limits.pixels)
        asked = InferRequest(
            picture[None], "", _query(request, "deadline_ms", 1e-3), _query(request, "threshold"),
            (),
        )  # fmt: skip
        (answer,) = await self._answers(asked, arrival_s)
        return web.json_response(
            {
                "label": answer.label,
                "class": self._classes[answer.label],
                "confidence": answer.confidence,
                "exit": answer.exit + 1,
                "plan": answer.plan,
                "where": answer.where,
                "latency_ms": round(1e3 * answer.latency_s, 3),
            }
        )

    async def _answers(self, asked: InferRequest, arrival_s: float) -> list[Answer]:
        if asked.threshold is not None and asked.threshold > 1.0:
            raise UsageError(f"threshold: found {asked.threshold:g}, expected at most 1")
        longest = self.limits.longest_deadline_s
        if asked.deadline_s is not None and asked.deadline_s > longest:
            raise UsageError(
                f"deadline: found {asked.deadline_s:g} s, expected at most {longest:g} s"
            )
        under_way: list[asyncio.Future[FrameRecord]] = []
        try:
            for picture in asked.pictures:
                under_way.append(self._submit(picture, asked, arrival_s))
        except BusyError:
            # the others are answered all the same, and nobody hears it
            for future in under_way:
                future.cancel()
            raise
        records = await asyncio.gather(*under_way)
        return [self._answer(record) for record in records]

    def _submit(
        self, picture: Pictures, asked: InferRequest, arrival_s: float
    ) -> asyncio.Future[FrameRecord]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[FrameRecord] = loop.create_future()
        deadline_s = asked.deadline_s or self._service.engine.args.deadline_s

        def set_result(record: FrameRecord) -> None:
            if not future.done():  # whoever asked may have gone
                future.set_result(record)

        def done(record: FrameRecord) -> None:
            with contextlib.suppress(RuntimeError):  # the interface is closed: nobody asks
                loop.call_soon_threadsafe(set_result, record)

        self._service.submit(
            picture,
            done,
            deadline_s=max(deadline_s - REPLY_S, deadline_s / 2.0),
            threshold=asked.threshold,
            arrival_s=arrival_s,
        )
        return future

    def _answer(self, record: FrameRecord) -> Answer:
        plan = str(self._service.engine.table.plans[record.plan])
        if record.latency_s is None or record.label is None or record.exit is None:
            why = f" ({record.error})" if record.error else ""
            raise _Refused(TOO_LATE, f"no answer in time by plan '{plan}'{why}")
        return Answer(
            record.label, record.confidence or 0.0, record.exit, plan, record.where or "",
            record.latency_s,
        )  # fmt: skip

    # -- what is seen ----------------------------------------------------------------------------

    async def _scrape(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _page(self, request: web.Request) -> web.Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        return web.Response(
            text=LIVE_PAGE.read_text(encoding="utf-8"),
            content_type="text/html",
            headers={"Content-Security-Policy": policy + "connect-src 'self'"},
        )

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state())

    def state(self) -> dict[str, Any]:
        """What the live page and `coinfer top` show."""
        engine, counts = self._service.engine, self._service.counts
        rtt_s = engine.link.rtt_s
        return {
            "model": self._name,
            "controller": engine.controller.name,
            "deadline_ms": 1e3 * engine.args.deadline_s,
            "connected": engine.link.connected,
            "edge": engine.link.address if engine.link.connected else "",
            "breaker_open": engine.breaker is not None and engine.breaker.open,
            "rtt_ms": None if rtt_s is None else round(1e3 * rtt_s, 2),
            "last_error": engine.link.last_error,
            "frames": counts.frames,
            "answered": counts.answered,
            "late": counts.late,
            "refused": counts.refused,
            "seconds": self._metrics.recent(),
        }


def _known_queries(request: web.Request) -> None:
    for name in request.query:
        if name not in ASKED:
            raise UsageError(f"query: found '{name[:40]}', expected {' or '.join(ASKED)}")


def _query(request: web.Request, name: str, unit: float = 1.0) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{name}: found '{text[:40]}', expected a number above 0")
    return value * unit


def _error(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps({"error": why}),
        content_type="application/json",
        headers=headers,
    )
