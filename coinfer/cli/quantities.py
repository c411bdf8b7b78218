"""Numbers with their units, as options take them: `40ms`, `90kB`."""

from __future__ import annotations

import re
from collections.abc import Mapping

LATENCY_UNITS = {"ms": 1e-3, "s": 1.0}
MEMORY_UNITS = {"B": 1.0, "kB": 1e3, "KiB": 2.0**10, "MB": 1e6, "MiB": 2.0**20, "GiB": 2.0**30}


def quantity(
    option: str, text: str, units: Mapping[str, float], *, zero: bool = False
) -> float | None:
    """A number and its unit, in the unit that counts 1; None where nothing is given.

    A number without a unit is refused; 0 too, unless `zero`.
    """
    from artefacts import UsageError

    if not text:
        return None
    match = re.fullmatch(r"(?P<number>[0-9]*\.?[0-9]+) ?(?P<unit>[A-Za-z]+)", text)
    known = match is not None and match["unit"] in units
    if match is None or not known or (float(match["number"]) == 0 and not zero):
        least = "0 or above" if zero else "above 0"
        raise UsageError(
            f"{option}: found '{text}', expected a number {least} and one of {', '.join(units)}"
        )
    return float(match["number"]) * units[match["unit"]]


MOST_MBPS = 1e6


def bandwidth_mbps(text: str) -> float:
    """The number of Mbit/s that `--bandwidth` was given; refuses a unit, and what no link has."""
    from artefacts import UsageError

    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= MOST_MBPS:
        raise UsageError(
            f"--bandwidth: found '{text}', expected a number of Mbit/s from 0 to {MOST_MBPS:.0f}, "
            "without a unit (2.5)"
        )
    return found
