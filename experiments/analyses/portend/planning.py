"""The plan of least mean latency whose accuracy stays above a floor: all of them, or few looked at.

Exhaustive search evaluates every plan: with N blocks of the order of N^3 for a threshold. The
planner has the latencies of plans over one and two tiers as sums of arrays, N^2 for a threshold.
Of three tiers it looks at those pairs of a first and a second end alone that would be quicker than
the best plan so far if the third tier were as quick as it can be: nothing that is left out can be
the best.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from experiments.analyses.portend.cost import Costs, Predicted, TierPlan, evaluate

Candidate = tuple[float, TierPlan | None]
"""Mean latency in milliseconds, and the plan that takes it (None: there is none)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan and what the model says of it."""

    plan: TierPlan
    predicted: Predicted


def whole_accuracy(costs: Costs) -> float:
    """Of the whole network, without exits."""
    return float(costs.exits.right[-1, costs.network.blocks] / costs.exits.samples)


def every_plan(costs: Costs) -> Iterator[TierPlan]:
    """All plans: every three ends, with every threshold that was measured."""
    ends = range(costs.network.blocks + 1)
    for first, second, last in itertools.combinations_with_replacement(ends, 3):
        if last:
            for threshold in costs.exits.thresholds:
                yield TierPlan(first, second, last, float(threshold))


def exhaustive(costs: Costs, floor: float) -> Chosen:
    """The best of all plans whose accuracy is at least `floor`, each evaluated by itself."""
    best: Chosen | None = None
    for plan in every_plan(costs):
        found = evaluate(costs, plan)
        if found.accuracy < floor - 1e-12:
            continue
        if best is None or found.latency_ms < best.predicted.latency_ms:
            best = Chosen(plan, found)
    return _found(best, floor)


def best_plan(costs: Costs, floor: float) -> Chosen:
    """The same plan by sums over pairs of ends; of equals any one."""
    sums = _Sums(costs, floor)
    best = min(sums.one_tier(), sums.two_tiers(1), sums.two_tiers(2), key=_ms)
    best = min(best, sums.three_tiers(best[0]), key=_ms)
    return _found(None if best[1] is None else Chosen(best[1], evaluate(costs, best[1])), floor)


def _ms(one: Candidate) -> float:
    return one[0]


def without_exits(costs: Costs, tiers: tuple[int, ...]) -> Chosen:
    """The quickest plan of the whole network without exits, on these tiers alone.

    One tier runs everything; of several each runs a block or more.
    """
    blocks = costs.network.blocks
    plans = (
        TierPlan(first, second, blocks)
        for first in range(blocks + 1)
        for second in range(first, blocks + 1)
    )
    fits = [p for p in plans if tuple(tier for tier, _, _ in p.tiers) == tiers]
    return min((Chosen(p, evaluate(costs, p)) for p in fits), key=lambda c: c.predicted.latency_ms)


def _found(best: Chosen | None, floor: float) -> Chosen:
    if best is None:
        raise UsageError(
            f"accuracy: found no plan that reaches {floor:.4f}, expected one (a lower floor)"
        )
    return best


class _Sums:
    """Latencies of all plans of one shape at once: (T, ...) over thresholds and ends.

    Index 0 of an end means that no block was run. Where a plan misses the floor it is infinite.
    """

    def __init__(self, costs: Costs, floor: float) -> None:
        n, exits, made = costs.network.blocks, costs.exits, costs.platform.propagation_ms
        self._costs, self._floor = costs, floor - 1e-12
        self._would, self._right, self._samples = exits.would, exits.right, exits.samples
        self._at_end = exits.right[-1]
        # milliseconds of blocks a + 1 to b, by tier: (N + 1, N + 1), infinite where b <= a
        ends = np.arange(n + 1)
        rising = ends[None, :] > ends[:, None]
        self._segments = [
            np.where(rising, costs.latency_ms(k)[1 : n + 2, : n + 1], np.inf) for k in range(3)
        ]
        self._first = np.concatenate([[0.0], self._segments[0][0, 1:]])
        entering = np.nan_to_num(costs.network.input_bytes[1 : n + 2])
        # to another tier and, for the result, back: what enters block a + 1
        self._hop = {
            (a, b): costs.hop_ms(a, b, entering) + sum(made[a:b])
            for a, b in ((0, 1), (0, 2), (1, 2))
        }

    def one_tier(self) -> Candidate:
        """Tier 0 alone; tiers 1 and 2 alone are plans of two tiers whose first runs nothing."""
        cost = np.where(self._at_end / self._samples >= self._floor, self._first, np.inf)
        cost[0] = np.inf
        last = int(cost.argmin())
        return self._candidate(float(cost[last]), (last, last, last), 0)

    def two_tiers(self, other: int) -> Candidate:
        """From tier 0, or from nothing, to one other tier: (T, first, last)."""
        left, right = self._would[:, :, None], self._right[:, :, None]
        rest = self._hop[0, other][:, None] + self._segments[other]
        cost = self._first[:, None] + _for_share(1.0 - left / self._samples, rest)
        cost = cost + self._misses(left, right, self._at_end)
        t, a, e = (int(k) for k in np.unravel_index(int(cost.argmin()), cost.shape))
        return self._candidate(float(cost[t, a, e]), (a, e if other == 1 else a, e), t)

    def three_tiers(self, below_ms: float) -> Candidate:
        """All three, if that is quicker than so many milliseconds: pairs of first and second."""
        left = np.maximum(self._would[:, :, None], self._would[:, None, :])
        reach = 1.0 - left / self._samples
        before = self._first[:, None] + _for_share(
            1.0 - self._would[:, :, None] / self._samples,
            self._hop[0, 1][:, None] + self._segments[1],
        )
        third = self._hop[1, 2][:, None] + self._segments[2]
        least = before + _for_share(reach, third.min(axis=1)[None, None, :])
        pairs = np.argwhere(least < below_ms)
        if not len(pairs):
            return np.inf, None
        t, a, b = pairs.T
        first = (self._would[t, a], self._right[t, a])
        right = first[1] + self._costs.newly_right(first, self._would[t, b], self._right[t, b])
        misses = self._misses(left[t, a, b][:, None], right[:, None], self._at_end)
        tail = third[b] + misses
        last = tail.argmin(axis=1)
        rest = tail[np.arange(len(t)), last]
        cost = before[t, a, b] + _for_share(reach[t, a, b], rest)
        k = int(cost.argmin())
        return self._candidate(float(cost[k]), (int(a[k]), int(b[k]), int(last[k])), int(t[k]))

    def _misses(self, left: Floats, right: Floats, at_end: Floats) -> Floats:
        """Infinite where the accuracy is below the floor, else 0.

        So many have `left`, so many of them `right`; `at_end` of all would be right at the end.
        """
        total = np.asarray(self._samples)
        right = right + self._costs.newly_right((left, right), total, at_end)
        return np.where(right / self._samples >= self._floor, 0.0, np.inf)

    def _candidate(self, cost: float, ends: tuple[int, int, int], at: int) -> Candidate:
        if not np.isfinite(cost):
            return np.inf, None
        return cost, TierPlan(*ends, float(self._costs.exits.thresholds[at]))


def _for_share(share: Floats, cost: Floats) -> Floats:
    """`share` of a `cost`; what cannot be stays infinite, where nobody comes there, too."""
    possible = np.isfinite(cost)
    return np.where(possible, share * np.where(possible, cost, 0.0), np.inf)
