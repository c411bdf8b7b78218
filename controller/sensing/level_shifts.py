"""Change points of many streams at once: a two-sided CUSUM test on the log rate, for L lanes.

The Bayesian detector (`controller.sensing.change_point`) keeps a distribution over run lengths for
one stream; what a policy is trained on needs hundreds of streams with every measurement, so this
is the cheap test (Page, Biometrika 1954) with the same two answers: since when, and at what level.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Bools, Floats, Ints

SLACK = 0.15
"""Deviation that a level may show for ever: of log rates, so about 30 %."""
ALARM = 1.0
"""Summed deviation beyond it at which a new level begins (a unit is 0.75 decades): one measurement
at an eighth or eight-fold rate, or four at a half or twice the rate."""
REMEMBERED = 64.0
"""Measurements that the mean of a level weighs equally; later ones move it by 1 / 64."""


class LevelShifts:
    """Keeps for L lanes the mean log rate since its last change, and when that was."""

    def __init__(self, lanes: int) -> None:
        self.level = np.zeros(lanes)
        self.since_s = np.full(lanes, -np.inf)
        self._count = np.zeros(lanes)
        self._above = np.zeros(lanes)
        self._below = np.zeros(lanes)

    def reset(self, lanes: Bools, level: float) -> None:
        """Nothing was measured in the masked lanes; until then their level is `level`."""
        self.level[lanes] = level
        self.since_s[lanes] = -np.inf
        for value in (self._count, self._above, self._below):
            value[lanes] = 0.0

    def measured(self, at: Ints, known_s: Floats, value: Floats) -> None:
        """New log rates (N,) of the lanes `at` (N,), known then."""
        off = value - self.level.take(at)
        above = np.maximum(self._above.take(at) + off - SLACK, 0.0)
        below = np.maximum(self._below.take(at) - off - SLACK, 0.0)
        count = self._count.take(at)
        anew = (count == 0) | (above > ALARM) | (below > ALARM)
        count = np.where(anew, 1.0, np.minimum(count + 1.0, REMEMBERED))
        self._count[at] = count
        self.level[at] += off / count
        self._above[at] = np.where(anew, 0.0, above)
        self._below[at] = np.where(anew, 0.0, below)
        self.since_s[at] = np.where(anew, known_s, self.since_s.take(at))
