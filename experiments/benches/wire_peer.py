"""The far ends that `bench wire` asks, each a process of its own: 64 bytes for any request.

    python -m experiments.benches.wire_peer KIND SIZE...

Prints one JSON line with its port and ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.edge.server import EdgeServer
from controller.link.secure import Security, TlsFiles, client_security, server_security
from models.codecs import Encoded
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, Model
from models.facts.layers import LayerSpec
from models.facts.preprocessing import PictureInput

KINDS = ("blocking", "coinfer", "grpc", "torch-rpc")
CLASSES = 10
ANSWER = bytes(64)
GRPC_METHOD = "/bench.Wire/Ask"
TORCH_NAMES = ("device", "edge")


class Nothing:
    """An executor that computes nothing, in no time: what is left is the wire's and ours."""

    def run(self, branch: int, start: int, stop: int, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Zeros for every sample. See `Executor.run`."""
        return np.zeros((len(x), CLASSES), dtype=np.float32)

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """The bytes as they are. See `Executor.encode`."""
        return Encoded(np.ascontiguousarray(x).tobytes(), {})

    def decode(
        self, codec: str, branch: int, cut: int, meta: Any, data: bytes
    ) -> npt.NDArray[np.float32]:
        """A tensor of one number, whatever came. See `Executor.decode`."""
        return np.zeros((1, 1), dtype=np.float32)


def wire_model(size_bytes: int) -> Model:
    """A network whose input is `size_bytes` (a multiple of 40) of float32."""
    layers = (LayerSpec("fc", "fc", channels=CLASSES),)
    spec = BranchySpec("wire", (size_bytes // 40, 10), CLASSES, layers, (ExitSpec(1),))
    card = Card(2, "wire", spec, "0" * 64, ("",) * CLASSES, "none", PictureInput(), {}, (), ())
    return Model(spec, {}, card, f"{size_bytes:064x}", Path())


def make_credentials(folder: Path) -> None:
    """An authority and a certificate for either end, for a day."""
    import datetime

    from controller.daemon.configuration.certificates import make_authority, make_certificate

    now = datetime.datetime.now(datetime.UTC)
    make_authority(folder, now)
    make_certificate(folder, "edge", "edge", ["127.0.0.1"], 1, now)
    make_certificate(folder, "device", "device", [], 1, now)


def credentials(folder: Path, end: str) -> Security:
    """One end's of what `make_credentials` made."""
    certificate = folder / f"{end}.pem"
    files = TlsFiles(str(folder / "ca.pem"), str(certificate), str(certificate.with_suffix(".key")))
    return server_security(files) if end == "edge" else client_security(files)


@contextlib.contextmanager
def blocking(host: str, sizes: Sequence[int]) -> Iterator[int]:
    """A thread a connection: a length, that many bytes, and an answer."""
    with socket.create_server((host, 0)) as listener:

        def serve(sock: socket.socket) -> None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            room = bytearray(max(sizes))
            with sock, contextlib.suppress(ConnectionError):
                while len(head := sock.recv(8, socket.MSG_WAITALL)) == 8:
                    view = memoryview(room)[: struct.unpack("<Q", head)[0]]
                    while view:
                        view = view[sock.recv_into(view) :]
                    sock.sendall(ANSWER)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@contextlib.contextmanager
def production(host: str, sizes: Sequence[int], tls: Path | None) -> Iterator[int]:
    """The edge server as it is, serving a network of every size."""
    models = [wire_model(size) for size in sizes]
    security = None if tls is None else credentials(tls, "edge")
    server = EdgeServer(models[0], Nothing(), host, security=security)
    for model in models[1:]:
        server.add(model, Nothing())
    server.start()
    try:
        yield server.port
    finally:
        server.close()


@contextlib.contextmanager
def grpc_server(host: str, sizes: Sequence[int]) -> Iterator[int]:
    """A unary call of raw bytes."""
    import grpc

    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: ANSWER)
    service, method = GRPC_METHOD.strip("/").split("/")
    server = grpc.server(
        ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 4 * max(sizes))]
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def torch_answer(request: Any) -> Any:
    """What the edge's worker does for a tensor."""
    import torch

    return torch.zeros(len(ANSWER), dtype=torch.uint8)


def join_torch(rank: int, port: int) -> None:
    """Make this process one of the two workers of torch's RPC; waits for the other."""
    import warnings

    from torch.distributed import rpc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}")
        rpc.init_rpc(  # type: ignore[no-untyped-call]
            TORCH_NAMES[rank], rank=rank, world_size=2, rpc_backend_options=options
        )


def leave_torch() -> None:
    """End this process's part of it, whatever the other does."""
    from torch.distributed import rpc

    rpc.shutdown(graceful=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--tls", type=Path, help="folder of `make_credentials`")
    parser.add_argument("--meet", type=int, default=0, help="port of torch's rendezvous")
    args = parser.parse_args(argv)
    if args.kind == "torch-rpc":
        join_torch(1, args.meet)
        print(json.dumps({"port": args.meet}), flush=True)
        sys.stdin.read()
        leave_torch()
        return 0
    if args.kind == "blocking":
        server = blocking(args.host, args.sizes)
    elif args.kind == "grpc":
        server = grpc_server(args.host, args.sizes)
    else:
        server = production(args.host, args.sizes, args.tls)
    with server as port:
        print(json.dumps({"port": port}), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
