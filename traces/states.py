"""Bandwidth states: what Edgent's configuration map is keyed by.

A state is the mean and standard deviation of the bandwidth while it lasts (Akhtar et al., Oboe,
SIGCOMM 2018, section 3); Edgent takes 428 of them from Oboe's sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import UsageError, read_json
from traces.trace import BandwidthTrace

FORMAT_VERSION = 1
OBOE_STATES = Path(__file__).parent / "fits" / "oboe_states.json"


class BandwidthState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean and standard deviation of the bandwidth in one state, bit/s."""

    mean_bps: float
    """Mean."""
    std_bps: float
    """Standard deviation."""


class StateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """States on disk, with how they were made."""

    format_version: int
    source: str
    """What they were made of."""
    states: tuple[BandwidthState, ...]
    """Mean and deviation of each."""


def states_by_quantiles(
    traces: Sequence[BandwidthTrace], count: int, window_s: float
) -> tuple[BandwidthState, ...]:
    """States learnt from any traces: windows sorted by mean, cut into `count` equal shares."""
    if count < 1:
        raise UsageError(f"bandwidth states: found {count}, expected at least 1")
    pairs = [_windows(t, window_s) for t in traces]
    means = np.concatenate([m for m, _ in pairs])
    deviations = np.concatenate([s for _, s in pairs])
    order = np.argsort(means, kind="stable")
    shares = [part for part in np.array_split(order, count) if len(part)]
    return tuple(
        BandwidthState(max(float(means[p].mean()), 1000.0), float(_pooled(means[p], deviations[p])))
        for p in shares
    )


def _pooled(means: np.ndarray, deviations: np.ndarray) -> float:
    return float(np.sqrt(np.mean(deviations**2) + means.var()))


def _windows(trace: BandwidthTrace, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    grid = trace.resample(1.0).rates_bps
    width = max(round(window_s), 1)
    count = len(grid) // width
    if count == 0:
        return np.array([grid.mean()]), np.array([grid.std()])
    rows = grid[: count * width].reshape(count, width)
    return rows.mean(axis=1), rows.std(axis=1)


def read_states(path: str | Path) -> tuple[BandwidthState, ...]:
    """Read states from JSON."""
    return read_json(path, StateFile, version=FORMAT_VERSION).states


def oboe_states() -> tuple[BandwidthState, ...]:
    """The 428 states of Oboe's sessions, computed from the published traces and shipped."""
    return read_states(OBOE_STATES)
