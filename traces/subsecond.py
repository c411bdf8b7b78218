"""Variation within a second, laid over logs that know only a second's mean.

The logs of Belgium and Norway count bytes once a second; a real link does not hold its rate that
long. The overlay multiplies each piece of a log by a correlated random factor on a finer grid and
keeps the piece's bytes. A Gaussian copula, as in `traces.generator`: white, fast and slow
first-order processes run through the whole trace, their sum is mapped through the measured
distribution of the deviation, whose empty steps are an atom of their own. Spread and correlation
depend on the second's rate over its trace's mean: slow seconds are rougher. Fitted by
`traces.subsecond_fit` to packet-delivery traces.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError, read_json
from artefacts.arrays import Floats, Ints
from traces.generator import FITS, normal_cdf
from traces.library import TraceSet
from traces.trace import BandwidthTrace, log_digest, traces_digest

FORMAT_VERSION = 1
SUBSECOND = FITS / "subsecond.json"
COARSEST_S = 0.5
MOST_STEPS = 50_000_000
"""Of one trace: what its arrays must fit into memory for."""
NEGLIGIBLE = 1e-12
KEPT = 3
"""Sets by the shipped fit that a process keeps: one command asks for a scenario's several times."""


class LevelFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How seconds of one level vary."""

    empty: float
    """Share of steps in which nothing passes."""
    factors: tuple[float, ...]
    """Quantile function of the others' rate over the second's own."""
    weights: tuple[float, ...]
    """Share of the variance that each correlation time has."""
    measured_std: float
    """Of steps over their second's mean, in the traces."""
    measured_empty: float
    """Share of empty steps there."""
    measured_acf: tuple[float, ...]
    """Autocorrelation there, at `lags`."""


class HeldOutRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One statistic: in the first halves, overlaid by a fit to those, in the second halves."""

    statistic: str
    """Its name."""
    first_halves: float
    """In what was fitted."""
    overlaid: float
    """Of the fit, laid over the second halves."""
    second_halves: float
    """In the second halves."""
    bound: float
    """Greatest difference that is accepted."""
    within: bool
    """Whether it is."""


class SubsecondFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fitted variation, how it was made and how the same fit did on held-out halves."""

    format_version: int
    made_by: str
    """The command."""
    fitted_to: tuple[str, ...]
    """Files."""
    seconds: int
    """That were fitted."""
    step_s: float
    """Of a step."""
    level_edges: tuple[float, ...]
    """Second's rate over its trace's mean, between two levels."""
    quantile_levels: tuple[float, ...]
    """From 0 to 1."""
    correlation_s: tuple[float, ...]
    """0 is white."""
    lags: tuple[int, ...]
    """In steps."""
    mean_bps: float
    """Of the traces fitted to."""
    levels: tuple[LevelFit, ...]
    """A fit for each level; the overlay does not use its `measured_*`."""
    held_out: tuple[HeldOutRow, ...]
    """How it did on held-out halves."""


def read_subsecond(path: str | Path = SUBSECOND) -> SubsecondFit:
    """Read a fit; raises `ArtefactError` that names the field that does not fit."""
    fit = read_json(path, SubsecondFit, version=FORMAT_VERSION)
    for name, wrong, expected in _complaints(fit):
        if wrong:
            raise ArtefactError(path, field=name, found=_short(fit, name), expected=expected)
    return fit


@cache
def shipped_subsecond() -> SubsecondFit:
    """The shipped fit."""
    return read_subsecond()


def _complaints(fit: SubsecondFit) -> list[tuple[str, bool, str]]:
    edges, at = np.array(fit.level_edges), np.array(fit.quantile_levels)
    times = np.array(fit.correlation_s)
    rows = [
        ("step_s", not 1e-3 <= fit.step_s <= COARSEST_S, f"seconds from 0.001 to {COARSEST_S}"),
        ("level_edges", not _rises(edges), "numbers above 0 that rise"),
        (
            "quantile_levels",
            len(at) < 2 or at[0] != 0 or at[-1] != 1 or not _rises(at[1:]),
            "numbers that rise from 0 to 1",
        ),
        (
            "correlation_s",
            not len(times) or not bool(np.all(np.isfinite(times) & (times >= 0))),
            "one or more times in seconds, none below 0",
        ),
        ("mean_bps", not 0 < fit.mean_bps < math.inf, "bit/s above 0"),
        (
            "levels",
            len(fit.levels) != len(edges) + 1,
            f"{len(edges) + 1} levels, one more than edges",
        ),
    ]
    for k, level in enumerate(fit.levels):
        factors, weights = np.array(level.factors), np.array(level.weights)
        rows += [
            (f"levels[{k}].empty", not 0 <= level.empty < 1, "a share, 0 to below 1"),
            (
                f"levels[{k}].factors",
                len(factors) != len(at) or not _grows(factors),
                f"{len(at)} numbers from 0 up that do not fall, the last above 0",
            ),
            (
                f"levels[{k}].weights",
                len(weights) != len(times)
                or not bool(np.all(weights >= 0))
                or abs(float(weights.sum()) - 1) > 1e-6,
                f"{len(times)} shares that add up to 1",
            ),
        ]
    return rows


def _rises(values: Floats) -> bool:
    return bool(np.all(np.diff(np.concatenate([[0.0], values])) > 0) and np.all(values < np.inf))


def _grows(values: Floats) -> bool:
    finite = bool(np.all(np.isfinite(values)) and np.all(values >= 0))
    return finite and bool(np.all(np.diff(values) >= 0)) and values[-1] > 0


def _short(fit: SubsecondFit, field: str) -> str:
    """What a field such as 'levels[2].empty' holds, cut short."""
    head, _, rest = field.partition(".")
    name, _, index = head.partition("[")
    value = getattr(fit, name)
    if index:
        value = getattr(value[int(index[:-1])], rest)
    if name == "levels" and not index:
        return f"{len(value)} levels"
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else f"{len(value)} numbers {text[:50]}…"


def with_subsecond(
    trace: BandwidthTrace,
    fit: SubsecondFit,
    seed: int,
    step_s: float | None = None,
    *,
    reference_bps: float | None = None,
) -> BandwidthTrace:
    """The trace with variation within its pieces, on steps of about `step_s` (the fit's own).

    Every piece is cut into equal steps and keeps its bytes; one without rate stays whole, one
    shorter than a step and a half as it is. The randomness comes from `seed` and the trace's name
    alone. Levels are relative to the trace's mean, so scaling before or after gives the same; the
    other reading of the fit, that a link is rough where it is slow in bit/s, is `reference_bps` =
    `fit.mean_bps` (two traces of the same mean cannot tell them apart). Meant for logs whose
    pieces last about a second.

    `trace` is what is cut; `fit` says how seconds vary.
    """
    step_s = fit.step_s if step_s is None else step_s
    if not fit.step_s <= step_s <= COARSEST_S:
        raise UsageError(
            f"sub-second steps: found {step_s} s, expected {fit.step_s} to {COARSEST_S} s"
        )
    lengths = np.diff(np.append(trace.times_s, trace.duration_s))
    if float(lengths.sum()) / fit.step_s > MOST_STEPS:
        raise UsageError(
            f"trace '{trace.name}': found {trace.duration_s:g} s, expected at most "
            f"{MOST_STEPS * fit.step_s:g} s for sub-second variation"
        )
    reference = trace.mean_bps if reference_bps is None else reference_bps
    if reference_bps is not None and not 0 < reference_bps < math.inf:
        raise UsageError(
            f"sub-second levels: found a reference of {reference_bps} bit/s, expected one above 0"
        )
    if not trace.total_bytes > 0:
        return trace
    rng = np.random.default_rng([seed, zlib.crc32(trace.name.encode())])
    fine = _Steps.of(lengths, fit.step_s)
    level = np.searchsorted(fit.level_edges, trace.rates_bps / reference, side="right")
    factors = fit_factors(fit, level[fine.piece], fine, rng)
    steps = fine if step_s == fit.step_s else _Steps.of(lengths, step_s)
    if steps is not fine:
        factors = fine.mean_over(steps, factors)
    rates = steps.conserved(factors, trace.rates_bps)
    kept = (trace.rates_bps[steps.piece] > 0) | (steps.number == 0)
    times = trace.times_s[steps.piece] + steps.number * steps.length_s
    log = log_digest(trace)
    return BandwidthTrace(trace.name, times[kept], rates[kept], trace.duration_s, log)


def subsecond_set(
    traces: TraceSet,
    seed: int,
    fit: SubsecondFit | None = None,
    step_s: float | None = None,
    *,
    reference_bps: float | None = None,
) -> TraceSet:
    """The set with variation within seconds (the shipped fit); its source says so.

    `traces` are the set, `seed` is of the variation, `fit` says how seconds vary. `step_s`
    (seconds) and `reference_bps` (bit/s) as in `with_subsecond`.
    """
    if fit is None:
        fit = shipped_subsecond()
        digest = "\n".join((traces_digest(traces.traces), *(t.log for t in traces.traces)))
        made = _overlaid(_Wanted(digest, seed, step_s, reference_bps, traces.traces))
    else:
        made = tuple(
            with_subsecond(trace, fit, seed, step_s, reference_bps=reference_bps)
            for trace in traces.traces
        )
    step_ms = 1000.0 * (fit.step_s if step_s is None else step_s)
    over = "" if reference_bps is None else f", levels over {reference_bps / 1e6:g} Mbit/s"
    said = f"with sub-second variation on {step_ms:g} ms steps (seed {seed}{over})"
    return replace(traces, traces=made, source=f"{traces.source} {said}")


@dataclass(frozen=True)
class _Wanted:
    """What decides how traces vary by the shipped fit."""

    digest: str
    seed: int
    step_s: float | None
    reference_bps: float | None
    traces: tuple[BandwidthTrace, ...] = field(compare=False)


@lru_cache(maxsize=KEPT)
def _overlaid(wanted: _Wanted) -> tuple[BandwidthTrace, ...]:
    fit, reference_bps = shipped_subsecond(), wanted.reference_bps
    return tuple(
        with_subsecond(trace, fit, wanted.seed, wanted.step_s, reference_bps=reference_bps)
        for trace in wanted.traces
    )


class _Steps:
    """Steps (N,) that pieces (K,) are cut into: whose each is, its number in it, its length."""

    def __init__(self, counts: Ints, lengths_s: Floats) -> None:
        self.starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.piece = np.repeat(np.arange(len(counts)), counts)
        self.number = np.arange(len(self.piece)) - self.starts[self.piece]
        self.length_s = (lengths_s / counts)[self.piece]
        self.counts = counts

    @classmethod
    def of(cls, lengths_s: Floats, step_s: float) -> _Steps:
        """Every piece in as many equal steps as are nearest to `step_s`."""
        return cls(np.maximum(np.rint(lengths_s / step_s), 1).astype(np.int64), lengths_s)

    def conserved(self, factors: Floats, rates_bps: Floats) -> Floats:
        """Rates (N,) in proportion to `factors` whose mean over each piece is its rate (K,)."""
        mean = np.add.reduceat(factors, self.starts) / self.counts
        return np.asarray(factors * np.divide(rates_bps, mean)[self.piece])

    def mean_over(self, coarse: _Steps, values: Floats) -> Floats:
        """Means of `values` (N,) over the steps of a coarser cut of the same pieces."""
        # places counted in fine steps; summed apart, not by differences, so that empty stays empty
        counts = self.counts[coarse.piece]
        begin = self.starts[coarse.piece] + coarse.number * counts / coarse.counts[coarse.piece]
        edges = np.union1d(begin, np.arange(len(values) + 1))
        owner = np.searchsorted(begin, edges[:-1], side="right") - 1
        passed = np.diff(edges) * values[edges[:-1].astype(np.int64)]
        return np.bincount(owner, passed, len(begin)) / np.diff(np.append(begin, len(values)))


def fit_factors(fit: SubsecondFit, level: Ints, steps: _Steps, rng: np.random.Generator) -> Floats:
    """Factors (N,) of consecutive steps whose seconds' levels are `level` (N,); 0 in empty ones.

    No piece is empty throughout: where every step would be, all passes in its best one.

    `fit` says how seconds vary, `steps` whose piece each is, `rng` draws. A factor
    multiplies the piece's own rate.
    """
    normal = _gaussian_path(fit, level, rng)
    factors = np.zeros(len(level))
    for k, own in enumerate(fit.levels):
        mine = np.flatnonzero(level == k)
        inside = (normal_cdf(normal[mine]) - own.empty) / (1.0 - own.empty)
        found = np.interp(inside, fit.quantile_levels, own.factors)
        factors[mine] = np.where(inside > 0, found, 0.0)
    silent = np.add.reduceat(factors, steps.starts) <= 0
    best = np.maximum.reduceat(normal, steps.starts)
    alone = silent[steps.piece] & (normal == best[steps.piece])
    return np.where(alone, 1.0, factors)


def _gaussian_path(fit: SubsecondFit, level: Ints, rng: np.random.Generator) -> Floats:
    """Standard normal (N,): the processes of all correlation times, weighted by the level."""
    weights = np.sqrt(np.array([own.weights for own in fit.levels]))
    path = np.zeros(len(level))
    for k, scale_s in enumerate(fit.correlation_s):
        keep = math.exp(-fit.step_s / scale_s) if scale_s > 0 else 0.0
        shocks = rng.standard_normal(len(level))
        path += weights[:, k].take(level) * autoregression(shocks, keep)
    return path


def autoregression(shocks: Floats, keep: float) -> Floats:
    """First-order process of unit variance (N,) from standard normal `shocks`.

    By doubling: after j passes every value holds its last 2^j shocks.
    """
    path = shocks * math.sqrt(1.0 - keep * keep)
    path[:1] = shocks[:1]
    reach, weight = 1, keep
    while reach < len(path) and weight > NEGLIGIBLE:
        path[reach:] = path[reach:] + weight * path[:-reach]
        reach, weight = 2 * reach, weight * weight
    return path
