"""Graphs of layer intervals on disk, by the model's digest: reading is faster than making."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from artefacts import ArtefactError, atomic_write, read_bytes

GRAPH_FORMAT = 2
"""Of what is made for the same model; another one is looked for elsewhere."""
CHECK_BYTES = 32
"""A file begins with the SHA-256 of what follows."""


def cached_graph(digest: str, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the cache where it is there; a cache that fails is done without.

    Lies in `COINFER_CACHE`, else in the user's cache folder, by the model's digest.
    """
    root = cache_folder()
    if root is None:
        return make()
    path = root / "coinfer" / f"{digest[:16]}-{GRAPH_FORMAT}" / f"{name}.onnx"
    try:
        known = read_bytes(path)
    except ArtefactError:
        known = b""
    kept, found = known[:CHECK_BYTES], known[CHECK_BYTES:]
    if known and kept == hashlib.sha256(found).digest():  # else cut short by a full disk
        return found
    graph = make()
    try:
        with atomic_write(path, "wb") as stream:
            stream.write(hashlib.sha256(graph).digest() + graph)
    except ArtefactError:
        # a read-only file system costs the next start some seconds, and nothing else
        return graph
    return graph


def cache_folder() -> Path | None:
    """`COINFER_CACHE`, else `XDG_CACHE_HOME` (an absolute one), else the home's `.cache`.

    None where there is no home: a container's user may be any number, with no entry anywhere.
    """
    if named := os.environ.get("COINFER_CACHE"):
        return Path(named)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG base directory specification passes over others
        return Path(shared)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None
