"""A small client of the device daemon, for programs on the same machine: sync and async.

    with Client("http://127.0.0.1:8700") as client:  # or "unix:/run/coinfer/device.sock"
        answer = client.infer(picture, deadline_s=0.1)

It needs nothing of ours but the errors' classes.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from artefacts.errors import CoinferError, UsageError

if TYPE_CHECKING:
    import aiohttp

MARGIN_S = 10.0
"""How much longer than the deadline a client waits for the daemon itself."""
HEADER_LENGTH = "Inference-Header-Content-Length"
ANSWER_BYTES = 2**20
"""Of an answer, its head and everything that comes before it included."""
MOST = 1e15
"""Of any number in an answer."""
Picture = npt.NDArray[np.uint8]
T = TypeVar("T")


class DeviceError(CoinferError):
    """The daemon refused a request, or had no answer in time; `status` is HTTP's (0: not there)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Inference:
    """One picture's answer: the class's number, how sure, and which exit gave it (from 1).

    `class_name` is the class's name ('' of a daemon that is older than names in every answer).
    """

    label: int
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    body: bytes
    headers: dict[str, str]


def _request(
    picture: Picture | bytes, deadline_s: float | None, threshold: float | None
) -> _Request:
    if deadline_s is not None and not 0.0 < deadline_s < 1e9:
        raise UsageError(f"deadline: found {deadline_s:g} s, expected more than 0 and below 1e9")
    parameters: dict[str, float] = {}
    if deadline_s is not None:
        parameters["deadline_ms"] = 1e3 * deadline_s
    if threshold is not None:
        parameters["threshold"] = threshold
    if isinstance(picture, bytes | bytearray | memoryview):
        picture = bytes(picture)
        query = urllib.parse.urlencode(parameters)
        return _Request(f"/infer?{query}", picture, {"Content-Type": "image/jpeg"})
    found = f"{getattr(picture, 'dtype', type(picture).__name__)} {np.shape(picture)}"
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
        raise UsageError(
            f"picture: found {found}, expected uint8 (H, W, 3) or the bytes of a JPEG file"
        )
    raw = np.ascontiguousarray(picture).tobytes()
    given = {
        "name": "picture",
        "shape": [1, *picture.shape],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(raw)},
    }
    header = json.dumps({"inputs": [given], "parameters": parameters}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return _Request("/infer", header + raw, headers)


def _object(status: int, body: bytes) -> dict[str, Any]:
    """An answer that is a JSON object; a refusal becomes its error."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise DeviceError(status, f"found no JSON in the answer ({body[:60]!r})") from None
    if not isinstance(found, dict):
        raise _unexpected(status, body, "a JSON object")
    if status != 200:
        raise DeviceError(status, str(found.get("error", f"status {status}"))[:500])
    return found


def _unexpected(status: int, body: bytes, expected: str) -> DeviceError:
    return DeviceError(status, f"found {body[:60]!r} in the answer, expected {expected}")


def _inference(status: int, body: bytes) -> Inference:
    found = _object(status, body)
    try:
        if "outputs" in found:
            found = {o["name"]: o["data"][0] for o in found["outputs"]} | found["parameters"]
        return Inference(
            _whole(found["label"]),
            _number(found["confidence"]),
            _whole(found["exit"]),
            _typed(str, found["plan"]),
            _typed(str, found["where"]),
            _number(found["latency_ms"]) / 1e3,
            _typed(str, found.get("class", "")),
        )
    except (TypeError, KeyError, IndexError, ValueError):
        expected = "label, confidence, exit, plan, where and latency_ms"
        raise _unexpected(status, body, expected) from None


def _state(status: int, body: bytes) -> dict[str, Any]:
    """What `/live/state` gave, every field that is shown checked."""
    found = _object(status, body)
    try:
        for field in ("model", "controller", "edge"):
            _typed(str, found[field])
        for field in ("connected", "breaker_open"):
            _typed(bool, found[field])
        for field in ("frames", "answered", "late", "refused"):
            _whole(found[field])
        _number(found["deadline_ms"])
        _measured(found["rtt_ms"])
        _measured(found.get("policy_fallback_share"))  # older daemons send none
        for second in found["seconds"]:
            _whole(second["frames"])
            for field in ("p95_ms", "bandwidth_mbps"):
                _measured(second[field])
            for field in ("exits", "plans"):
                for count in second[field].values():
                    _whole(count)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise _unexpected(status, body, "the state of a device") from None
    return found


def _number(found: Any) -> float:
    if type(found) not in (int, float) or not 0 <= found <= MOST:
        raise ValueError(found)
    return float(found)


def _measured(found: Any) -> float | None:
    return None if found is None else _number(found)


def _whole(found: Any) -> int:
    return int(_number(_typed(int, found)))


def _typed(kind: type[T], found: Any) -> T:
    if type(found) is not kind:  # true is an int too
        raise ValueError(found)
    return found


class _TooMuch(http.client.HTTPException):
    def __str__(self) -> str:
        return f"found an answer of more than {ANSWER_BYTES:,} bytes"


class _BoundedSocket(socket.socket):
    """Receives until a time (`time.monotonic`) and so many bytes; a timeout is of each byte."""

    until_s = 0.0
    left_bytes = 0

    def recv_into(self, *args: Any) -> int:
        """See `socket.socket`; `http.client` receives by this alone."""
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)
        count = super().recv_into(*args)
        self.left_bytes -= count
        if self.left_bytes < 0:
            raise _TooMuch
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
        self, address: str = "http://127.0.0.1:8700", *, margin_s: float = MARGIN_S
    ) -> None:
        """`margin_s`: how much longer than a deadline the daemon itself is waited for."""
        self._path, self._host, self._port = _address(address)
        self._margin_s = margin_s
        self._connection: http.client.HTTPConnection | None = None

    def infer(
        self,
        picture: Picture | bytes,
        *,
        deadline_s: float | None = None,
        threshold: float | None = None,
    ) -> Inference:
        """Answer a picture: uint8 (H, W, 3) as the network takes it, or a JPEG file's bytes.

        `deadline_s`: by when (the daemon's own, where None); `threshold`: an answer of the device
        at least this confident comes at once. Raises `DeviceError`.
        """
        asked = _request(picture, deadline_s, threshold)
        return _inference(*self._ask("POST", asked, self._margin_s + (deadline_s or 0.0)))

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
        bounded.until_s, bounded.left_bytes = until_s, ANSWER_BYTES
        bounded.settimeout(wait_s)
        return connection

    def _ask(self, method: str, asked: _Request, wait_s: float) -> tuple[int, bytes]:
        """Status and body; once more on a new connection where a kept one had been closed."""
        until_s = time.monotonic() + wait_s
        for again in (self._connection is not None, False):
            try:
                connection = self._connect(until_s)
                connection.request(method, asked.path, asked.body, asked.headers)
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
            body = response.read(ANSWER_BYTES + 1)
            if response.length:
                raise http.client.IncompleteRead(body, response.length)
            return response.status, body

    def state(self) -> dict[str, Any]:
        """What the daemon shows of itself (`/live/state`). Raises `DeviceError`."""
        return _state(*self._ask("GET", _Request("/live/state", b"", {}), self._margin_s))

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
        self, address: str = "http://127.0.0.1:8700", *, margin_s: float = MARGIN_S
    ) -> None:
        """`margin_s`: as of `Client`."""
        self._path, host, port = _address(address)
        self._margin_s = margin_s
        self._base = "http://localhost" if self._path else f"http://{_joined(host, port)}"
        self._session: aiohttp.ClientSession | None = None

    async def infer(
        self,
        picture: Picture | bytes,
        *,
        deadline_s: float | None = None,
        threshold: float | None = None,
    ) -> Inference:
        """As `Client.infer`."""
        asked = _request(picture, deadline_s, threshold)
        return _inference(*await self._ask("POST", asked, self._margin_s + (deadline_s or 0.0)))

    async def state(self) -> dict[str, Any]:
        """As `Client.state`."""
        return _state(*await self._ask("GET", _Request("/live/state", b"", {}), self._margin_s))

    async def _ask(self, method: str, asked: _Request, wait_s: float) -> tuple[int, bytes]:
        import aiohttp

        body = bytearray()
        try:
            async with self._opened().request(
                method, self._base + asked.path, data=asked.body or None, headers=asked.headers,
                timeout=aiohttp.ClientTimeout(total=wait_s), allow_redirects=False,
            ) as response:  # fmt: skip
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > ANSWER_BYTES:
                        response.close()
                        raise _TooMuch
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
