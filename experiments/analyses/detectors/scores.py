"""How well detectors find steps whose moment is known: delay, misses, false alarms.

Detectors are made comparable by tuning each on streams of other seeds: of its grid, the setting of
least cost (mean delay, a miss costing `WITHIN_S`) among those with at most `ALARMS_PER_HOUR` false
alarms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats
from controller.sensing.baselines import EwmaConfig, EwmaDetector
from controller.sensing.change_point import BayesianConfig, BayesianDetector
from controller.sensing.interface import ChangeDetector
from experiments.analyses.detectors.steps import LinkStatistics, StepStream, step_stream
from experiments.evaluation.detectors import (
    NAMES,
    PageHinkleyConfig,
    PageHinkleyDetector,
)

Maker = Callable[[], ChangeDetector]

WITHIN_S = 30.0
"""A change not declared this long after it, or before the next, is missed."""

ALARMS_PER_HOUR = 12.0
"""False alarms every detector may make on the tuning streams: one in five minutes."""

TUNING_SEED = 7_000_000


@dataclass(frozen=True, slots=True)
class StepScore:
    """One detector on step streams: delays of what it found, share missed, false alarms."""

    detector: str
    sampling: str
    settings: str
    mean_delay_s: float
    median_delay_s: float
    p90_delay_s: float
    missed_share: float
    false_alarms_per_hour: float
    changes: int

    @property
    def cost_s(self) -> float:
        """Mean delay with every miss counted as `WITHIN_S`."""
        found = 0.0 if self.missed_share == 1 else self.mean_delay_s * (1 - self.missed_share)
        return found + WITHIN_S * self.missed_share


def declared(detector: ChangeDetector, stream: StepStream) -> Floats:
    """Times at which a detector declares a change."""
    detector.reset()
    pairs = zip(stream.values_bps.tolist(), stream.times_s.tolist(), strict=True)
    return np.array([at for value, at in pairs if detector.update(value, at).change])


def match(alarms_s: Floats, changes_s: Floats) -> tuple[Floats, int, int]:
    """Delays of the changes found, how many were missed, how many alarms were false.

    A change is found by the first alarm after it, within `WITHIN_S` and before the next change;
    every other alarm is false.
    """
    ends = np.minimum(np.append(changes_s[1:], np.inf), changes_s + WITHIN_S)
    first = np.searchsorted(alarms_s, changes_s, side="left")
    candidate = np.append(alarms_s, np.inf)[first]
    found = candidate < ends
    return (candidate - changes_s)[found], int((~found).sum()), len(alarms_s) - int(found.sum())


def score_steps(
    make: Maker, streams: Sequence[StepStream], sampling: str, settings: str = "default"
) -> StepScore:
    """One detector over streams, pooled.

    `make` makes the detector anew for each of `streams`. `sampling` and `settings` are names for
    the row.
    """
    delays: list[Floats] = []
    missed = false = 0
    for stream in streams:
        found, lost, wrong = match(declared(make(), stream), stream.changes_s)
        delays.append(found)
        missed, false = missed + lost, false + wrong
    pooled = np.concatenate(delays)
    changes = len(pooled) + missed
    hours = sum(s.duration_s for s in streams) / 3600.0
    median, p90 = np.quantile(pooled, (0.5, 0.9)) if len(pooled) else (math.nan, math.nan)
    return StepScore(
        detector=make().name,
        sampling=sampling,
        settings=settings,
        mean_delay_s=float(pooled.mean()) if len(pooled) else math.nan,
        median_delay_s=float(median),
        p90_delay_s=float(p90),
        missed_share=missed / max(changes, 1),
        false_alarms_per_hour=false / hours,
        changes=changes,
    )


def grid(name: str) -> list[tuple[str, Maker]]:
    """The settings tried for a detector: what each is, and a maker of it."""
    if name == "bayes":
        return [
            (
                f"threshold {p}, tau {tau:g} s, confirm {n}, correlation {c:g} s",
                lambda p=p, tau=tau, n=n, c=c: BayesianDetector(  # type: ignore[misc]
                    BayesianConfig(tau_s=tau, threshold=p, confirm=n, correlation_s=c)
                ),
            )
            for p in (0.5, 0.7, 0.9, 0.97)
            for tau in (60.0, 240.0)
            for n in (1, 2)
            for c in (0.0, 3.0)
        ]
    if name == "ewma":
        return [
            (
                f"threshold {k}, tau {tau:g} s, confirm {n}",
                lambda k=k, tau=tau, n=n: EwmaDetector(  # type: ignore[misc]
                    EwmaConfig(tau_s=tau, threshold=k, confirm=n)
                ),
            )
            for k in (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5)
            for tau in (5.0, 15.0, 40.0)
            for n in (1, 2, 3, 4)
        ]
    return [
        (
            f"threshold {h}, delta {d}",
            lambda h=h, d=d: PageHinkleyDetector(  # type: ignore[misc]
                PageHinkleyConfig(threshold=h, delta=d)
            ),
        )
        for h in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
        for d in (0.02, 0.05, 0.1, 0.2)
    ]


def tune(name: str, streams: Sequence[StepStream], sampling: str) -> tuple[str, Maker]:
    """The cheapest setting within the false alarms allowed; where none is, the one with fewest."""
    scored = [(score_steps(m, streams, sampling, s), s, m) for s, m in grid(name)]
    quiet = [x for x in scored if x[0].false_alarms_per_hour <= ALARMS_PER_HOUR]
    if quiet:
        _, settings, make = min(quiet, key=lambda x: x[0].cost_s)
    else:
        _, settings, make = min(scored, key=lambda x: x[0].false_alarms_per_hour)
    return settings, make


def step_benchmark(
    statistics: LinkStatistics,
    hours: float,
    seed: int,
    progress: Callable[[str], None] = lambda what: None,
) -> list[StepScore]:
    """Every detector, tuned on its own streams and scored on others, for both ways of sampling.

    `statistics` are the link's noise and steps; streams of `hours` are drawn from `seed`.
    `progress` is called with what is being done.
    """
    scores = []
    for irregular in (False, True):
        sampling = "irregular" if irregular else "regular"

        def streams(base: int, length_h: float, irregular: bool = irregular) -> list[StepStream]:
            rng = np.random.default_rng([base, seed, int(irregular)])
            return [step_stream(statistics, length_h, rng, irregular=irregular)]

        tuning, scoring = streams(TUNING_SEED, min(hours, 2.0)), streams(0, hours)
        for name in NAMES:
            progress(f"steps, {sampling} sampling: {name}")
            settings, make = tune(name, tuning, sampling)
            scores.append(score_steps(make, scoring, sampling, settings))
    return scores
