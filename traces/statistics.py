"""Statistics of a set of traces on a byte-conserving 1 s grid: what a generator is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats
from traces.trace import BandwidthTrace

QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
LAGS_S = (1, 5, 10)
OUTAGE_BPS = 0.5e6


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
    """Statistics of real or generated traces, pooled over all their seconds."""
    return grid_statistics([t.resample(1.0).rates_bps for t in traces], outage_bps)


def grid_statistics(grids: Sequence[Any], outage_bps: float = OUTAGE_BPS) -> TraceStatistics:
    """Statistics of rates on a 1 s grid, one array a file."""
    pooled = np.concatenate(grids) / 1e6
    means = np.array([g.mean() for g in grids]) / 1e6
    within = np.concatenate([g / 1e6 - m for g, m in zip(grids, means, strict=True)])
    runs = np.concatenate([outage_runs(g, outage_bps) for g in grids])
    return TraceStatistics(
        hours=len(pooled) / 3600.0,
        mean=float(pooled.mean()),
        std=float(pooled.std()),
        within_std=float(within.std()),
        between_std=float(means.std(ddof=1)) if len(means) > 1 else 0.0,
        quantiles=tuple(float(q) for q in np.quantile(pooled, QUANTILES)),
        acf=tuple(_acf(grids, lag) for lag in LAGS_S),
        outage_runs=len(runs),
        outage_mean_s=float(runs.mean()) if len(runs) else 0.0,
        outage_max_s=float(runs.max()) if len(runs) else 0.0,
    )


def outage_runs(rates_bps: Floats, outage_bps: float = OUTAGE_BPS) -> npt.NDArray[np.int64]:
    """Lengths in seconds of the runs below `outage_bps` on a 1 s grid."""
    below = np.concatenate([[False], rates_bps < outage_bps, [False]]).astype(np.int8)
    edges = np.diff(below)
    return np.asarray(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1))


def _acf(grids: Sequence[Floats], lag: int) -> float:
    """Autocorrelation at `lag` seconds about each file's own mean, pooled over the files."""
    pairs = [((g - g.mean())[:-lag], (g - g.mean())[lag:]) for g in grids if len(g) > lag]
    if not pairs:
        return 0.0
    first = np.concatenate([a for a, _ in pairs])
    second = np.concatenate([b for _, b in pairs])
    scale = float(np.sqrt((first**2).mean() * (second**2).mean()))
    return float((first * second).mean() / scale) if scale > 0 else 0.0
