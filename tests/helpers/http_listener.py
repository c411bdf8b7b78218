"""A listener for real clients, with a clock that the tests set."""

import asyncio
import contextlib
import logging

import msgspec
from aiohttp import web

from controller.daemon.configuration.settings import HttpSettings, LimitSettings
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.listening import HttpListener

LOG = logging.getLogger("coinfer.test")
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Listener:
    """An application behind the daemon's listener: `/` answers, `/hold` waits for `go`."""

    def __init__(self, **limits):
        self.limits = msgspec.structs.replace(LimitSettings(), **limits)
        self.now_s = 100.0
        self.table = ConnectionTable(lambda: self.limits, LOG, lambda: self.now_s)
        self.go = asyncio.Event()
        self.address, self.clients = None, []

    @contextlib.asynccontextmanager
    async def open(self, path="", host="127.0.0.1"):
        @web.middleware
        async def reported(request, handler):
            request.protocol.begin(request)
            try:
                return await handler(request)
            finally:
                request.protocol.end()

        async def answer(request):
            return web.Response(text="ok")

        async def hold(request):
            await self.go.wait()
            return web.Response(text="held")

        async def large(request):
            return web.Response(body=bytes(50_000_000))

        async def body(request):
            if request.protocol.chunked:
                await request.protocol.turn_of_chunks()
            return web.Response(text=str(len(await request.read())))

        async def turn(request):
            await request.protocol.turn(1e6)
            return web.Response(text="ok")

        app = web.Application(middlewares=[reported])
        app.add_routes([web.get("/", answer), web.get("/hold", hold), web.get("/large", large)])
        app.add_routes([web.post("/", body), web.get("/turn", turn)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            listener = HttpListener(HttpSettings(host=host, port=0, socket=path), self.table)
            async with listener.serving(runner) as where:
                host, port = where[0].removeprefix("http://").rsplit(":", 1)
                self.address = (host.strip("[]"), int(port))
                yield self
        finally:
            self.go.set()
            for writer in self.clients:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await runner.cleanup()

    async def connect(self, said=b"", path=None):
        reader, writer = await (
            asyncio.open_unix_connection(path) if path else asyncio.open_connection(*self.address)
        )
        self.clients.append(writer)
        writer.write(said)
        await writer.drain()
        return reader, writer

    async def settled(self, count):
        """Wait until so many connections are open."""
        async with asyncio.timeout(10):
            while len(self.table.open) != count:
                await asyncio.sleep(0.005)


async def head_of(reader):
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\n")


async def answered(client, said=GET):
    """The status of one request on a connection that is kept."""
    reader, writer = client
    writer.write(said)
    head = await head_of(reader)
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    async with asyncio.timeout(10):
        await reader.readexactly(length)
    return int(head.split()[1])


async def hung_up(client):
    """Whether the other end has closed."""
    try:
        async with asyncio.timeout(5):
            return await client[0].read(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 60))
