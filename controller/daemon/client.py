"""A small client of the device daemon, for programs on the same machine: sync and async.

    with Client("http://127.0.0.1:8700") as client:  # or "unix:/run/coinfer/device.sock"
        answer = client.infer(picture, deadline_s=0.1)

It sends what the network takes: a picture, a text, token ids, sound, or named arrays.

It needs nothing of ours but the errors' classes.
"""

from __future__ import annotations

import http.client
import socket
import time
import urllib.parse
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artefacts.errors import UsageError
from controller.daemon.client_messages import (
    DeviceError,
    Inference,
    Request,
    Sample,
    infer_request,
    read_inference,
    read_state,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["AsyncClient", "Client", "DeviceError", "Inference", "Sample", "UnixConnection"]

MARGIN_S = 10.0
"""How much longer than the deadline a client waits for the daemon itself."""
ANSWER_BYTES = 2**20
"""Of an answer, its head and everything that comes before it included."""


class _TooMuch(http.client.HTTPException):
    def __init__(self, most: int) -> None:
        super().__init__(f"found an answer of more than {most:,} bytes")


class _BoundedSocket(socket.socket):
    """Receives until a time (`time.monotonic`) and so many bytes; a timeout is of each byte."""

    until_s = 0.0
    left_bytes = most_bytes = 0

    def recv_into(self, *args: Any) -> int:
        """See `socket.socket`; `http.client` receives by this alone."""
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)
        count = super().recv_into(*args)
        self.left_bytes -= count
        if self.left_bytes < 0:
            raise _TooMuch(self.most_bytes)
        return count


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket at `path`; `timeout` in seconds."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """See `http.client`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _address(address: str) -> tuple[str, str, int]:
    """(path of a Unix socket or '', host, port)."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:"), "", 0
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "http" or not parts.hostname or parts.port is None:
        raise UsageError(f"address: found '{address}', expected http://HOST:PORT or unix:PATH")
    return "", parts.hostname, parts.port


def _joined(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Client:
    """One connection that is kept; not for several threads at once."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8700",
        *,
        margin_s: float = MARGIN_S,
        answer_bytes: int = ANSWER_BYTES,
    ) -> None:
        """`margin_s`: how much longer than a deadline the daemon itself is waited for;
        `answer_bytes`: of one answer at most (a number of an output takes about 20).
        """
        self._path, self._host, self._port = _address(address)
        self._margin_s, self._answer_bytes = margin_s, answer_bytes
        self._connection: http.client.HTTPConnection | None = None

    def infer(
        self,
        sample: Sample,
        *,
        deadline_s: float | None = None,
        threshold: float | None = None,
    ) -> Inference:
        """Answer a sample, as the network takes it.

        A picture is uint8 (H, W, 3) or a JPEG file's bytes; a text is text, or a pair of them;
        token ids are whole numbers (L,); sound is int16 (T,), float (T,) within -1 and 1, or a WAV
        file's bytes; what takes tensors of its own is given a dict of arrays by their names.

        `deadline_s`: by when (the daemon's own, where None); `threshold`: an answer of the device
        at least this confident comes at once. Raises `DeviceError`.
        """
        asked = infer_request(sample, deadline_s, threshold)
        return read_inference(*self._ask("POST", asked, self._margin_s + (deadline_s or 0.0)))

    def _connect(self, until_s: float) -> http.client.HTTPConnection:
        """The kept connection, or another one; its request has to be over by `until_s`."""
        wait_s = max(until_s - time.monotonic(), 1e-3)
        if self._connection is None:
            self._connection = (
                UnixConnection(self._path, wait_s)
                if self._path
                else http.client.HTTPConnection(self._host, self._port, timeout=wait_s)
            )
        connection = self._connection
        if connection.sock is None:
            connection.timeout = wait_s
            connection.connect()
            made: Any = connection.sock
            connection.sock = _BoundedSocket(made.family, made.type, made.proto, made.detach())
        bounded: Any = connection.sock
        bounded.until_s = until_s
        bounded.left_bytes = bounded.most_bytes = self._answer_bytes
        bounded.settimeout(wait_s)
        return connection

    def _ask(self, method: str, asked: Request, wait_s: float) -> tuple[int, bytes]:
        """Status and body; once more on a new connection where a kept one had been closed."""
        until_s = time.monotonic() + wait_s
        for again in (self._connection is not None, False):
            try:
                connection = self._connect(until_s)
                connection.request(method, asked.path, asked.body, dict(asked.headers))
                return self._answer(connection)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if not again or isinstance(error, TimeoutError | _TooMuch):
                    where = self._path or _joined(self._host, self._port)
                    why = f"{where}: {str(error) or type(error).__name__}"
                    raise DeviceError(0, why) from None
        raise AssertionError("unreachable")

    def _answer(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        with connection.getresponse() as response:
            # without a bound `http.client` makes room for as much as the head promises
            body = response.read(self._answer_bytes + 1)
            if response.length:
                raise http.client.IncompleteRead(body, response.length)
            return response.status, body

    def state(self) -> dict[str, Any]:
        """What the daemon shows of itself (`/live/state`). Raises `DeviceError`."""
        return read_state(*self._ask("GET", Request("/live/state"), self._margin_s))

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio; any number of requests at once."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8700",
        *,
        margin_s: float = MARGIN_S,
        answer_bytes: int = ANSWER_BYTES,
    ) -> None:
        """`margin_s`, `answer_bytes`: as of `Client`."""
        self._path, host, port = _address(address)
        self._margin_s, self._answer_bytes = margin_s, answer_bytes
        self._base = "http://localhost" if self._path else f"http://{_joined(host, port)}"
        self._session: aiohttp.ClientSession | None = None

    async def infer(
        self,
        sample: Sample,
        *,
        deadline_s: float | None = None,
        threshold: float | None = None,
    ) -> Inference:
        """As `Client.infer`."""
        asked = infer_request(sample, deadline_s, threshold)
        return read_inference(*await self._ask("POST", asked, self._margin_s + (deadline_s or 0.0)))

    async def state(self) -> dict[str, Any]:
        """As `Client.state`."""
        return read_state(*await self._ask("GET", Request("/live/state"), self._margin_s))

    async def _ask(self, method: str, asked: Request, wait_s: float) -> tuple[int, bytes]:
        import aiohttp

        body = bytearray()
        try:
            async with self._opened().request(
                method, self._base + asked.path, data=asked.body or None, headers=asked.headers,
                timeout=aiohttp.ClientTimeout(total=wait_s), allow_redirects=False,
            ) as response:  # fmt: skip
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > self._answer_bytes:
                        response.close()
                        raise _TooMuch(self._answer_bytes)
                return response.status, bytes(body)
        except (OSError, aiohttp.ClientError, _TooMuch) as error:
            why = f"{self._path or self._base}: {str(error) or type(error).__name__}"
            raise DeviceError(0, why) from None

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.UnixConnector(self._path) if self._path else None
            # a few bytes may unpack to any number of them
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, headers={"Accept-Encoding": "identity"}
            )
        return self._session

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
