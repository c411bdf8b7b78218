"""How well change-point detectors do: on steps whose moment is known, and on recorded traces.

Owns `make_detector` over all detectors (river's Page-Hinkley included, imported only when asked
for), the synthetic steps, the simulated transfers, and the scores. Knows no plans and no rewards:
what a detector is worth to the configuration map is `coinfer compare --detector`'s to say.

Synthetic streams are piecewise-constant in the logarithm with log-normal noise; sizes of noise and
steps are quantiles measured on the training traces. Detectors are made comparable by tuning each
on streams of other seeds: of its grid, the setting of least cost (mean delay, a miss costing
`WITHIN_S`) among those with at most `ALARMS_PER_HOUR` false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import DependencyError, UsageError
from controller.interface import Measurement
from controller.sensing import make_detector as make_device_detector
from controller.sensing.baselines import EwmaConfig, EwmaDetector, SegmentStatistics
from controller.sensing.change_point import BayesianConfig, BayesianDetector
from controller.sensing.interface import ChangeDetector, DetectorStep, checked_bps
from controller.sensing.state_tracker import StateTracker
from traces.states import BandwidthState
from traces.trace import BandwidthTrace

Floats = npt.NDArray[np.float64]
Maker = Callable[[], ChangeDetector]

NAMES = ("bayes", "ewma", "page-hinkley")

WITHIN_S = 30.0
"""A change not declared this long after it, or before the next, is missed."""

ALARMS_PER_HOUR = 12.0
"""False alarms every detector may make on the tuning streams: one in five minutes."""

SEGMENT_MEAN_S, SEGMENT_LEAST_S = 60.0, 20.0
TUNING_SEED = 7_000_000

TRANSFER_BYTES = 12_288
"""Edgent's input: one float32 CIFAR picture."""

COMPUTE_S = 0.005
"""Between two transfers of the closed loop: about what the edge computes for a frame."""


@dataclass(frozen=True, slots=True)
class PageHinkleyConfig:
    """river's settings: tolerated deviation `delta`, `threshold`, forgetting factor `alpha`."""

    threshold: float = 3.0
    delta: float = 0.05
    alpha: float = 0.9999
    min_instances: int = 5


class PageHinkleyDetector:
    """river's two-sided Page-Hinkley test on the logarithm of the bandwidth (Page 1954)."""

    def __init__(self, config: PageHinkleyConfig | None = None, name: str = "page-hinkley") -> None:
        self.name = name
        self.config = PageHinkleyConfig() if config is None else config
        self._segment = SegmentStatistics(prior_std=0.3)
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        try:
            from river.drift import PageHinkley
        except ImportError:
            raise DependencyError(
                "detector 'page-hinkley': found no package 'river', expected it installed "
                "(pip install river)"
            ) from None
        c = self.config
        self._test: Any = PageHinkley(
            min_instances=c.min_instances, delta=c.delta, threshold=c.threshold, alpha=c.alpha
        )
        self._last_s: float | None = None

    def update(self, value_bps: float, at_s: float) -> DetectorStep:
        """See `ChangeDetector.update`; the test itself knows no time, only order."""
        value = checked_bps(value_bps, at_s)
        first = self._last_s is None
        self._last_s = at_s if self._last_s is None else max(self._last_s, at_s)
        self._test.update(math.log(value))
        change = bool(self._test.drift_detected)
        if first or change:
            self._segment.begin(self._last_s)
        self._segment.add(value)
        return self._segment.step(change, self._last_s)


def make_detector(name: str) -> ChangeDetector:
    """Any detector by name with its default settings; `UsageError` for a name that is none."""
    if name not in NAMES:
        raise UsageError(f"change detector: found '{name}', expected one of {', '.join(NAMES)}")
    return PageHinkleyDetector() if name == "page-hinkley" else make_device_detector(name)


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """How a link moves, in logarithms: noise within 20 s, steps between neighbouring 20 s.

    `noise`: quartiles; `steps`: quantiles 50, 75, 90 and 95 of the absolute step of the median.
    """

    noise: tuple[float, ...]
    steps: tuple[float, ...]


def link_statistics(traces: Sequence[BandwidthTrace], window: int = 20) -> LinkStatistics:
    """Statistics of traces on a grid of one second; outages count as a tenth of the mean rate."""
    noise: list[float] = []
    steps: list[float] = []
    for trace in traces:
        grid = np.log(np.maximum(trace.resample(1.0).rates_bps, 0.1 * trace.mean_bps))
        rows = grid[: len(grid) // window * window].reshape(-1, window)
        noise.extend(rows.std(axis=1))
        steps.extend(np.abs(np.diff(np.median(rows, axis=1))))
    if not steps:
        raise UsageError(
            f"link statistics: found no trace of two windows of {window} s, expected one"
        )
    return LinkStatistics(
        tuple(float(q) for q in np.quantile(noise, (0.25, 0.5, 0.75))),
        tuple(float(q) for q in np.quantile(steps, (0.5, 0.75, 0.9, 0.95))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class StepStream:
    """Measurements (M,) of a link that changes at `changes_s`, and how long it was watched."""

    times_s: Floats
    values_bps: Floats
    changes_s: Floats
    duration_s: float


def step_stream(
    statistics: LinkStatistics,
    hours: float,
    rng: np.random.Generator,
    *,
    irregular: bool,
    mean_bps: float = 3e6,
) -> StepStream:
    """Steps of the three greater sizes, up or down, on noise of one of three sizes per segment.

    Regular: a measurement a second. Irregular: exponential gaps of 0.75 s on average, and one in
    twenty of 6 s on average, as where a controller stays on the device: a second on average, too.
    The level is kept within a factor e^2 of `mean_bps` by turning steps that would leave it.
    """
    duration = 3600.0 * hours
    lengths: list[float] = []
    while sum(lengths) < duration:
        extra = float(rng.exponential(SEGMENT_MEAN_S - SEGMENT_LEAST_S))
        lengths.append(SEGMENT_LEAST_S + extra)
    edges = np.cumsum(lengths)[:-1]
    levels, noises = [0.0], [float(rng.choice(statistics.noise))]
    for _ in edges:
        step = float(rng.choice(statistics.steps[1:])) * (1.0 if rng.random() < 0.5 else -1.0)
        step = -step if abs(levels[-1] + step) > 2.0 else step
        levels.append(levels[-1] + step)
        noises.append(float(rng.choice(statistics.noise)))
    count = round(duration)
    if irregular:
        gaps = np.where(rng.random(count) < 0.05, 6.0, 0.7368) * rng.exponential(size=count)
        times = np.cumsum(gaps)
        times = times[times < duration]
    else:
        times = np.arange(count, dtype=np.float64)
    segment = np.searchsorted(edges, times, side="right")
    logs = np.array(levels)[segment] + np.array(noises)[segment] * rng.standard_normal(len(times))
    return StepStream(times, mean_bps * np.exp(logs), edges, duration)


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
    """One detector over streams, pooled."""
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
    """Every detector, tuned on its own streams and scored on others, for both ways of sampling."""
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


def closed_loop_transfers(
    trace: BandwidthTrace,
    n_bytes: float = TRANSFER_BYTES,
    compute_s: float = COMPUTE_S,
) -> list[Measurement]:
    """Transfers one after another over a whole trace, `compute_s` between them: what one measures.

    What is under way when the trace ends is not measured.
    """
    found = []
    start = 0.0
    while start < trace.duration_s:
        end = float(trace.transfer_end(start, n_bytes, past_end="stop"))
        if not math.isfinite(end):
            break
        found.append(Measurement(end, int(n_bytes), end - start))
        start = end + compute_s
    return found


@dataclass(frozen=True, slots=True)
class TraceScore:
    """One detector on recorded traces: what it declares, and how near its segment's mean is.

    `log_error`: mean absolute difference of logarithms between a segment's mean and the *next*
    transfer's rate. `update_us`: median time of one update on this machine.
    """

    detector: str
    hours: float
    transfers: int
    changes_per_hour: float
    switches_per_hour: float
    log_error: float
    update_us: float


def score_traces(
    name: str,
    streams: Sequence[Sequence[Measurement]],
    states: Sequence[BandwidthState],
    hours: float,
    make: Maker,
    clock: Callable[[], float],
) -> TraceScore:
    """One detector over the transfers of recorded traces, with a `StateTracker` behind it."""
    changes = switches = 0
    errors: list[float] = []
    seconds: list[float] = []
    for stream in streams:
        tracker = StateTracker(states, make())
        switches -= bool(stream)
        for measurement in stream:
            mean = tracker.mean_bps
            if mean is not None:
                errors.append(abs(math.log(max(measurement.rate_bps, 1000.0) / mean)))
            begun = clock()
            switches += tracker.observe(measurement)
            seconds.append(clock() - begun)
        changes += tracker.changes
    if not errors:
        raise UsageError("detector benchmark: found no two transfers in a trace, expected some")
    return TraceScore(
        detector=name,
        hours=hours,
        transfers=len(seconds),
        changes_per_hour=changes / hours,
        switches_per_hour=switches / hours,
        log_error=float(np.mean(errors)),
        update_us=1e6 * float(np.median(seconds)),
    )


def trace_benchmark(
    traces: Sequence[BandwidthTrace],
    states: Sequence[BandwidthState],
    clock: Callable[[], float],
    progress: Callable[[str], None] = lambda what: None,
) -> list[TraceScore]:
    """Every detector with its default settings over the same simulated transfers."""
    streams = [closed_loop_transfers(trace) for trace in traces]
    hours = sum(trace.duration_s for trace in traces) / 3600.0
    scores = []
    for name in NAMES:
        progress(f"traces: {name}")
        scores.append(
            score_traces(name, streams, states, hours, lambda n=name: make_detector(n), clock)  # type: ignore[misc]
        )
    return scores
