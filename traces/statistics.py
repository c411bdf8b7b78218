"""Statistics of a set of traces on a byte-conserving 1 s grid: what a generator is held against.

A trace's last second is rarely a whole one. Means, spreads and outages weigh every piece of the
grid with its length; quantiles and correlations are of whole seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from artefacts.arrays import Floats
from traces.trace import BandwidthTrace

QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
LAGS_S = (1, 5, 10)
OUTAGE_BPS = 0.5e6
WHOLE_S = 1.0 - 1e-9
"""A shorter piece of the grid is the rest of a second."""


class TraceStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pooled statistics, rates in Mbit/s; `outage_*` are runs of seconds below 0.5 Mbit/s."""

    hours: float
    mean: float
    std: float
    within_std: float
    between_std: float
    quantiles: tuple[float, ...]
    acf: tuple[float, ...]
    outage_runs: int
    outage_mean_s: float
    outage_max_s: float

    @property
    def outage_s_per_hour(self) -> float:
        """Seconds in outage per hour of trace."""
        return self.outage_runs * self.outage_mean_s / self.hours if self.hours else 0.0


def trace_statistics(
    traces: Sequence[BandwidthTrace], outage_bps: float = OUTAGE_BPS
) -> TraceStatistics:
    """Statistics of real or generated traces, pooled over all their time."""
    grids = [t.resample(1.0) for t in traces]
    lengths = [np.diff(np.append(g.times_s, g.duration_s)) for g in grids]
    return _statistics([g.rates_bps for g in grids], lengths, outage_bps)


def grid_statistics(grids: Sequence[Any], outage_bps: float = OUTAGE_BPS) -> TraceStatistics:
    """Statistics of rates on a grid of whole seconds, one array a file."""
    return _statistics(grids, [np.ones(len(grid)) for grid in grids], outage_bps)


def _statistics(
    grids: Sequence[Floats], lengths_s: Sequence[Floats], outage_bps: float
) -> TraceStatistics:
    """Of rates (N,) and how long each of them lasts, one array a file."""
    pooled, weights = np.concatenate(grids) / 1e6, np.concatenate(lengths_s)
    means = np.array([_mean(g, w) for g, w in zip(grids, lengths_s, strict=True)]) / 1e6
    within = np.concatenate([g / 1e6 - m for g, m in zip(grids, means, strict=True)])
    pairs = list(zip(grids, lengths_s, strict=True))
    runs = np.concatenate([outage_runs(g, outage_bps, w) for g, w in pairs])
    whole = [g[:-1] if len(g) > 1 and w[-1] < WHOLE_S else g for g, w in pairs]
    return TraceStatistics(
        hours=float(weights.sum()) / 3600.0,
        mean=_mean(pooled, weights),
        std=_spread(pooled, weights),
        within_std=_spread(within, weights),
        between_std=float(means.std(ddof=1)) if len(means) > 1 else 0.0,
        quantiles=tuple(float(q) for q in np.quantile(np.concatenate(whole) / 1e6, QUANTILES)),
        acf=tuple(_acf(whole, lag) for lag in LAGS_S),
        outage_runs=len(runs),
        outage_mean_s=float(runs.mean()) if len(runs) else 0.0,
        outage_max_s=float(runs.max()) if len(runs) else 0.0,
    )


def _mean(values: Floats, lengths_s: Floats) -> float:
    return float(np.average(values, weights=lengths_s))


def _spread(values: Floats, lengths_s: Floats) -> float:
    return float(np.sqrt(_mean((values - _mean(values, lengths_s)) ** 2, lengths_s)))


def outage_runs(
    rates_bps: Floats, outage_bps: float = OUTAGE_BPS, lengths_s: Floats | None = None
) -> Floats:
    """Lengths of the runs below `outage_bps`: in steps of the grid, or by `lengths_s` in seconds.

    `rates_bps` (N,) are bit/s, and `lengths_s` (N,) say how long each of them lasts.
    """
    below = np.concatenate([[False], rates_bps < outage_bps, [False]]).astype(np.int8)
    edges = np.diff(below)
    lengths = np.ones(len(rates_bps)) if lengths_s is None else lengths_s
    passed = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.asarray(passed[np.flatnonzero(edges == -1)] - passed[np.flatnonzero(edges == 1)])


def _acf(grids: Sequence[Floats], lag: int) -> float:
    """Autocorrelation at `lag` seconds about each file's own mean, pooled over the files."""
    pairs = [((g - g.mean())[:-lag], (g - g.mean())[lag:]) for g in grids if len(g) > lag]
    if not pairs:
        return 0.0
    first = np.concatenate([a for a, _ in pairs])
    second = np.concatenate([b for _, b in pairs])
    scale = float(np.sqrt((first**2).mean() * (second**2).mean()))
    return float((first * second).mean() / scale) if scale > 0 else 0.0
