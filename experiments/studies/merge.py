"""Runs to figures: seeds averaged within traces, traces paired, the learned policy against rivals.

Owns no running and no files. Arrays are (seeds, traces), traces in the evaluation's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from artefacts.arrays import Floats
from controller.physics import PlanTable
from controller.registry import find_controller
from experiments.evaluation.comparison import TraceFigures, figures_of, share_interval, trace_means
from experiments.evaluation.evaluator import TraceRun
from experiments.evaluation.statistics import (
    Paired,
    bootstrap_crossed,
    bootstrap_ratio,
    by_group,
    jointly,
    paired,
    seeds_averaged,
)
from experiments.studies.results import (
    QUANTILES,
    Against,
    ControllerResult,
    Headline,
    ModeClaim,
)

PLANS_NAMED = 3
NO_GAP = 1e-9
"""A distance to the bound, in reward per frame, that is rounding."""
AVERAGED = (
    "goodput_accuracy", "late_share", "mean_latency_s", "p95_latency_s", "bytes_per_frame",
    "device_compute_s_per_frame", "reward", "share_of_bound",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """One controller's runs of every seed, [seed][trace], and the bound's sums (seeds, traces)."""

    runs: tuple[tuple[TraceRun, ...], ...]
    bound_sums: Floats
    closed: bool

    @cached_property
    def rewards(self) -> Floats:
        """Mean reward per frame, (seeds, traces)."""
        return np.stack([trace_means(of_seed) for of_seed in self.runs])

    @cached_property
    def goodput(self) -> Floats:
        """Goodput accuracy, (seeds, traces)."""
        return np.array(
            [[float(r.quality.mean()) if len(r.quality) else 0.0 for r in s] for s in self.runs]
        )

    @cached_property
    def bounds(self) -> Floats:
        """Clairvoyant bound per frame, (seeds, traces)."""
        counts = np.array([[max(len(r.reward), 1) for r in s] for s in self.runs])
        return np.asarray(self.bound_sums / counts)

    @cached_property
    def reward_sums(self) -> Floats:
        """Sum of the rewards, (seeds, traces)."""
        return np.array([[float(r.reward.sum()) for r in s] for s in self.runs])

    def pooled(self) -> tuple[TraceFigures, ...]:
        """Figures over all frames, a seed each."""
        return tuple(
            figures_of(list(s), [np.array([b]) for b in bounds], self.closed)
            for s, bounds in zip(self.runs, self.bound_sums, strict=True)
        )

    def latency_quantiles(self) -> tuple[float, ...]:
        """Of the frames answered in time (closed loop: of all), all seeds together."""
        every = [r for s in self.runs for r in s]
        seen = np.concatenate(
            [r.latency_s if self.closed else r.latency_s[r.in_time] for r in every]
        )
        if not len(seen):
            return ()
        return tuple(np.quantile(seen, np.linspace(0.0, 1.0, QUANTILES)).tolist())

    def most_used(self, table: PlanTable) -> dict[str, float]:
        """The plans chosen most often and their shares of the frames."""
        chosen = np.concatenate([r.plan for s in self.runs for r in s])
        rows, counts = np.unique(chosen[chosen >= 0], return_counts=True)
        first = np.argsort(-counts, kind="stable")[:PLANS_NAMED]
        return {str(table.plans[rows[k]]): float(counts[k] / len(chosen)) for k in first}


def best_baseline(every: Mapping[str, Runs]) -> str | None:
    """The deployable controller, learned ones aside, of the greatest mean over traces."""
    entries = {name: find_controller(name) for name in every}
    rivals = [n for n, e in entries.items() if e.deployable and "policy" not in e.needs]
    return max(rivals, key=lambda n: float(every[n].rewards.mean()), default=None)


def against(mine: Floats, theirs: Floats, over: str, traces: Sequence[str], seed: int) -> Against:
    """`mine` (seeds, traces) less `theirs` (seeds, traces), seeds averaged first.

    `over` is the other's name, `traces` are names; `seed` draws sign patterns.
    """
    own, others = seeds_averaged(mine), seeds_averaged(theirs)
    return _against(paired(own, others, seed), own - others, over, traces)


def _against(found: Paired, off: Floats, over: str, traces: Sequence[str]) -> Against:
    return Against(
        over, found.mean, found.interval95, found.p_value, found.exact, found.traces,
        float(off[found.worst]), traces[found.worst], found.sign_flip95, found.leave_one_out,
    )  # fmt: skip


def controller_results(
    every: Mapping[str, Runs], traces: Sequence[str], table: PlanTable, seed: int
) -> dict[str, ControllerResult]:
    """Every controller's figures, and its difference to the best deployable baseline.

    `every` has the runs by controller over `traces`, names; `table` has the plans. `seed` draws
    intervals and sign patterns.
    """
    best = best_baseline(every)
    found = {}
    for name, own in every.items():
        rival = best is not None and name != best
        found[name] = _result(
            name, own, traces, table, seed,
            against(own.rewards, every[best].rewards, best, traces, seed)
            if best is not None and rival else None,
        )  # fmt: skip
    if best is None:
        return found
    theirs = seeds_averaged(every[best].rewards)
    off = {n: seeds_averaged(own.rewards) - theirs for n, own in every.items() if n != best}
    adjusted = jointly(off, seed)
    return {n: _adjusted(r, adjusted.get(n)) for n, r in found.items()}


def _adjusted(result: ControllerResult, p_adjusted: float | None) -> ControllerResult:
    if result.against_best is None:
        return result
    against_best = msgspec.structs.replace(result.against_best, p_adjusted=p_adjusted)
    return msgspec.structs.replace(result, against_best=against_best)


def _result(
    name: str, own: Runs, traces: Sequence[str], table: PlanTable, seed: int, rival: Against | None
) -> ControllerResult:
    pooled = own.pooled()
    means: dict[str, Any] = {
        key: float(np.mean([getattr(figures, key) for figures in pooled])) for key in AVERAGED
    }
    rewards, bounds = seeds_averaged(own.reward_sums), seeds_averaged(own.bound_sums)
    return ControllerResult(
        deployable=find_controller(name).deployable,
        seeds=len(own.runs),
        **means,
        interval95=share_interval(rewards, bounds, seed),
        trace_reward=float(own.rewards.mean()),
        per_trace=dict(zip(traces, seeds_averaged(own.rewards).tolist(), strict=True)),
        per_trace_goodput=dict(zip(traces, seeds_averaged(own.goodput).tolist(), strict=True)),
        per_seed=tuple(own.rewards.mean(axis=1).tolist()),
        latency_quantiles_s=own.latency_quantiles(),
        plans=own.most_used(table),
        energy_j_per_frame=_mean([f.energy_j_per_frame for f in pooled]),
        throughput_fps=_mean([f.throughput_fps for f in pooled]),
        against_best=rival,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def headline(
    every: Mapping[str, Runs],
    traces: Sequence[str],
    modes: Sequence[str | None],
    seed: int,
    policies: int,
    p_adjusted: float | None = None,
) -> Headline | None:
    """The learned policy over the best deployable baseline; None where there are not both.

    `policies`: how many were trained; of each, the rows of every evaluation seed follow each other.

    `every` has the runs by controller over `traces`, names, whose modes of transport are `modes`.
    `seed` draws sign patterns; `p_adjusted` is the p among all rivals (None: not known).
    """
    best = best_baseline(every)
    if best is None or "learned" not in every:
        return None
    mine, rival = every["learned"], every[best]
    reward = against(mine.rewards, rival.rewards, best, traces, seed)
    gap, interval = _gap(mine, rival, seed)
    trained = mine.rewards.reshape(policies, -1, len(traces)).mean(axis=1)
    off = trained - seeds_averaged(rival.rewards)

    def over(name: str, figure: str) -> Against | None:
        if name not in every:
            return None
        return against(getattr(mine, figure), getattr(every[name], figure), name, traces, seed)

    return Headline(
        best_baseline=best,
        reward=msgspec.structs.replace(reward, p_adjusted=p_adjusted),
        goodput=against(mine.goodput, rival.goodput, best, traces, seed),
        per_seed=tuple(off.mean(axis=1).tolist()),
        seeds_and_traces95=bootstrap_crossed(off, seed),
        modes=_modes(mine, rival, best, traces, modes, seed),
        gap_closed=gap,
        gap_closed95=interval,
        over_planning=over("planning", "rewards"),
        over_device_only=over("device-only", "goodput"),
    )


def _gap(mine: Runs, rival: Runs, seed: int) -> tuple[float | None, tuple[float, float] | None]:
    """(learned - rival) / (bound - rival) over traces, each equally; a stream's only."""
    if mine.closed:
        return None, None
    own, theirs, bound = (
        seeds_averaged(part) for part in (mine.rewards, rival.rewards, rival.bounds)
    )
    gained, there = own - theirs, bound - theirs
    there = np.where(np.abs(there) < NO_GAP, 0.0, there)
    if not there.sum() > 0:
        return None, None
    return float(gained.sum() / there.sum()), bootstrap_ratio(gained, there, seed)


def _modes(
    mine: Runs, rival: Runs, over: str, traces: Sequence[str], modes: Sequence[str | None],
    seed: int,
) -> dict[str, ModeClaim]:  # fmt: skip
    own, theirs = seeds_averaged(mine.rewards), seeds_averaged(rival.rewards)
    found = {}
    for mode, claim in by_group(own, theirs, modes, seed).items():
        at = [k for k, m in enumerate(modes) if m == mode]
        difference = None
        if claim is not None:
            difference = _against(claim, (own - theirs)[at], over, [traces[k] for k in at])
        found[mode] = ModeClaim(len(at), difference)
    return found
