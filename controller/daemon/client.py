"""A small client of the device daemon, for programs on the same machine: sync and async.

with Client("http://127.0.0.1:8700") as client:     # or "unix:/run/coinfer/device.sock"
answer = client.infer(picture, deadline_s=0.1)
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

from artefacts import CoinferError, UsageError

if TYPE_CHECKING:
    import aiohttp

MARGIN_S = 10.0
"""How much longer than the deadline a client waits for the daemon itself."""
HEADER_LENGTH = "Inference-Header-Content-Length"
Picture = npt.NDArray[np.uint8]


class DeviceError(CoinferError):
    """The daemon refused a request, or had no answer in time; `status` is HTTP's."""

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
    parameters: dict[str, float] = {}
    if deadline_s is not None:
        parameters["deadline_ms"] = 1e3 * deadline_s
    if threshold is not None:
        parameters["threshold"] = threshold
    if isinstance(picture, bytes):
        query = urllib.parse.urlencode(parameters)
        return _Request(f"/infer?{query}", picture, {"Content-Type": "image/jpeg"})
    if picture.dtype != np.uint8 or picture.ndim != 3:
        raise UsageError(
            f"picture: found {picture.dtype} {picture.shape}, expected uint8 (H, W, 3) or the "
            "bytes of a JPEG file"
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


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
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


class Client:
    """One connection that is kept; not for several threads at once."""

    def __init__(self, address: str = "http://127.0.0.1:8700") -> None:
        self._path, self._host, self._port = _address(address)
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
        wait_s = MARGIN_S + (deadline_s or 0.0)
        kept = self._connection is not None
        try:
            return self._ask(asked, wait_s)
        except (ConnectionError, http.client.HTTPException):
            self.close()
            if not kept:
                raise
        # the daemon may have closed a connection that was idle: once more on a new one
        return self._ask(asked, wait_s)

    def _connect(self, wait_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = (
                _UnixConnection(self._path, wait_s)
                if self._path
                else http.client.HTTPConnection(self._host, self._port, timeout=wait_s)
            )
        return self._connection

    def _ask(self, asked: _Request, wait_s: float) -> Inference:
        connection = self._connect(wait_s)
        connection.request("POST", asked.path, asked.body, asked.headers)
        response = connection.getresponse()
        return _inference(response.status, response.read())

    def state(self) -> dict[str, Any]:
        """What the daemon shows of itself (`/live/state`)."""
        connection = self._connect(MARGIN_S)
        connection.request("GET", "/live/state")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise DeviceError(response.status, f"/live/state: status {response.status}")
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
        self._base = "http://localhost" if self._path else f"http://{host}:{port}"
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
        async with self._opened().post(
            self._base + asked.path, data=asked.body, headers=asked.headers, timeout=limit
        ) as response:
            return _inference(response.status, await response.read())

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
