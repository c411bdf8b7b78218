"""A relay between one device and its edge, which fails as links and other machines do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Literal

Mode = Literal["pass", "hole", "drop", "garbage", "trickle", "half-open"]
MODES: tuple[Mode, ...] = ("hole", "drop", "garbage", "trickle", "half-open")
CLOSING_S = 5.0


class Relay:
    """Forwards one device's connections, until it is made to fail."""

    def __init__(self, target: int, rng: random.Random, host: str = "127.0.0.1") -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self._target, self._rng = (host, target), rng
        self._writers: set[asyncio.StreamWriter] = set()
        self._served: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, drop every connection and see them end."""
        self._server.close()
        self.set("drop")
        if self._served:
            await asyncio.wait(self._served, timeout=CLOSING_S)

    def set(self, mode: Mode) -> None:
        """Fail, or work again; a dropped connection is dropped at once."""
        self.mode = mode
        if mode == "drop":
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, near: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        if self.mode == "drop":
            up.transport.abort()
            return
        try:
            far, down = await asyncio.open_connection(*self._target)
        except OSError:
            up.transport.abort()
            return
        self._writers |= {up, down}
        try:
            await asyncio.gather(self._pump(near, down, False), self._pump(far, up, True))
        finally:
            for writer in (up, down):
                writer.transport.abort()
                self._writers.discard(writer)

    async def _pump(
        self, source: asyncio.StreamReader, into: asyncio.StreamWriter, replies: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                while self.mode == "hole" or (self.mode == "half-open" and replies):
                    await asyncio.sleep(0.05)
                if self.mode == "garbage" and replies:
                    data = self._rng.randbytes(len(data))
                if self.mode == "trickle":
                    await asyncio.sleep(len(data) / 2000.0)
                into.write(data)
                await into.drain()
        into.transport.abort()
