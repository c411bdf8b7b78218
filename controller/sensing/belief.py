"""Where the bandwidth is now, given what was measured some seconds ago.

Counted on training traces: how the level of the rate has moved in that time. The longer nothing was
measured, the closer the belief is to the long-run distribution.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats, Ints
from traces.trace import BandwidthTrace

FORGOTTEN = 4.0
"""A measurement says nothing more at this many times the longest lag: what is left is the long run.
"""


@dataclass(frozen=True, slots=True)
class Counting:
    """How finely a belief is counted: levels of the rate, lags, and the grid of time.

    A measurement a frame old says more than one a second old.
    """

    levels: int = 32
    lags_s: tuple[float, ...] = (
        0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0,
    )  # fmt: skip
    grid_s: float = 0.1


@dataclass(frozen=True)
class BandwidthBelief:
    """P(level now | level measured `age` ago), K levels.

    Levels lie between `edges_bps` (K - 1,); `rates_bps` (K,) are their medians; `kernels`
    (lags, K, K) has a row per level measured for every lag of `lags_s`.
    """

    edges_bps: Floats
    rates_bps: Floats
    lags_s: Floats
    kernels: Floats

    @classmethod
    def from_traces(
        cls, traces: Sequence[BandwidthTrace], how: Counting | None = None
    ) -> BandwidthBelief:
        """The belief of someone who has seen `traces`; levels are quantiles of their rates."""
        how = Counting() if how is None else how
        grids = [_grid(t, how.grid_s) for t in traces]
        pooled = np.concatenate(grids)
        edges = np.quantile(pooled, np.linspace(0, 1, how.levels + 1)[1:-1])
        levels = [np.searchsorted(edges, g, side="right") for g in grids]
        flat = np.concatenate(levels)
        used = np.unique(flat)
        # where many rates are one, quantiles fall together: empty levels are the next one's likes
        stands = used[np.minimum(np.searchsorted(used, np.arange(how.levels)), len(used) - 1)]
        rates = np.array([np.median(pooled[flat == k]) for k in used])
        kernels = [_kernel(levels, lag, how, stands) for lag in how.lags_s]
        of_used = np.searchsorted(used, stands)
        return cls(edges, rates[of_used], np.array(how.lags_s), np.stack(kernels))

    def level(self, rate_bps: Floats | float) -> Ints:
        """The level of a rate."""
        return np.asarray(np.searchsorted(self.edges_bps, rate_bps, side="right"), dtype=np.int64)

    def of(self, rate_bps: Floats | float, age_s: Floats | float) -> Floats:
        """Probabilities (..., K) of the levels now, given a rate measured `age_s` ago."""
        level, age = self.level(rate_bps), np.asarray(age_s, dtype=np.float64)
        position = np.interp(age, self.lags_s, np.arange(len(self.lags_s)))
        low = position.astype(np.int64)
        high = np.minimum(low + 1, len(self.lags_s) - 1)
        share = (position - low)[..., None]
        found = (1 - share) * self.kernels[low, level] + share * self.kernels[high, level]
        last = self.lags_s[-1]
        gone = np.clip((age - last) / ((FORGOTTEN - 1.0) * last), 0.0, 1.0)[..., None]
        return np.asarray((1 - gone) * found + gone / len(self.rates_bps))

    def near(self, rate_bps: Floats, age_s: Floats) -> Floats:
        """Probabilities (L, K) as of `of`, but what stayed in its level stayed at its rate.

        A rate between the medians of two levels is something of both: what is probable of its own
        level is shared with the neighbour on its side, by its logarithm.
        """
        found, own = self.of(rate_bps, age_s), self.level(rate_bps)
        logs = np.log(np.maximum(self.rates_bps, 1.0))
        off = np.log(np.maximum(rate_bps, 1.0)) - logs[own]
        side = np.clip(own + np.sign(off).astype(np.int64), 0, len(logs) - 1)
        gap = np.abs(logs[side] - logs[own])
        share = np.where(gap > 1e-9, np.minimum(np.abs(off) / np.maximum(gap, 1e-9), 1.0), 0.0)
        lanes = np.arange(len(own))
        moved = share * found[lanes, own]
        found[lanes, own] -= moved
        found[lanes, side] += moved
        return found

    def single_level(self, rate_bps: float) -> int:
        """`level` of one rate."""
        return bisect_right(self._edges, rate_bps)

    def single_lag(self, age_s: float) -> tuple[int, float, float]:
        """Where an age lies among the lags: the one before it, the share of the next, and how much
        of the measurement is forgotten.
        """
        lags, last = self._lags, len(self._lags) - 1
        low = min(max(bisect_right(lags, age_s) - 1, 0), last - 1)
        # rounded as `np.interp` rounds the place: ties between plans stay what they are
        place = low + 1.0 / (lags[low + 1] - lags[low]) * (age_s - lags[low])
        gone = (age_s - lags[last]) / ((FORGOTTEN - 1.0) * lags[last])
        return low, min(max(place - low, 0.0), 1.0), min(max(gone, 0.0), 1.0)

    def single_of(self, level: int, age_s: float) -> Floats:
        """`of`, for one rate of the `level` measured `age_s` ago, (K,)."""
        (low, share, gone), rows = self.single_lag(age_s), self._by_level[level]
        found = (1.0 - share) * rows[low]
        found += share * rows[low + 1]
        return found if not gone else (1.0 - gone) * found + gone / len(found)

    def single_near(self, rate_bps: float, age_s: float) -> Floats:
        """`near`, for one rate, (K,)."""
        own, logs = self.single_level(rate_bps), self._logs
        off = math.log(max(rate_bps, 1.0)) - logs[own]
        side = min(own + 1, len(logs) - 1) if off > 0 else max(own - 1, 0)
        gap, found = abs(logs[side] - logs[own]), self.single_of(own, age_s)
        if gap > 1e-9:
            moved = min(abs(off) / gap, 1.0) * found.item(own)
            found[own] -= moved
            found[side] += moved
        return found

    @cached_property
    def _edges(self) -> list[float]:
        return list(map(float, self.edges_bps))

    @cached_property
    def _lags(self) -> list[float]:
        return list(map(float, self.lags_s))

    @cached_property
    def _logs(self) -> list[float]:
        return list(map(float, np.log(np.maximum(self.rates_bps, 1.0))))

    @cached_property
    def _by_level(self) -> list[list[Floats]]:
        """The kernels' rows by the level measured and the lag."""
        return [list(rows) for rows in np.ascontiguousarray(self.kernels.transpose(1, 0, 2))]

    @property
    def within(self) -> tuple[Floats, Floats, Floats]:
        """Three rates of every level (K,) each, alike probable: its sixths 1, 3 and 5.

        Rates lie evenly between a level's edges and its median; the lowest level begins at 0, the
        highest ends as far above its median as it begins below.
        """
        low = np.concatenate([[0.0], self.edges_bps])
        high = np.concatenate([self.edges_bps, [2.0 * self.rates_bps[-1] - low[-1]]])
        middle = self.rates_bps
        below = middle - 2.0 / 3.0 * np.maximum(middle - low, 0.0)
        above = middle + 2.0 / 3.0 * np.maximum(high - middle, 0.0)
        return below, middle, above

    @property
    def blind(self) -> Floats:
        """Probabilities of the levels with nothing measured."""
        return np.full(len(self.rates_bps), 1.0 / len(self.rates_bps))


def _grid(trace: BandwidthTrace, grid_s: float) -> Floats:
    count = max(int(trace.duration_s / grid_s), 1)
    return np.asarray(trace.resample(grid_s).rates_bps[:count])


def _kernel(
    levels: Sequence[npt.NDArray[np.int64]], lag_s: float, how: Counting, stands: Ints
) -> Floats:
    """P(level `lag_s` later | level), (K, K); `stands[k]` is the level that level k is like."""
    # a measurement averages over the past moments: lag 0 looks one grid step ahead
    steps = max(round(lag_s / how.grid_s), 1)
    # a fifth of a count everywhere: no bandwidth is ever held impossible
    counts = np.full((how.levels, how.levels), 0.2 / how.levels)
    for level in levels:
        if len(level) > steps:
            np.add.at(counts, (level[:-steps], level[steps:]), 1.0)
    # likes share what came to the one that was counted, and go on as it does
    counts = counts[stands][:, stands] / np.bincount(stands, minlength=how.levels)[stands]
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))
