"""How fast a device computes, from its own last jobs, for L lanes at once.

A device that is throttled, or that others use, takes longer than its profile says, for seconds.
The median of the last few jobs follows within as many frames, and one job that the system has held
up changes nothing. Where nothing was computed for a while nothing is known: a device that begins no
job because it believes to be slow would never hear that it is quick again.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Bools, Floats

NEWEST, ENOUGH = 5, 3
"""So many of the newest jobs say how fast the device is, once there are enough."""
CLEARLY_SLOW = 1.25
"""A device that takes this much longer than its profile is in a state of its own: computing times
as they vary stay below."""
STALE_S = 1.0
"""So long after its newest job a device counts as one that its profile describes."""


def relative_pace(pace: Floats | float, usual: float) -> Floats:
    """What jobs take over what they `usual`ly take on this device, both over the profile.

    A pace of exactly 1 is that of a device whose jobs are not known: it counts as its usual one.
    """
    known = np.asarray(pace, dtype=np.float64)
    return np.where(known == 1.0, 1.0, known / usual)


class DevicePace:
    """Keeps for L lanes what their newest jobs took over what the profile expects."""

    def __init__(self, lanes: int) -> None:
        self._taken = np.full((NEWEST, lanes), np.nan)
        self._at_s = np.full(lanes, -np.inf)
        self._median: Floats | None = np.ones(lanes)

    def reset(self, lanes: Bools) -> None:
        """Nothing is known in the masked lanes."""
        self._taken[:, lanes] = np.nan
        self._at_s[lanes] = -np.inf
        self._median = None

    def took(self, lanes: Bools, ratio: Floats, at_s: Floats | float) -> None:
        """A job ended in the masked `lanes` at `at_s`: `ratio` is what it took over what was
        expected; all (L,).
        """
        moved = np.roll(self._taken, 1, axis=0)
        moved[0] = ratio
        self._taken = np.where(lanes, moved, self._taken)
        self._at_s = np.where(lanes, at_s, self._at_s)
        self._median = None

    def at(self, now_s: Floats | float) -> Floats:
        """What jobs take at `now_s` over what the profile expects (L,).

        1 where too few have ended, or none lately.
        """
        return np.where(now_s - self._at_s <= STALE_S, self._of_newest(), 1.0)

    def _of_newest(self) -> Floats:
        if self._median is None:
            known = np.isfinite(self._taken)
            # what is not known is greater than all: the median is that of the others
            ordered = np.sort(np.where(known, self._taken, np.inf), axis=0)
            count = known.sum(axis=0)
            lanes = np.arange(len(count))
            low, high = ordered[(count - 1) // 2, lanes], ordered[count // 2 % NEWEST, lanes]
            self._median = np.where(count >= ENOUGH, (low + high) / 2.0, 1.0)
        return self._median
