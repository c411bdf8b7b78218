"""An edge's metrics for Prometheus over HTTP, behind the same bounds as the device's interface."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from artefacts import UsageError
from controller.daemon.configuration.settings import HttpSettings, LimitSettings
from controller.daemon.http.browsers import check_sender
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.connections import HttpConnection
from controller.daemon.http.errors import error_response
from controller.daemon.http.listening import HttpListener
from controller.daemon.inference.refusals import ForeignError

LIMITS = LimitSettings(connections=16, idle_s=120.0)
"""A scraper or two and a person looking."""
START_S = 10.0
CLOSE_S = 2.0


class MetricsServer:
    """Gives a registry's metrics on a thread of its own, from `start` to `close`."""

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, log: logging.Logger
    ) -> None:
        self._registry, self._hosts = registry, (host,)
        table = ConnectionTable(lambda: LIMITS, log)
        self._listener = HttpListener(HttpSettings(host=host, port=port), table, "metrics")
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._refused: UsageError | None = None
        self.where = ""
        """`http://HOST:PORT`, once it is started."""

    def start(self) -> None:
        """Listen. Raises `UsageError` for an address that cannot be listened on."""
        self._thread.start()
        self._begun.wait(START_S)
        if self._refused is not None:
            raise self._refused

    def close(self) -> None:
        """Stop listening; end every connection."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(START_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except UsageError as error:
            self._refused = error
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._counting])
        for path in ("/", "/metrics"):
            app.router.add_get(path, self._scrape, allow_head=True)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
        await runner.setup()
        try:
            async with self._listener.serving(runner) as where:
                self.where = where[0]
                self._begun.set()
                await self._stop.wait()
        finally:
            await runner.cleanup()

    async def _scrape(self, request: web.Request) -> web.Response:
        text: bytes = generate_latest(self._registry)
        return web.Response(
            body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    @web.middleware
    async def _counting(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let the table know that a request is under way; refuse those of foreign pages."""
        connection = request.protocol
        assert isinstance(connection, HttpConnection)
        connection.begin(request)
        try:
            await connection.turn()
            check_sender(request.headers, self._hosts, on_network=connection.on_network)
            with connection.turns.taking():
                answer: web.StreamResponse = await handler(request)
            return answer
        except ForeignError as error:
            return error_response(403, str(error))
        finally:
            connection.end()
