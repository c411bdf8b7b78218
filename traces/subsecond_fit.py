"""Fits the variation within seconds to packet-delivery traces, and judges it on held-out halves.

A second's deviation is what passes in a step over the second's own mean. The overlay normalises
each second and the copula bends the correlation, so both distribution and correlation are
corrected by what simulated seconds show, a few times over.

Known to fall short: of stalls of 0.3 s and more (5 in the 280 s of the Mahimahi set's two files)
the overlay makes a third; the two of them that outlast a second a one-second log shows by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artefacts import ArtefactError, UsageError, write_json
from artefacts.arrays import Floats
from traces.formats import read_packets, trace_files
from traces.statistics import outage_runs
from traces.subsecond import (
    FORMAT_VERSION,
    HeldOutRow,
    LevelFit,
    SubsecondFit,
    with_subsecond,
)
from traces.trace import BandwidthTrace

STEP_MS = 20
STEPS = 1000 // STEP_MS
LEVEL_SHARES = (0.2, 0.4, 0.7)
"""Where seconds are divided by level: finer below, where spread changes fastest."""
CORRELATION_S = (0.0, 0.05, 0.2, 0.8)
LAGS = (1, 2, 5, 10, 25)
"""In steps; later ones of a second are few and mostly the mean's removal."""
WINDOWS_MS = (20, 50, 100)
SIMULATED_S = 1500
ROUNDS = 10
REPEATS = 20
"""Overlays of the held-out seconds that are pooled: the model's own chance should not show."""
FEWEST_SECONDS = 40
"""Of a file: a level of its half has four seconds then, hardly enough."""
FEWEST_OF_A_LEVEL = 3
QUANTILE_LEVELS = (0.0, *np.linspace(0.025, 0.975, 39).round(3).tolist(), 0.985, 0.995, 1.0)
STD_BOUND = 0.20
ACF_BOUND = 0.10
EMPTY_BOUND = 0.02
STALL_STEPS = 10
"""From 0.2 s without a packet on: what a frame's deadline does not forgive."""
STALLS_BOUND = 1.0
SILENT_BPS = 1e-6


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds in which something passed: deviations (S, STEPS) of mean 1, and levels (S,)."""

    deviation: Floats
    level: Floats


def packet_traces(source: Path) -> list[BandwidthTrace]:
    """The packet-delivery files of a folder (or one file) on steps of `STEP_MS`."""
    traces = [read_packets(path, STEP_MS) for path in trace_files(source)]
    for trace in traces:
        if trace.duration_s < FEWEST_SECONDS:
            raise ArtefactError(
                source,
                found=f"'{trace.name}' of {trace.duration_s:g} s",
                expected=f"packet-delivery traces of {FEWEST_SECONDS} s or more",
            )
    return traces


def seconds_of(traces: Sequence[BandwidthTrace]) -> Seconds:
    """The whole seconds of traces, levels over each trace's own mean; silent ones are left out."""
    grids = [_grid(trace, STEP_MS) for trace in traces]
    mean = [grid.mean(axis=1) for grid in grids]
    level = np.concatenate([m / m.mean() for m in mean])
    live = level > 0
    return Seconds(np.concatenate(grids)[live] / np.concatenate(mean)[live, None], level[live])


def _grid(trace: BandwidthTrace, step_ms: int) -> Floats:
    """Rates (whole seconds, steps)."""
    steps = 1000 // step_ms
    seconds = int(trace.duration_s + 1e-9)
    edges = np.arange(seconds * steps + 1) * (step_ms / 1000.0)
    passed = np.diff(trace.bits_before(np.minimum(edges, trace.duration_s), "stop"))
    return np.asarray(np.maximum(passed, 0.0).reshape(seconds, steps))


def fit_subsecond(
    traces: Sequence[BandwidthTrace],
    seed: int,
    made_by: str = "",
    held_out: Sequence[HeldOutRow] = (),
    progress: Callable[[str], None] = lambda what: None,
) -> SubsecondFit:
    """Fit to packet-delivery traces; `seed` is of the simulated seconds.

    `traces` are the packet-delivery traces, `made_by` and `held_out` are kept with the fit: the
    command, and how a fit to half of the data was judged. `progress` is given a line a level.
    """
    found = seconds_of(traces)
    edges = np.quantile(found.level, LEVEL_SHARES)
    which = np.searchsorted(edges, found.level, side="right")
    levels = []
    for k in range(len(edges) + 1):
        progress(f"level {k + 1} of {len(edges) + 1}")
        own = found.deviation[which == k]
        if len(own) < FEWEST_OF_A_LEVEL or not own.std() > 0:
            raise UsageError(
                f"sub-second fit: found {len(own)} seconds with variation in level {k + 1} of "
                f"{len(edges) + 1}, expected {FEWEST_OF_A_LEVEL} or more"
            )
        levels.append(_fit_level(own, seed))
    return SubsecondFit(
        FORMAT_VERSION, made_by, tuple(t.name for t in traces), len(found.level), STEP_MS / 1000.0,
        tuple(edges.round(4).tolist()), QUANTILE_LEVELS, CORRELATION_S, LAGS,
        round(float(np.mean([t.mean_bps for t in traces]))), tuple(levels), tuple(held_out),
    )  # fmt: skip


def _fit_level(deviation: Floats, seed: int) -> LevelFit:
    """The nearest of `ROUNDS` corrections: with a dozen seconds they need not settle."""
    wanted, wanted_acf, wanted_empty = _shape(deviation), acf(deviation), _empty(deviation)
    empty, factors, aim = wanted_empty, wanted.copy(), wanted_acf.copy()
    measured = (
        round(float(deviation.std()), 4),
        round(wanted_empty, 4),
        tuple(wanted_acf.round(4).tolist()),
    )
    nearest, best = np.inf, None
    for _ in range(ROUNDS):
        scaled = (factors / factors.mean()).round(4).tolist()
        level = LevelFit(round(empty, 5), tuple(scaled), nearest_weights(aim), *measured)
        shown = _simulated(level, seed)
        off = float(np.abs(acf(shown) - wanted_acf).sum() + abs(_empty(shown) - wanted_empty))
        off += abs(float(shown.std() / deviation.std()) - 1.0)
        if off < nearest:
            nearest, best = off, level
        aim = np.clip(aim + 0.6 * (wanted_acf - acf(shown)), -0.5, 0.95)
        empty = float(np.clip(empty + wanted_empty - _empty(shown), 0.0, 0.9))
        ratio = np.clip(wanted / np.maximum(_shape(shown), 1e-9), 0.5, 2.0)
        factors = np.maximum.accumulate(factors * ratio**0.7)
    assert best is not None
    return best


def _empty(deviation: Floats) -> float:
    return float((deviation == 0).mean())


def _shape(deviation: Floats) -> Floats:
    """Quantiles of the steps that are not empty."""
    return np.asarray(np.quantile(deviation[deviation > 0], QUANTILE_LEVELS))


def _simulated(level: LevelFit, seed: int) -> Floats:
    """Deviations (SIMULATED_S, STEPS) of seconds that are all of one level."""
    fit = SubsecondFit(
        FORMAT_VERSION, "", (), 0, STEP_MS / 1000.0, (), QUANTILE_LEVELS, CORRELATION_S,
        LAGS, 1.0, (level,), (),
    )  # fmt: skip
    flat = np.ones(SIMULATED_S)
    made = with_subsecond(BandwidthTrace.from_intervals("flat", flat, flat), fit, seed)
    return made.rates_bps.reshape(SIMULATED_S, STEPS)


def acf(deviation: Floats) -> Floats:
    """Autocorrelation at `LAGS` within seconds, about each second's own mean."""
    off = deviation - 1.0
    scale = max(float((off**2).mean()), 1e-12)
    return np.array([float((off[:, lag:] * off[:, :-lag]).mean()) / scale for lag in LAGS])


def nearest_weights(aim: Floats) -> tuple[float, ...]:
    """Weights of the correlation times whose acf, seconds' means taken off, is nearest to `aim`."""
    grid = _simplex(len(CORRELATION_S), 20)
    variance, products = zip(*(_within(scale_s) for scale_s in CORRELATION_S), strict=True)
    shown = (grid @ np.array(products)) / (grid @ np.array(variance))[:, None]
    best = int(np.argmin(((shown - aim) ** 2).sum(axis=1)))
    return tuple(grid[best].round(2).tolist())


def _within(scale_s: float) -> tuple[float, Floats]:
    """Variance and lagged products (len(LAGS),) of a process about its second's mean."""
    gap = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS))) * (STEP_MS / 1000.0)
    full = np.exp(-gap / scale_s) if scale_s > 0 else np.eye(STEPS)
    off = np.eye(STEPS) - 1.0 / STEPS
    left = off @ full @ off
    products = [float(np.diagonal(left, lag).mean()) for lag in LAGS]
    return float(np.trace(left)) / STEPS, np.array(products)


def _simplex(parts: int, total: int) -> Floats:
    """All shares of `parts` parts in steps of 1/total, each row adding up to 1."""
    bars = itertools.combinations(range(total + parts - 1), parts - 1)
    rows = [np.diff([-1, *at, total + parts - 1]) - 1 for at in bars]
    return np.array(rows, dtype=np.float64) / total


def hold_out(
    traces: Sequence[BandwidthTrace],
    seed: int,
    progress: Callable[[str], None] = lambda what: None,
) -> list[HeldOutRow]:
    """Fit on the first halves; lay it over the second halves' seconds; compare statistics."""
    cuts = [float(int(trace.duration_s) // 2) for trace in traces]
    first = [t.slice(0.0, cut) for t, cut in zip(traces, cuts, strict=True)]
    second = [t.slice(cut, 2.0 * cut) for t, cut in zip(traces, cuts, strict=True)]
    fit = fit_subsecond(first, seed, progress=progress)
    coarse = [trace.resample(1.0) for trace in second]
    made = [with_subsecond(t, fit, seed + 1 + k) for k in range(REPEATS) for t in coarse]
    return held_out_rows(first, made, second, fit.level_edges)


def held_out_rows(
    first: Sequence[BandwidthTrace],
    overlaid: Sequence[BandwidthTrace],
    second: Sequence[BandwidthTrace],
    level_edges: Sequence[float],
) -> list[HeldOutRow]:
    """The statistics of all three; the overlay is held to the second halves'.

    `first` are the first halves of the traces, `overlaid` the second ones averaged and overlaid
    with what the first gave, `second` the second halves as they were. `level_edges` divide seconds
    by their level.
    """
    known, got, wanted = (_statistics(traces, level_edges) for traces in (first, overlaid, second))
    rows = []
    for name, value in wanted.items():
        kind = name.split()[0]
        bounds = {"std": STD_BOUND * value, "acf": ACF_BOUND, "empty": EMPTY_BOUND}
        bound = bounds.get(kind, STALLS_BOUND)
        within = abs(got[name] - value) <= bound
        first_own, shown, own, allowed = (
            round(number, 4) for number in (known[name], got[name], value, bound)
        )
        rows.append(HeldOutRow(name, first_own, shown, own, allowed, within))
    return rows


def _statistics(traces: Sequence[BandwidthTrace], level_edges: Sequence[float]) -> dict[str, float]:
    """Spread, correlation and share of empty windows, pooled over the seconds with traffic."""
    found: dict[str, float] = {}
    for width in WINDOWS_MS:
        deviation = _deviations(traces, width)
        found[f"std {width} ms"] = float(deviation.std())
        found[f"empty {width} ms"] = float((deviation < 1e-9).mean())
    fine = seconds_of(traces)
    which = np.searchsorted(level_edges, fine.level, side="right")
    for k in range(len(level_edges) + 1):
        found[f"std {STEP_MS} ms, level {k + 1}"] = float(fine.deviation[which == k].std())
    runs = [outage_runs(_grid(trace, STEP_MS).ravel(), SILENT_BPS) for trace in traces]
    minutes = sum(trace.duration_s for trace in traces) / 60.0
    stalls = sum(int((of_trace >= STALL_STEPS).sum()) for of_trace in runs)
    found[f"stalls of {STALL_STEPS * STEP_MS} ms a minute"] = stalls / minutes
    for lag, value in zip(LAGS, acf(fine.deviation), strict=True):
        found[f"acf {lag * STEP_MS} ms"] = float(value)
    return dict(sorted(found.items()))


def _deviations(traces: Sequence[BandwidthTrace], width_ms: int) -> Floats:
    grid = np.concatenate([_grid(trace, width_ms) for trace in traces])
    mean = grid.mean(axis=1, keepdims=True)
    return np.asarray((grid / np.maximum(mean, 1e-300))[mean[:, 0] > 0])


def refit_subsecond(
    source: Path,
    out: Path,
    seed: int,
    made_by: str,
    progress: Callable[[str], None] = lambda what: None,
) -> SubsecondFit:
    """Judge on held-out halves, fit to the whole traces, write the fit with both.

    `source` is the folder of packet-delivery traces, `out` the JSON file to write, `seed` of the
    simulated seconds, `made_by` the command that is kept with the fit. `progress` is given a line a
    step.
    """
    traces = packet_traces(source)
    held_out = hold_out(traces, seed, lambda what: progress(f"first halves, {what}"))
    fit = fit_subsecond(traces, seed, made_by, held_out, lambda what: progress(f"whole, {what}"))
    write_json(out, fit)
    return fit
