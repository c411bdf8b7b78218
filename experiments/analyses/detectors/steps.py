"""Synthetic streams of measurements whose changes are known.

Piecewise-constant in the logarithm with log-normal noise; sizes of noise and steps are quantiles
measured on the training traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from traces.trace import BandwidthTrace

SEGMENT_MEAN_S, SEGMENT_LEAST_S = 60.0, 20.0


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

    `statistics` are the link's noise and steps, `hours` how long; `rng` draws, `irregular` is the
    second way of sampling.
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
