"""A module run with a wall clock that another process moves.

    python -m experiments.replay.testbed.wall_clock FILE MODULE ARGUMENTS...

Every look at the wall clock (`time.time`, `time.time_ns`) is off by the seconds that FILE holds at
that moment; the monotonic clock is the system's. A library that is loaded before libc could fake
more, but the one there is breaks sleeping.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def shift_clock(path: Path) -> None:
    """Let this process's wall clock be off by what a file says."""
    true, true_ns = time.time, time.time_ns

    def offset_s() -> float:
        try:
            return float(path.read_text())
        except (OSError, ValueError):
            return 0.0

    time.time = lambda: true() + offset_s()
    time.time_ns = lambda: true_ns() + int(1e9 * offset_s())


def main() -> None:
    """Shift, then be the module."""
    shift_clock(Path(sys.argv[1]))
    module, sys.argv[1:] = sys.argv[2], sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
