"""What every change-point detector is: fed bandwidths as they are measured, asked nothing else.

Owns the `ChangeDetector` Protocol, the facts of one update, and the checks of a measured value
that all detectors share. Knows no detector, no plan and no state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from artefacts import UsageError

FLOOR_BPS = 1000.0
"""A transfer that brought nothing counts as 1 kbit/s: below it no plan differs, and logs exist."""

CEILING_BPS = 1e15
"""Faster than any link: a clock that stood still during a transfer must not overflow a square."""


@dataclass(frozen=True, slots=True)
class DetectorStep:
    """What a detector holds after one measurement.

    `change`: the segment in force is another than before this measurement. `run_length_s`: age of
    the segment in force; `samples`: measurements in it. `mean_bps`, `std_bps`: bandwidth in it.
    `change_probability`: belief that the segment reported last has ended (0 or 1 where the
    detector holds none).
    """

    change: bool
    run_length_s: float
    samples: int
    mean_bps: float
    std_bps: float
    change_probability: float


class ChangeDetector(Protocol):
    """Finds the moments at which the bandwidth becomes another. One instance, one stream."""

    name: str

    def reset(self) -> None:
        """Forget everything; a new stream begins."""

    def update(self, value_bps: float, at_s: float) -> DetectorStep:
        """Take one measured bandwidth, at a time that does not go back.

        A time before the last one counts as the last one (reports of pipelined requests may
        swap). Values outside `FLOOR_BPS` to `CEILING_BPS` count as
        the nearer of the two. The first measurement is not a change. Raises
        `UsageError` for a value that is negative or not finite and leaves the detector as it was.
        """


def checked_bps(value_bps: float, at_s: float) -> float:
    """A measured bandwidth as detectors take it; refuses what cannot be a measurement."""
    if not (math.isfinite(value_bps) and value_bps >= 0):
        raise UsageError(
            f"bandwidth measurement: found {value_bps} bit/s, expected a finite rate of at least 0"
        )
    if not math.isfinite(at_s):
        raise UsageError(f"bandwidth measurement: found time {at_s} s, expected a finite time")
    return min(max(float(value_bps), FLOOR_BPS), CEILING_BPS)
