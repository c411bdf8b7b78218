"""Graphs of layer intervals on disk, by the model's digest: reading is faster than making."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from artefacts import ArtefactError, atomic_write, read_bytes
from artefacts.leftovers import sweep_parts

GRAPH_FORMAT = 3
"""Of what is made for the same model; another one is looked for elsewhere."""
CHECK_BYTES = 32
"""A file begins with the SHA-256 of what follows."""


def cached_graph(digest: str, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the cache where it is there; a cache that fails is done without.

    Lies in `COINFER_CACHE`, else in the user's cache folder, by the model's digest. A cache that
    others may write is done without too: a graph decides what every answer is.
    """
    root = cache_folder()
    if root is None:
        return make()
    folder = root / "coinfer" / f"{digest[:16]}-{GRAPH_FORMAT}"
    path = folder / f"{name}.onnx"
    if not (_made(folder.parent) and _made(folder) and (is_ours(path) or not path.exists())):
        return make()
    try:
        known = read_bytes(path)
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


def _made(folder: Path) -> bool:
    """Make a folder that its owner alone may use, where there is none; whether it is such a one."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # one that was made with a wider mode; what strangers have put there is theirs, and refused
        if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode) and found.st_mode & 0o022:
            folder.chmod(0o700)
    except OSError:
        pass  # a read-only file system may hold one all the same
    return is_ours(folder)


def is_ours(path: Path) -> bool:
    """Whether nobody but this user and root can have written here, and no link leads away."""
    try:
        found = path.lstat()
    except OSError:
        return False
    kind = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return kind and found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


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
