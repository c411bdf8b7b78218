"""Graphs of layer intervals on disk, by the model's digest: reading is faster than making."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from artefacts import ArtefactError, atomic_write, read_bytes
from artefacts.cache import is_ours, private_folder
from artefacts.leftovers import sweep_parts

GRAPH_FORMAT = 3
"""Of what is made for the same model; another one is looked for elsewhere."""
GRAPH_BYTES = 2**31
"""A graph has no more (protobuf's own bound)."""
CHECK_BYTES = 32
"""A file begins with the SHA-256 of what follows."""


def cached_graph(digest: str, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the cache where it is there; a cache that fails is done without.

    Lies in `COINFER_CACHE`, else in the user's cache folder, by the model's digest. A cache that
    others may write is done without too: a graph decides what every answer is.
    """
    folder = private_folder(f"{digest[:16]}-{GRAPH_FORMAT}")
    if folder is None:
        return make()
    path = folder / f"{name}.onnx"
    if path.exists() and not is_ours(path):
        return make()
    try:
        known = read_bytes(path, GRAPH_BYTES)
    except ArtefactError:
        known = b""
    kept, found = known[:CHECK_BYTES], known[CHECK_BYTES:]
    if known and kept == hashlib.sha256(found).digest():  # else cut short by a full disk
        return found
    graph = make()
    sweep_parts(folder)
    try:
        with atomic_write(path, "wb") as stream:
            stream.write(hashlib.sha256(graph).digest() + graph)
    except ArtefactError:
        # a read-only file system costs the next start some seconds, and nothing else
        return graph
    return graph
