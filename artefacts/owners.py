"""Things outside this process that carry its name, so that a later run can tell whose they were.

A process that is killed cannot remove its folders and namespaces. Their names hold its process id
and its start, so that the next run removes what belongs to nobody, and nothing of a run beside it.
"""

from __future__ import annotations

import contextlib
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
        """Whether this process has certainly ended.

        One of another boot has. Of one in another space of process ids nothing can be known.
        """
        boot, space = _here()
        if not space:
            return False  # a system without /proc
        if self.boot != boot:
            return True
        return self.space == space and _start_ticks(self.pid) != self.start_ticks


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
    """The first digits of the boot's id, and the number of this space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return boot, os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return "0" * 8, 0


def _start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks after the boot; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # a killed process whose parent has not asked yet is listed still
    return None if fields[0] in "ZX" else int(fields[19])


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
            yield made
        finally:
            with shielded():
                shutil.rmtree(made, ignore_errors=True)


def remove_orphans(where: Path) -> None:
    """Remove this user's folders in `where` whose process has ended."""
    for path in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if is_orphan(path.name) and path.lstat().st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
