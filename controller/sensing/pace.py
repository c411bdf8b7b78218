"""How fast a device computes, from its own last jobs, for L lanes at once.

A device that is throttled, or that others use, takes longer than its profile says, for seconds.
The median of the last few jobs follows within as many frames, and one job that the system has held
up changes nothing.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Bools, Floats

NEWEST, ENOUGH = 5, 3
"""So many of the newest jobs say how fast the device is, once there are enough."""


class DevicePace:
    """Keeps for L lanes what their newest jobs took over what the profile expects."""

    def __init__(self, lanes: int) -> None:
        self._taken = np.full((NEWEST, lanes), np.nan)
        self._pace: Floats | None = np.ones(lanes)

    def reset(self, lanes: Bools) -> None:
        """Nothing is known in the masked lanes."""
        self._taken[:, lanes] = np.nan
        self._pace = None

    def took(self, lanes: Bools, ratio: Floats) -> None:
        """A job ended in the masked lanes (L,): what it took over what was expected, (L,)."""
        moved = np.roll(self._taken, 1, axis=0)
        moved[0] = ratio
        self._taken = np.where(lanes, moved, self._taken)
        self._pace = None

    def now(self) -> Floats:
        """What jobs take over what the profile expects (L,); 1 where too few have ended."""
        if self._pace is None:
            known = np.isfinite(self._taken)
            # what is not known is greater than all: the median is that of the others
            ordered = np.sort(np.where(known, self._taken, np.inf), axis=0)
            count = known.sum(axis=0)
            lanes = np.arange(len(count))
            low, high = ordered[(count - 1) // 2, lanes], ordered[count // 2 % NEWEST, lanes]
            self._pace = np.where(count >= ENOUGH, (low + high) / 2.0, 1.0)
        return self._pace
