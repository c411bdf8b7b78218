"""The user's cache folder: what is kept there was made once and can be made again.

What others may have written is never read from it: a cached graph, or a tuned value, decides what
the program answers. Whoever may rename a folder above it can put another one in its place.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
import time
from pathlib import Path

log = logging.getLogger("coinfer.cache")
GROUP, OTHERS = 0o020, 0o002
"""Who may write, in a mode."""


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
    """The folder `coinfer/NAMES` of the cache, made where it is not there; no link is on its way.

    None where it cannot be had: there is no cache folder, or others may write in it or above it.
    """
    root = cache_folder()
    if root is None:
        return None
    try:
        place = Path(os.path.realpath(root))
        open_to_others = _first_unguarded(place)
        if open_to_others is not None:
            _say(str(root), str(open_to_others))
            return None
        missing = [one for one in (place, *place.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
        if missing and _first_unguarded(place) is not None:
            return None  # somebody else has made it meanwhile
    except (OSError, ValueError):  # a NUL in a name
        return None
    folder = place / "coinfer"
    for name in ("", *names):
        folder = folder / name
        if not _made(folder):
            return None
    return folder


def _made(folder: Path) -> bool:
    """Make a folder that its owner alone may use, where there is none; whether it is such a one."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode) and found.st_mode & 0o022:
            _replace(folder)
    except OSError:
        pass  # a read-only file system may hold one all the same
    return is_ours(folder)


def _replace(folder: Path) -> None:
    """Begin anew in the place of a folder that was open to others.

    They may have put files there, or given ours other names: closed now, it would be believed.
    """
    left = folder.with_name(f"{folder.name}.open-to-others-{time.time_ns()}")
    folder.rename(left)
    left.chmod(0o700)
    folder.mkdir(mode=0o700)
    log.warning("'%s' was open to others: what was kept there is not used, and lies in '%s'",
                folder, left.name)  # fmt: skip


def is_ours(path: Path) -> bool:
    """Whether nobody but this user and root can have written here, and no link leads away."""
    try:
        found = path.lstat()
    except OSError:
        return False
    kind = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return kind and found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


def is_guarded(path: Path) -> bool:
    """Whether a file that is kept in a folder somebody named is ours, and nobody else could have
    put another one in its place. Whoever names a group's folder believes the group.
    """
    try:
        if not is_ours(path):
            return False
        place = Path(os.path.realpath(path.parent))
        open_to_others = _first_unguarded(place, OTHERS)
    except OSError:
        return False
    if open_to_others is not None:
        _say(str(path.parent), str(open_to_others))
    return open_to_others is None


def _first_unguarded(folder: Path, writers: int = GROUP | OTHERS) -> Path | None:
    """Of a folder (no link) and those above it the first in which others could swap what is ours.

    As sshd looks at the way to `authorized_keys`. In a sticky folder of root's or this user's, such
    as /tmp, everybody may write, and nobody may remove or rename what is another's.
    """
    for one in (folder, *folder.parents):
        try:
            found = one.lstat()
        except FileNotFoundError:
            continue  # it will be made
        open_to_others = found.st_mode & writers and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or open_to_others:
            return one
    return None


@functools.cache
def _say(root: str, where: str) -> None:
    """Once for each: what is made each time takes some seconds, and somebody may wonder why."""
    log.warning(
        "what is kept in '%s' is not used: found '%s' open to others, or another user's, expected "
        "folders that only this user and root can change", root, where,
    )  # fmt: skip
