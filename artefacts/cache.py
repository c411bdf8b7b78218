"""The user's cache folder: what is kept there was made once and can be made again.

What others may have written is never read from it: a cached graph, or a tuned value, decides what
the program answers.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


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


def private_folder(*names: str) -> Path | None:
    """The folder `coinfer/NAMES` of the cache, made where it is not there.

    None where it cannot be had: there is no cache folder, or others may write in it.
    """
    root = cache_folder()
    if root is None:
        return None
    folder = root / "coinfer"
    for name in ("", *names):
        folder = folder / name
        if not _made(folder):
            return None
    return folder


def _made(folder: Path) -> bool:
    """Make a folder that its owner alone may use, where there is none; whether it is such a one."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # one that was made with a wider mode; what others have put there is theirs, and refused
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
