"""Compiles the protocol's messages: `python -m controller.daemon.grpc.build` (needs grpcio-tools).

Run it after a change of `open_inference.proto`; what it writes is kept beside that file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from artefacts import DependencyError, atomic_write
from controller.daemon.grpc.messages import DESCRIPTORS

SOURCE = DESCRIPTORS.with_suffix(".proto")


def compiled() -> bytes:
    """The descriptor set of the messages, without comments. Raises `DependencyError`."""
    try:
        from grpc_tools import protoc
    except ImportError:
        raise DependencyError(
            "found no grpcio-tools, expected it (pip install grpcio-tools)"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        code = protoc.main(
            ["protoc", f"-I{SOURCE.parent}", f"--descriptor_set_out={out}", SOURCE.name]
        )
        if code:
            raise DependencyError(f"{SOURCE}: found what the compiler of messages refuses")
        return out.read_bytes()


if __name__ == "__main__":
    with atomic_write(DESCRIPTORS, "wb") as stream:
        stream.write(compiled())
