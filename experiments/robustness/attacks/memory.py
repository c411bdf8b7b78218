"""The most memory that a daemon takes together with the processes that it has started (proc(5))."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
LOOK_S = 0.05
"""Processes that a daemon starts and ends anew are seen if they live so long."""


class PeakMemory:
    """A context: `bytes` is the most that a process took inside, beside what its children took.

    The system keeps each process's own peak. They need not fall together: the sum is an upper
    bound. Memory that processes share counts for each.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._children = pid, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Let the peaks begin anew."""
        for pid in (self._pid, *descendants(self._pid)):
            with contextlib.suppress(OSError):
                (PROC / str(pid) / "clear_refs").write_text("5")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look at the children no more."""
        self._over.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """So far; 0 where the process is gone."""
        own = peak_bytes(self._pid)
        return own and own + self._children

    def _look(self) -> None:
        while True:
            taken = sum(map(peak_bytes, descendants(self._pid)))
            self._children = max(self._children, taken)
            if self._over.wait(LOOK_S):
                return


def peak_bytes(pid: int) -> int:
    """Most resident memory of a process; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> list[int]:
    """What a process has started, and what that has."""
    children: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the name of the command, in brackets, may hold anything
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = children.get(pid, [])[:]
    for one in found:
        found += children.get(one, [])
    return found
