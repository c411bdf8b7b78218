"""Round trips through the production path against plain blocking sockets, gRPC and torch's RPC.

Every far end is a process of its own (`wire_peer`); all paths are asked in turn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
import socket
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import processes
from artefacts.endings import orderly
from artefacts.owners import temporary_folder
from controller.link.edge_link import EdgeLink
from controller.link.interface import Reply
from experiments.benches import wire_peer
from experiments.replay.testbed.namespaces import TestbedError

SIZES = (1_000, 10_000, 100_000, 1_000_000)
WARMUP = 20
WAIT_S = 30.0
BASE = "blocking sockets"
Ask = Callable[[], None]


class WireRow(msgspec.Struct, frozen=True):
    """Median and 95th percentile of round trips of one size, and the ratio to blocking sockets."""

    path: str
    size_bytes: int
    median_us: float
    p95_us: float
    ratio: float


def lacking() -> tuple[str, ...]:
    """What of the rivals is not installed."""
    rivals = {"grpc": "grpcio", "torch": "torch"}
    return tuple(name for module, name in rivals.items() if not importlib.util.find_spec(module))


def wire_rows(
    repeats: int,
    sizes: tuple[int, ...] = SIZES,
    *,
    tls: bool = False,
    rivals: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> list[WireRow]:
    """Round trips of requests with small answers, the paths in turn.

    `tls` adds the same over TLS; `rivals` gRPC and torch's RPC, those of them that are installed.

    `repeats` requests of each of `sizes` bytes; `clock` gives seconds.
    """
    rows = []
    with orderly(), contextlib.ExitStack() as stack:
        asked = _paths(sizes, tls, rivals, stack)
        for size in sizes:
            times: dict[str, list[float]] = {name: [] for name in asked}
            with contextlib.ExitStack() as opened:
                paths = {n: opened.enter_context(begin(size)) for n, begin in asked.items()}
                for turn in range(-WARMUP, repeats):
                    for name, ask in paths.items():
                        begun = clock()
                        ask()
                        if turn >= 0:
                            times[name].append(clock() - begun)
            base = float(np.median(times[BASE]))
            for name, seen in times.items():
                median, p95 = np.quantile(seen, [0.5, 0.95])
                rows.append(
                    WireRow(name, size, 1e6 * float(median), 1e6 * float(p95), float(median) / base)
                )
    return rows


def _paths(
    sizes: Sequence[int], tls: bool, rivals: bool, stack: contextlib.ExitStack
) -> dict[str, Callable[[int], contextlib.AbstractContextManager[Ask]]]:
    """How each path is opened for a size; the far ends run as long as `stack` is open."""
    blocking = stack.enter_context(peer("blocking", sizes))
    plain = stack.enter_context(peer("coinfer", sizes))
    made: dict[str, Callable[[int], contextlib.AbstractContextManager[Ask]]] = {
        BASE: lambda size: _blocking(blocking, size),
        "coinfer": lambda size: production("127.0.0.1", plain, size, None),
    }
    if tls:
        folder = stack.enter_context(temporary_folder("bench"))
        wire_peer.make_credentials(folder)
        secure = stack.enter_context(peer("coinfer", sizes, "--tls", str(folder)))
        made["coinfer, TLS"] = lambda size: production("127.0.0.1", secure, size, folder)
    if rivals and "grpcio" not in lacking():
        port = stack.enter_context(peer("grpc", sizes))
        made["gRPC"] = lambda size: _grpc(port, size)
    if rivals and "torch" not in lacking():
        stack.enter_context(_torch_workers(sizes))
        made["torch RPC"] = _torch
    return made


@contextlib.contextmanager
def peer(
    kind: str, sizes: Sequence[int], *options: str, prefix: Sequence[str] = (), wait: bool = True
) -> Iterator[int]:
    """A far end in its own process (behind `prefix`, as in a namespace); its port.

    `kind` is which one, `sizes` are the bytes that it is asked with; without `wait` nobody waits
    for its port, which is then 0.
    """
    command = processes.module_command(
        "experiments.benches.wire_peer", kind, *map(str, sizes), *options
    )
    with processes.Children(grace_s=0.0) as children:
        process = children.start(
            [*prefix, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        yield json.loads(process.stdout.readline() or "{}").get("port", 0) if wait else 0


@contextlib.contextmanager
def _blocking(port: int, size: int) -> Iterator[Ask]:
    data = struct.pack("<Q", size) + bytes(size)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            sock.sendall(data)
            sock.recv(len(wire_peer.ANSWER), socket.MSG_WAITALL)

        yield ask


@contextlib.contextmanager
def production(host: str, port: int, size: int, tls: Path | None) -> Iterator[Ask]:
    """A device's link to an edge that serves networks of `size`; requests by `ask`.

    The edge is at `host` and `port`; `tls` is the folder of certificates (None: none).
    """
    with opened(host, port, size, tls) as (ask, _):
        yield ask


@contextlib.contextmanager
def opened(host: str, port: int, size: int, tls: Path | None) -> Iterator[tuple[Ask, EdgeLink]]:
    """The same, with the link itself.

    The edge is at `host` and `port`, for networks of `size` bytes; `tls` is the folder of
    certificates (None: none).
    """
    model, replies = wire_peer.wire_model(size), queue.Queue[Reply]()
    security = None if tls is None else wire_peer.credentials(tls, "device")
    link = EdgeLink(host, port, model.digest, replies.put, security=security)
    data = bytes(size)
    meta = {"model": model.digest, "exit": 0, "start": 0, "stop": 1, "codec": "float32",
            "shape": [size // 40, 10]}  # fmt: skip

    def ask() -> None:
        if link.upload(meta, data) is None:
            raise TestbedError(f"link: {link.last_error or 'found it down, expected it up'}")
        reply = replies.get(timeout=WAIT_S)
        if reply.error is not None:
            raise TestbedError(f"edge: {reply.error}")

    try:
        link.wait_connected(WAIT_S)
        yield ask, link
    finally:
        link.close()


@contextlib.contextmanager
def _grpc(port: int, size: int) -> Iterator[Ask]:
    import grpc

    data = bytes(size)
    limit = [("grpc.max_send_message_length", 4 * size + 4096)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=limit) as channel:
        call = channel.unary_unary(wire_peer.GRPC_METHOD)
        yield lambda: call(data, timeout=WAIT_S)


@contextlib.contextmanager
def _torch_workers(sizes: Sequence[int]) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    with peer("torch-rpc", sizes, "--meet", str(port), wait=False):
        wire_peer.join_torch(0, port)
        try:
            yield
        finally:
            wire_peer.leave_torch()


@contextlib.contextmanager
def _torch(size: int) -> Iterator[Ask]:
    import torch
    from torch.distributed import rpc

    data = torch.zeros(size, dtype=torch.uint8)

    def ask() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rpc.rpc_sync(wire_peer.TORCH_NAMES[1], wire_peer.torch_answer, args=(data,))

    yield ask
