"""The local interface over HTTP: the Open Inference Protocol, JPEG bodies, metrics, a live page."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from artefacts import CoinferError, UsageError
from controller.daemon.http.answer_json import short_json
from controller.daemon.http.bodies import CODINGS, check_coding, read_body
from controller.daemon.http.browsers import JPEG, JSON, UNNAMED, check_sender, media_type
from controller.daemon.http.connections import HttpConnection
from controller.daemon.http.errors import error_response, let_go
from controller.daemon.http.inference_v2 import (
    HEADER_LENGTH,
    build_answer,
    most_json_bytes,
    parse_infer,
    read_query,
    with_query,
)
from controller.daemon.inference.answering import short_answer
from controller.daemon.inference.open_inference import InferRequest, asked_of
from controller.daemon.inference.pictures import JpegFiles, is_jpeg
from controller.daemon.inference.refusals import (
    ForeignError,
    TooLargeError,
    TooLateError,
    TooSlowError,
    UnknownModelError,
    UnsupportedError,
)
from controller.daemon.inference.served import HeldAccount, ServedModel
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.service import BusyError

PART_BYTES = 65_536
LIVE_PAGE = Path(__file__).with_name("live.html")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BUSY = 503
STATUS: dict[type[CoinferError], int] = {
    UsageError: 400,
    ForeignError: 403,
    UnknownModelError: 404,
    TooSlowError: 408,
    TooLargeError: 413,
    UnsupportedError: 415,
    BusyError: BUSY,
    TooLateError: 504,
}
"""HTTP's status for each refusal."""
MORE_HEADERS = {
    UnsupportedError: {"Accept-Encoding": ", ".join(CODINGS)},
    BusyError: {"Retry-After": "1"},
}
log = logging.getLogger("coinfer.device")


class LocalInterface:
    """The daemon's HTTP application."""

    def __init__(
        self, served: ServedModel, metrics: DeviceMetrics, hosts: Sequence[str] = ()
    ) -> None:
        """`hosts`: names and addresses that it may be asked for beside loopback's."""
        self._served, self._metrics, self._hosts = served, metrics, hosts

    def application(self) -> web.Application:
        """The routes; whatever can be fetched by GET can be asked for by HEAD."""
        app = web.Application(middlewares=[self._one_line])
        model, versioned = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        shown: list[tuple[str, Handler]] = [
            ("/", self._root),
            ("/v2", self._server),
            ("/v2/", self._server),
            ("/v2/health/live", self._live),
            ("/v2/health/ready", self._ready),
            ("/metrics", self._scrape),
            ("/live", self._page),
            ("/live/state", self._state),
        ]
        asked = ["/infer"]
        for root in (model, versioned):
            shown += [
                (root, self._model),
                (root + "/ready", self._model_ready),
                (root + "/config", self._model_config),
            ]
            asked.append(root + "/infer")
        for path, handler in shown:
            for method in ("GET", "HEAD"):
                app.router.add_route(method, path, _unasked(handler), expect_handler=_expected)
        for path in asked:
            app.router.add_route("POST", path, self._infer, expect_handler=_expected)
        return app

    @web.middleware
    async def _one_line(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A mistake is one line of JSON under `error`, as the protocol has it."""
        connection = request.protocol
        assert isinstance(connection, HttpConnection)
        connection.begin(request)
        try:
            answer = await self._answer(request, handler, connection)
        finally:
            connection.end()
        if not request.content.is_eof():
            # the rest of a body that nobody reads: a refused one's, or of a request that has none
            connection.drop()
        if connection.dropping:
            answer.force_close()
        return answer

    async def _answer(
        self, request: web.Request, handler: Handler, connection: HttpConnection
    ) -> web.StreamResponse:
        """What is cheap to ask waits for a turn, and so do chunks: before they are looked at.

        Where work is asked for and not done, the refusal waits for one.
        """
        asks_for_work = request.method == "POST"
        if not asks_for_work:
            await connection.turn()
        elif connection.chunked:
            await connection.turn_of_chunks()
        try:
            check_sender(request.headers, self._hosts, on_network=connection.on_network)
            if asks_for_work:
                done = await connection.share.steps(_made(handler(request)))
                connection.share.answered()
                return done
            with connection.turns.taking():
                return await handler(request)
        except Exception as error:
            answer = self._refusal(request, error)
            let_go(error)
        if asks_for_work:
            await connection.refused(late=answer.status >= 500)
        return answer

    def _refusal(self, request: web.Request, error: Exception) -> web.Response:
        if request.transport is None:  # it was hung up meanwhile: nobody hears it
            return error_response(400, "connection: found it ended")
        if isinstance(error, CoinferError):
            kind = type(error)
            return error_response(STATUS.get(kind, 400), str(error), MORE_HEADERS.get(kind))
        if isinstance(error, web.RequestPayloadError | BadHttpMessage | ConnectionError):
            return error_response(400, f"body: {type(error).__name__}: {str(error)[:100]!r}")
        if isinstance(error, web.HTTPException):
            allowed = error.headers.get("Allow")
            headers = {"Allow": allowed} if allowed is not None else None
            return error_response(error.status, error.reason, headers)
        # ours to mend, not the client's to read
        log.error("%s %s", request.method, request.path, exc_info=error)
        return error_response(500, f"{type(error).__name__} (see the daemon's log)")

    # -- the protocol ----------------------------------------------------------------------------

    async def _server(self, request: web.Request) -> web.Response:
        return _json(self._served.server_metadata())

    async def _live(self, request: web.Request) -> web.Response:
        return _json({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._served.ready
        return _json({"ready": ready}, 200 if ready else BUSY)

    def _known(self, request: web.Request) -> None:
        name = request.match_info.get("model")
        if name is not None:
            self._served.check(name, request.match_info.get("version", ""))

    async def _model(self, request: web.Request) -> web.Response:
        self._known(request)
        return _json(self._served.metadata())

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._known(request)
        ready = self._served.ready
        return _json({"name": self._served.name, "ready": ready}, 200 if ready else BUSY)

    async def _model_config(self, request: web.Request) -> web.Response:
        self._known(request)
        return _json(self._served.config())

    async def _infer(self, request: web.Request) -> web.Response:
        connection = request.protocol
        assert isinstance(connection, HttpConnection)
        arrival_s = min(connection.arrived_s, self._served.now_s())
        self._known(request)
        query = read_query(list(request.query.items()))
        asked_of(query, self._served.expected)  # refused before the body is read
        kind = media_type(request.headers)
        with self._served.bytes.account() as account:
            body = await self._body(request, kind, account)
            if kind == JPEG or (kind == UNNAMED and is_jpeg(body)):
                return await self._infer_jpeg(body, query, arrival_s)
            return await self._infer_tensor(request, body, query, arrival_s)

    async def _body(self, request: web.Request, kind: str, account: HeldAccount) -> bytes:
        served = self._served
        coding = check_coding(",".join(request.headers.getall("Content-Encoding", [])))
        most = served.limits.body_bytes
        if kind == JSON and HEADER_LENGTH not in request.headers:
            most = min(most, most_json_bytes(served.expected))
        parts = request.content.iter_chunked(PART_BYTES)
        limits = msgspec.structs.replace(served.limits, body_bytes=most)
        return await read_body(parts, request.content_length, coding, limits, account, served.work)

    async def _infer_tensor(
        self, request: web.Request, body: bytes, query: dict[str, float], arrival_s: float
    ) -> web.Response:
        served, length = self._served, request.headers.get(HEADER_LENGTH)
        model = (served.name, served.version)
        read = partial(parse_infer, body, length, served.expected, model, query)
        asked = await served.work.run(read, len(body), left_s=served.limits.longest_deadline_s)
        answers = await served.answers(asked, arrival_s)
        write = partial(build_answer, *model, asked, answers, served.signature)
        made, header_length = await served.written(write, len(answers))
        if header_length is None:
            return web.Response(body=made, content_type="application/json")
        headers = {HEADER_LENGTH: str(header_length)}
        return web.Response(body=made, content_type="application/octet-stream", headers=headers)

    async def _infer_jpeg(
        self, body: bytes, query: dict[str, float], arrival_s: float
    ) -> web.Response:
        served = self._served
        asked = with_query(InferRequest(JpegFiles((body,))), query, served.expected)
        (answer,) = await served.answers(asked, arrival_s)
        made = await served.written(lambda: short_json(short_answer(answer, served.signature)), 1)
        return web.Response(body=made, content_type="application/json")

    # -- what is seen ----------------------------------------------------------------------------

    async def _scrape(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _root(self, request: web.Request) -> web.Response:
        """Whoever types the address alone wants the page for people."""
        return web.Response(status=302, headers={"Location": "/live"})

    async def _page(self, request: web.Request) -> web.Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        return web.Response(
            text=LIVE_PAGE.read_text(encoding="utf-8"),
            content_type="text/html",
            headers={"Content-Security-Policy": policy + "connect-src 'self'"},
        )

    async def _state(self, request: web.Request) -> web.Response:
        return _json(self.state())

    def state(self) -> dict[str, Any]:
        """What the live page and `coinfer top` show."""
        engine, counts = self._served.service.engine, self._served.service.counts
        rtt_s = engine.link.rtt_s
        return {
            "model": self._served.name,
            "controller": engine.controller.name,
            "deadline_ms": 1e3 * engine.args.deadline_s,
            "connected": engine.link.connected,
            "edge": engine.link.address if engine.link.connected else "",
            "breaker_open": engine.admission.open,
            "policy_fallback_share": self._metrics.handed_over.share,
            "rtt_ms": None if rtt_s is None else round(1e3 * rtt_s, 2),
            "last_error": engine.link.last_error,
            "frames": counts.frames,
            "answered": counts.answered,
            "late": counts.late,
            "refused": counts.refused,
            "seconds": self._metrics.recent(),
        }


async def _expected(request: web.Request) -> web.StreamResponse | None:
    """Let a client go on that waits with its body; refuse what else one may expect."""
    found = request.headers.get("Expect", "")
    if found.lower() != "100-continue":
        return error_response(417, f"Expect: found '{found[:40]}', expected 100-continue")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _unasked(handler: Handler) -> Handler:
    """A page that takes no parameters: one that is sent is refused, as nobody would read it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        for name in request.query:
            raise UsageError(f"query: found '{name[:40]}', expected none")
        return await handler(request)

    return handle


async def _made(answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    return await answer


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    body = json.dumps(value).encode()
    return web.Response(status=status, body=body, content_type="application/json")
