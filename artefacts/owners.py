"""Things outside this process that carry its name, so that a later run can tell whose they were.

A process that is killed cannot remove its folders and namespaces. Their names hold its process id
and its start, so that the next run removes what belongs to nobody, and nothing of a run beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from artefacts.endings import orderly, shielded
from artefacts.errors import UsageError

PREFIX = "coinfer-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_TAG = r"(?P<boot>[0-9a-f]{8})-(?P<space>\d+)-(?P<pid>\d+)-(?P<start>\d+)"
_NAME = re.compile(rf"{PREFIX}{_TAG}-")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: its system's boot, its space of process ids, its id, its start in clock ticks."""

    boot: str
    space: int
    pid: int
    start_ticks: int

    def name(self, what: str) -> str:
        """A name that says whose `what` is."""
        return f"{PREFIX}{self.boot}-{self.space}-{self.pid}-{self.start_ticks}-{what}"

    @property
    def gone(self) -> bool:
        """Whether this process has certainly ended, as far as this system can tell.

        One of another boot has. Of one in another space of process ids or times nothing can be
        known, and of one whose start cannot be read only that its id is taken.
        """
        boot, space = _here()
        if not space:
            return False  # a system without /proc
        if self.boot != boot:
            return True
        if self.space != space:
            return False
        ticks = _start_ticks(self.pid)
        return not _taken(self.pid) if ticks is None else ticks != self.start_ticks


def this_process() -> Owner:
    """The process that runs this."""
    boot, space = _here()
    return Owner(boot, space, os.getpid(), _start_ticks(os.getpid()) or 0)


def owner_of(name: str) -> Owner | None:
    """Whose a name of `Owner.name` is; None for any other name."""
    found = _NAME.match(name)
    if found is None:
        return None
    return Owner(found["boot"], int(found["space"]), int(found["pid"]), int(found["start"]))


def is_orphan(name: str) -> bool:
    """Whether a name is of ours and its process has ended."""
    owner = owner_of(name)
    return owner is not None and owner.gone


@cache
def _here() -> tuple[str, int]:
    """The first digits of the boot's id, and the number of this space of process ids and times.

    A time namespace shifts the start that a process shows.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0" * 8, 0
    with contextlib.suppress(OSError):  # a kernel without time namespaces
        space += str(os.stat("/proc/self/ns/time").st_ino)
    return boot, int(space)


def _start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks after the boot; None where it does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # a killed process whose parent has not asked yet is listed still
    return None if fields[0] in "ZX" else int(fields[19])


def _taken(pid: int) -> bool:
    """Whether a process of this id lives; `/proc` may hide those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # one that was killed and that nobody has asked for is no owner any more
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return stat.read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return True


@contextlib.contextmanager
def temporary_folder(purpose: str = "run", place: Path | None = None) -> Iterator[Path]:
    """A folder of this process, in `place` (else the system's), that goes with the block.

    SIGTERM and SIGHUP unwind the block (`orderly`). What killed processes left is removed first.
    """
    with orderly():
        try:
            where = Path(tempfile.gettempdir()) if place is None else place
            remove_orphans(where)
            prefix = this_process().name(f"{purpose}-")
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        except OSError as error:
            raise UsageError(
                f"temporary folder: cannot make one ({error.strerror or error}), expected a place "
                "that can be written to (TMPDIR names one)"
            ) from None
        try:
            with _held(made):
                yield made
        finally:
            with shielded():
                shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder: a process that misreads the name must not remove it.

    The system lets go of it when this process ends, however that happens.
    """
    handle = os.open(folder, _FOLDER)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_held(folder: Path) -> bool:
    handle = os.open(folder, _FOLDER)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def remove_orphans(where: Path) -> None:
    """Remove this user's folders in `where` whose process has ended."""
    for path in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            mine = path.lstat().st_uid == os.geteuid()
            if mine and is_orphan(path.name) and not _is_held(path):
                shutil.rmtree(path, ignore_errors=True)
