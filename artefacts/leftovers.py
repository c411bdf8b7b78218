"""Temporary neighbours of files that a killed process was writing: removed by the next one."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path

YOUNG_S = 60.0
"""A younger one may be under way in another process."""
_PART = re.compile(r"\..{1,40}\.[a-z0-9_]{8}\.part", re.DOTALL)
"""As `atomic_write` names them."""


def sweep_parts(folder: Path, now_s: float | None = None) -> int:
    """Remove this user's half-written files in `folder`; how many. What cannot be removed stays.

    `now_s`: seconds since the epoch (the clock's). One that is dated ahead is as old as one behind.
    """
    now_s, removed = time.time() if now_s is None else now_s, 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _PART.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                old = abs(now_s - found.st_mtime) > YOUNG_S
                if old and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                    os.unlink(entry.path)
                    removed += 1
    return removed
