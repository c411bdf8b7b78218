"""How many processors this process may use: fewer than the machine has, in a container or a slice.

Three things bound it: the machine, the set of processors that the process is pinned to, and the
CPU time that control groups grant (a quota in every period, of this group and of each around it).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

V1_CONTROLLER = "cpu"


def usable_cpus(root: Path = Path("/")) -> int:
    """Processors that this process may keep busy, 1 or more; parts of one count as a whole.

    `root` holds `proc/self/cgroup`, `proc/self/mountinfo` and the control groups' files (Linux:
    cgroups(7), `cpu.max` of version 2, `cpu.cfs_quota_us` of version 1).
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    granted = min(_quotas(root), default=math.inf)
    return max(1, min(pinned or 1, math.ceil(granted) if granted < math.inf else pinned or 1))


def _quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time that each control group around this process grants."""
    for version, group in _groups(_text(root / "proc/self/cgroup")):
        for mounted, inside in _mounts(_text(root / "proc/self/mountinfo"), version):
            folder = root / mounted.lstrip("/")
            within = _within(group, inside)
            for place in (within, *within.parents):
                quota = _quota(folder / place, version)
                if quota is not None:
                    yield quota


def _groups(text: str) -> Iterator[tuple[int, str]]:
    """(version, path) of every hierarchy that may bound CPU time."""
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield 2, path
        elif V1_CONTROLLER in controllers.split(","):
            yield 1, path


def _mounts(text: str, version: int) -> Iterator[tuple[str, str]]:
    """(where it is mounted, which group that shows) of a version's hierarchy."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        one = kind[0] == "cgroup" and V1_CONTROLLER in kind[2].split(",")
        if (version == 2 and kind[0] == "cgroup2") or (version == 1 and one):
            yield _unescaped(fields[4]), _unescaped(fields[3])


def _within(group: str, inside: str) -> PurePosixPath:
    """A group's path below the one that is mounted; the mounted one where it lies elsewhere."""
    path = PurePosixPath(group)
    if ".." in path.parts or not path.is_relative_to(inside):
        return PurePosixPath()
    return path.relative_to(inside)


def _quota(folder: Path, version: int) -> float | None:
    """Processors' worth of time that one group grants; None where it sets no bound."""
    if version == 2:
        given = _text(folder / "cpu.max").split()
    else:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        given = [word for name in names for word in _text(folder / name).split()]
    try:
        quota_us, period_us = (float(word) for word in given)
    except ValueError:  # 'max', or no such file
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    """A path of mountinfo, in which white space and backslashes are octal numbers (proc(5))."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(octal, character)
    return field
