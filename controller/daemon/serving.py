"""The local interface as one thing to serve: HTTP on its sockets, gRPC where it is asked for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from controller.daemon.configuration.settings import GrpcSettings, HttpSettings
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.interface import LocalInterface
from controller.daemon.http.listening import HttpListener
from controller.daemon.inference.served import ServedModel
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.settling import settle
from controller.link.accepting import raise_descriptor_limit

log = logging.getLogger("coinfer.device")
HANG_UP_S = 2.0
"""What a client that has sent half a request may take, once all frames are answered."""


class LocalService:
    """Serves one model to whoever is on this machine."""

    def __init__(
        self,
        served: ServedModel,
        metrics: DeviceMetrics,
        http: HttpSettings,
        grpc: GrpcSettings | None,
    ) -> None:
        """`grpc` None: the library is never loaded."""
        raise_descriptor_limit()
        self._served, self._metrics, self._grpc = served, metrics, grpc
        self._interface = LocalInterface(served, metrics, (http.host, *http.hosts))
        self._listener = HttpListener(http, ConnectionTable(lambda: served.limits, log))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[list[str]]:
        """Where it listens, until the block ends. Raises `UsageError` where it cannot."""
        runner = web.AppRunner(
            self._interface.application(), access_log=None, shutdown_timeout=HANG_UP_S,
            handler_cancellation=True,  # whoever has gone holds no place among the work
        )  # fmt: skip
        await runner.setup()
        try:
            async with contextlib.AsyncExitStack() as stack:
                where = await stack.enter_async_context(self._listener.serving(runner))
                if self._grpc is not None:
                    from controller.daemon.grpc.process import GrpcService

                    service = GrpcService(self._served, self._grpc)
                    self._metrics.add(*service.figures())
                    where.append(await stack.enter_async_context(service.serving()))
                settle()  # all that serves is made
                yield where
        finally:
            await runner.cleanup()

    def remove_socket(self) -> None:
        """Leave no socket in the file system."""
        self._listener.remove_socket()
