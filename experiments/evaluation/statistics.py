"""Statistics of a comparison over traces: averages, intervals, tests. Pure numpy.

The trace (a log file) is the unit: frames of one trace are not independent, seeds of one trace are
averaged before anything else, and every interval and test is over traces, each counted equally.
Knows nothing of controllers, scenarios or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Floats

Interval = tuple[float, float]

LEVEL = 0.95
RESAMPLES = 10_000
EXACT_UP_TO = 16
"""Traces up to which all 2^n sign patterns are enumerated."""
DRAWS = 20_000
"""Sign patterns drawn where there are more traces than that."""
CLAIM_FILES = 2
"""Test files below which nothing is claimed of a group (a mode of transport)."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences of two controllers, paired over traces; each trace counts equally.

    `interval95`: percentile bootstrap over traces. `p_value`: two-sided sign-flip test, `exact`
    where every sign pattern was looked at. `sign_flip95`: what that test does not refuse at 5 %
    (None: too few traces to refuse anything). `leave_one_out`: range of the mean when any one trace
    is left out (None: one trace). `worst`: index of the trace of the least difference.
    """

    mean: float
    interval95: Interval
    p_value: float
    exact: bool
    sign_flip95: Interval | None
    leave_one_out: Interval | None
    worst: int
    traces: int


def seeds_averaged(values: npt.ArrayLike) -> Floats:
    """Mean over seeds of values (seeds, traces): an array (traces,)."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.all(np.isfinite(table)):
        raise UsageError(
            f"statistics: found values of shape {table.shape}, expected finite (seeds, traces)"
        )
    return np.asarray(table.mean(axis=0))


def bootstrap_mean(values: npt.ArrayLike, seed: int) -> Interval:
    """95 % percentile interval of the mean of (traces,), traces drawn with replacement.

    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.) With few traces
    it is too narrow; `sign_flip` stands beside it for that reason.
    """
    own = _checked(values)
    return _quantiles(own[_drawn(len(own), seed)].mean(axis=1))


def bootstrap_crossed(values: npt.ArrayLike, seed: int) -> Interval | None:
    """95 % percentile interval of the mean of (seeds, traces), both drawn with replacement.

    What another training and other traces might give, where `bootstrap_mean` of the seeds' mean
    speaks of these trainings alone (the crossed, or pigeonhole, bootstrap: Owen, Annals of Applied
    Statistics 2007). None of a single seed: it says nothing of another.
    """
    table = np.asarray(values, dtype=np.float64)
    seeds_averaged(table)
    if len(table) < 2:
        return None
    rng = np.random.default_rng(seed)
    seeds, traces = table.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), RESAMPLES) / seeds
    of_traces = rng.multinomial(traces, np.full(traces, 1.0 / traces), RESAMPLES) / traces
    return _quantiles(np.asarray(((of_seeds @ table) * of_traces).sum(axis=1)))


def bootstrap_ratio(above: npt.ArrayLike, below: npt.ArrayLike, seed: int) -> Interval | None:
    """95 % percentile interval of sum(above) / sum(below) over traces drawn with replacement.

    None where a drawn sum of `below` is not above 0: the ratio has no bounded interval then.
    """
    top, bottom = _checked(above), _checked(below)
    drawn = _drawn(len(top), seed)
    totals = bottom[drawn].sum(axis=1)
    if not np.all(totals > 0):
        return None
    return _quantiles(top[drawn].sum(axis=1) / totals)


@dataclass(frozen=True, slots=True)
class SignFlip:
    """`p_value` of "symmetric about 0", and what centres the test does not refuse at 5 %."""

    p_value: float
    interval95: Interval | None
    exact: bool


def sign_flip(values: npt.ArrayLike, seed: int) -> SignFlip:
    """Two-sided sign-flip (paired permutation) test of differences (traces,).

    Under the hypothesis every difference is as likely with the other sign (Fisher 1935, section
    21). A sign pattern's sum reaches the observed one where the sum of what it flips is at most 0,
    so test and interval come from the same means of subsets (Hartigan, Using Subsample Values as
    Typical Values, JASA 1969). All subsets up to `EXACT_UP_TO` traces, else `DRAWS` of them by
    `seed`.
    """
    own = _checked(values)
    exact = len(own) <= EXACT_UP_TO
    means = _all_subset_means(own) if exact else _drawn_subset_means(own, seed)
    near_0 = 1e-12 * np.abs(own).max()
    patterns = len(means) + 1  # the one that flips nothing reaches the observed sum too
    least = 1 + min(int((means <= near_0).sum()), int((means >= -near_0).sum()))
    refused = int((1.0 - LEVEL) / 2.0 * patterns + 1e-9)
    ordered = np.sort(means)
    return SignFlip(
        min(1.0, 2.0 * least / patterns),
        (float(ordered[refused - 1]), float(ordered[-refused])) if refused else None,
        exact,
    )


def _all_subset_means(values: Floats) -> Floats:
    sums, counts = np.zeros(1), np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
        counts = np.concatenate([counts, counts + 1.0])
    return np.asarray(sums[1:] / counts[1:])


def _drawn_subset_means(values: Floats, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 2, (DRAWS, len(values)), dtype=np.int8).astype(np.float64)
    counts = chosen.sum(axis=1)
    some = counts > 0
    return np.asarray((chosen[some] @ values) / counts[some])


def leave_one_out(values: npt.ArrayLike) -> Interval | None:
    """Least and greatest mean of (traces,) with one trace left out; None of a single trace."""
    own = _checked(values)
    if len(own) < 2:
        return None
    means = (own.sum() - own) / (len(own) - 1)
    return (float(means.min()), float(means.max()))


def paired(mine: npt.ArrayLike, theirs: npt.ArrayLike, seed: int) -> Paired:
    """What can be said of mine - theirs, both (traces,) and in the same order of traces."""
    ours, others = _checked(mine), _checked(theirs)
    if len(ours) != len(others):
        raise UsageError(
            f"paired differences: found {len(ours)} and {len(others)} traces, expected as many"
        )
    off = ours - others
    test = sign_flip(off, seed)
    return Paired(
        float(off.mean()), bootstrap_mean(off, seed), test.p_value, test.exact, test.interval95,
        leave_one_out(off), int(off.argmin()), len(off),
    )  # fmt: skip


def by_group(
    mine: npt.ArrayLike, theirs: npt.ArrayLike, groups: Sequence[str | None], seed: int
) -> dict[str, Paired | None]:
    """`paired` of every named group of traces; None where it has fewer than `CLAIM_FILES`.

    `mine` and `theirs` (T,) are figures of the same traces, `groups` (T,) their groups' names;
    `seed` draws sign patterns.
    """
    ours, others = _checked(mine), _checked(theirs)
    found: dict[str, Paired | None] = {}
    for group in sorted({g for g in groups if g is not None}):
        own = np.array([g == group for g in groups])
        enough = int(own.sum()) >= CLAIM_FILES
        found[group] = paired(ours[own], others[own], seed) if enough else None
    return found


def jointly(differences: Mapping[str, npt.ArrayLike], seed: int) -> dict[str, float]:
    """p-values of several sign-flip tests on the same traces, adjusted for being several.

    Step-down max-T over common sign patterns (Westfall and Young, Resampling-Based Multiple
    Testing, 1993, section 4.5.3), which knows how the differences hang together: adjusting each p
    on its own (Holm) could refuse nothing with eight traces and ten rivals. The statistic is the
    sum over the root of the sum of squares.
    """
    if not differences:
        return {}
    names = list(differences)
    table = np.stack([_checked(differences[name]) for name in names], axis=1)
    # equal differences of 0 have a statistic of 0 under every pattern
    table = table / np.maximum(np.sqrt((table**2).sum(axis=0)), 1e-300)
    signs, exact = _sign_patterns(len(table), seed)
    observed, reached = np.abs(table.sum(axis=0)), np.abs(signs @ table)
    order = np.argsort(-observed, kind="stable")
    # from the least statistic up: the greatest among those that are still to be judged
    greatest = np.maximum.accumulate(reached[:, order[::-1]], axis=1)[:, ::-1]
    counts = (greatest >= observed[order] - 1e-12).sum(axis=0)
    p = counts / len(signs) if exact else (1 + counts) / (1 + len(signs))
    rising = np.minimum(np.maximum.accumulate(p), 1.0)
    found = {names[k]: float(p) for k, p in zip(order.tolist(), rising, strict=True)}
    return {name: found[name] for name in names}


def _sign_patterns(traces: int, seed: int) -> tuple[Floats, bool]:
    """Signs (patterns, traces): all that begin with + (the others mirror them), or drawn ones."""
    if traces > EXACT_UP_TO:
        drawn = np.random.default_rng(seed).integers(0, 2, (DRAWS, traces))
        return np.where(drawn > 0, -1.0, 1.0), False
    bits = (np.arange(2 ** (traces - 1))[:, None] >> np.arange(traces)) & 1
    return np.where(bits > 0, -1.0, 1.0), True


def _checked(values: npt.ArrayLike) -> Floats:
    own = np.asarray(values, dtype=np.float64)
    if own.ndim != 1 or not len(own) or not np.all(np.isfinite(own)):
        raise UsageError(
            f"statistics: found values of shape {own.shape}, expected finite ones, one a trace"
        )
    return own


def _drawn(traces: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, traces, (RESAMPLES, traces))


def _quantiles(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return (float(low), float(high))
