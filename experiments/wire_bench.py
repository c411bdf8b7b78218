"""Round trips through the production path against plain blocking sockets, in the same run."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from controller.runtime.edge import EdgeServer
from controller.runtime.link import EdgeLink, Reply
from controller.runtime.secure import Security
from models.branchy import BranchySpec, ExitSpec
from models.cards import Card, Model
from models.codecs import Encoded
from models.layers import LayerSpec

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CLASSES = 10
WARMUP = 20
WAIT_S = 30.0


class WireRow(msgspec.Struct, frozen=True):
    """Median and 95th percentile of round trips of one size, and the ratio to blocking sockets."""

    path: str
    size_bytes: int
    median_us: float
    p95_us: float
    ratio: float


class _Nothing:
    """Computes nothing, in no time: what is left is the wire's, the scheduler's and ours."""

    def run(self, branch: int, start: int, stop: int, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.zeros((len(x), CLASSES), dtype=np.float32)

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        return Encoded(np.ascontiguousarray(x).tobytes(), {})

    def decode(
        self, codec: str, branch: int, cut: int, meta: Any, data: bytes
    ) -> npt.NDArray[np.float32]:
        return np.zeros((1, 1), dtype=np.float32)


def _model(size_bytes: int) -> Model:
    """A network whose input is `size_bytes` of float32."""
    spec = BranchySpec(
        "wire",
        (size_bytes // 40, 10),
        CLASSES,
        (LayerSpec("fc", "fc", channels=CLASSES),),
        (ExitSpec(1),),
    )
    third = (0.0, 0.0, 0.0)
    card = Card(
        1, "wire", spec, "0" * 64, ("",) * CLASSES, "none", third, (1.0, 1.0, 1.0), {}, (), ()
    )
    return Model(spec, {}, card, f"{size_bytes:064x}", Path())


def wire_rows(
    repeats: int,
    sizes: tuple[int, ...] = SIZES,
    security: tuple[Security, Security] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[WireRow]:
    """Round trips of requests with small answers, the paths in turn; `security` adds TLS.

    (the edge's side, the device's side) of `security` as `controller.runtime.secure` makes them.
    """
    rows = []
    for size in sizes:
        with contextlib.ExitStack() as stack:
            paths = {
                "blocking sockets": stack.enter_context(_blocking(size)),
                "coinfer": stack.enter_context(_production(size, None)),
            }
            if security is not None:
                paths["coinfer, TLS"] = stack.enter_context(_production(size, security))
            times: dict[str, list[float]] = {name: [] for name in paths}
            for turn in range(-WARMUP, repeats):
                for name, ask in paths.items():
                    begun = clock()
                    ask()
                    if turn >= 0:
                        times[name].append(clock() - begun)
        base = float(np.median(times["blocking sockets"]))
        for name, seen in times.items():
            median, p95 = np.quantile(seen, [0.5, 0.95])
            rows.append(
                WireRow(name, size, 1e6 * float(median), 1e6 * float(p95), float(median) / base)
            )
    return rows


@contextlib.contextmanager
def _blocking(size: int) -> Iterator[Callable[[], None]]:
    """A length, that many bytes, and an answer of 64."""
    data, answer = struct.pack("<Q", size) + bytes(size), bytes(64)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            room = bytearray(size)
            with sock, contextlib.suppress(ConnectionError):
                while len(head := sock.recv(8, socket.MSG_WAITALL)) == 8:
                    view = memoryview(room)[: struct.unpack("<Q", head)[0]]
                    while view:
                        view = view[sock.recv_into(view) :]
                    sock.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask() -> None:
                sock.sendall(data)
                sock.recv(64, socket.MSG_WAITALL)

            yield ask
        thread.join(WAIT_S)


@contextlib.contextmanager
def _production(
    size: int, security: tuple[Security, Security] | None
) -> Iterator[Callable[[], None]]:
    model, replies = _model(size), queue.Queue[Reply]()
    server = EdgeServer(model, _Nothing(), security=None if security is None else security[0])
    server.start()
    link = EdgeLink(
        "127.0.0.1", server.port, model.digest, replies.put,
        security=None if security is None else security[1],
    )  # fmt: skip
    data = bytes(size)
    meta = {"model": model.digest, "exit": 0, "start": 0, "stop": 1, "codec": "float32",
            "shape": [size // 40, 10]}  # fmt: skip

    def ask() -> None:
        if link.upload(meta, data) is None:
            raise ConnectionError(link.last_error or "the link is down")
        reply = replies.get(timeout=WAIT_S)
        if reply.error is not None:
            raise ConnectionError(reply.error)

    try:
        link.wait_connected(WAIT_S)
        yield ask
    finally:
        link.close()
        server.close()
