"""A small client of the device daemon, for programs on the same machine: sync and async.

    with Client("http://127.0.0.1:8700") as client:  # or "unix:/run/coinfer/device.sock"
        answer = client.infer(picture, deadline_s=0.1)

It needs nothing of ours but the errors' classes: a program that has files of its own with the names
of our rooms beside it gets this client all the same (`coinfer/__init__.py`).
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import aiohttp

    from artefacts.errors import CoinferError, UsageError
elif __name__ == "coinfer._client":
    from coinfer._errors import CoinferError, UsageError
else:
    from artefacts.errors import CoinferError, UsageError

MARGIN_S = 10.0
"""How much longer than the deadline a client waits for the daemon itself."""
HEADER_LENGTH = "Inference-Header-Content-Length"
Picture = npt.NDArray[np.uint8]


class DeviceError(CoinferError):
    """The daemon refused a request, or had no answer in time; `status` is HTTP's (0: not there)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Inference:
    """One picture's answer: the class's number, how sure, and which exit gave it (from 1)."""

    label: int
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float


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


def _inference(status: int, body: bytes) -> Inference:
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError:
        raise DeviceError(status, f"found no JSON in the answer ({body[:60]!r})") from None
    if status != 200:
        raise DeviceError(status, str(found.get("error", f"status {status}")))
    if "outputs" in found:
        found = {o["name"]: o["data"][0] for o in found["outputs"]} | found["parameters"]
    return Inference(
        int(found["label"]),
        float(found["confidence"]),
        int(found["exit"]),
        str(found["plan"]),
        str(found["where"]),
        float(found["latency_ms"]) / 1e3,
    )


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
        wait_s = self._margin_s + (deadline_s or 0.0)
        return _inference(*self._ask("POST", asked, wait_s))

    def _connect(self, wait_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = (
                UnixConnection(self._path, wait_s)
                if self._path
                else http.client.HTTPConnection(self._host, self._port, timeout=wait_s)
            )
        self._connection.timeout = wait_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(wait_s)
        return self._connection

    def _ask(self, method: str, asked: _Request, wait_s: float) -> tuple[int, bytes]:
        """Status and body; once more on a new connection where a kept one had been closed."""
        for again in (self._connection is not None, False):
            try:
                connection = self._connect(wait_s)
                connection.request(method, asked.path, asked.body, asked.headers)
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not again or isinstance(error, TimeoutError):
                    where = self._path or _joined(self._host, self._port)
                    why = f"{where}: {error or type(error).__name__}"
                    raise DeviceError(0, why) from None
        raise AssertionError("unreachable")

    def state(self) -> dict[str, Any]:
        """What the daemon shows of itself (`/live/state`)."""
        status, body = self._ask("GET", _Request("/live/state", b"", {}), self._margin_s)
        if status != 200:
            raise DeviceError(status, f"/live/state: status {status}")
        found: dict[str, Any] = json.loads(body)
        return found

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

    def __init__(self, address: str = "http://127.0.0.1:8700") -> None:
        self._path, host, port = _address(address)
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
        import aiohttp

        asked = _request(picture, deadline_s, threshold)
        limit = aiohttp.ClientTimeout(total=MARGIN_S + (deadline_s or 0.0))
        try:
            async with self._opened().post(
                self._base + asked.path, data=asked.body, headers=asked.headers, timeout=limit
            ) as response:
                return _inference(response.status, await response.read())
        except (OSError, aiohttp.ClientError) as error:
            why = f"{self._path or self._base}: {error or type(error).__name__}"
            raise DeviceError(0, why) from None

    async def state(self) -> dict[str, Any]:
        """As `Client.state`."""
        async with self._opened().get(self._base + "/live/state") as response:
            found: dict[str, Any] = await response.json()
            return found

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.UnixConnector(self._path) if self._path else None
            self._session = aiohttp.ClientSession(connector=connector)
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
