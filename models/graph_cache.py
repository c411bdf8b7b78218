"""Graphs of layer intervals on disk, by the model's digest: reading is faster than making."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from artefacts import ArtefactError, atomic_write

GRAPH_FORMAT = 2
"""Of what is made for the same model; another one is looked for elsewhere."""
CHECK_BYTES = 32
"""A file begins with the SHA-256 of what follows."""


def cached_graph(digest: str, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the cache where it is there; a cache that fails is done without.

    Lies in `COINFER_CACHE`, else in the user's cache folder, by the model's digest.
    """
    named = os.environ.get("COINFER_CACHE") or os.environ.get("XDG_CACHE_HOME")
    root = Path(named) if named else Path.home() / ".cache"
    path = root / "coinfer" / f"{digest[:16]}-{GRAPH_FORMAT}" / f"{name}.onnx"
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    kept, found = known[:CHECK_BYTES], known[CHECK_BYTES:]
    if known and kept == hashlib.sha256(found).digest():  # else cut short by a full disk
        return found
    graph = make()
    try:
        with atomic_write(path, "wb") as stream:
            stream.write(hashlib.sha256(graph).digest() + graph)
    except (ArtefactError, OSError):
        # a read-only file system costs the next start some seconds, and nothing else
        return graph
    return graph
