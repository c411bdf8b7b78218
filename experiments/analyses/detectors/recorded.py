"""Detectors on recorded traces: what they declare there, and what following them would cost.

Knows no plans and no rewards: what a detector is worth to the configuration map is
`coinfer compare --detector`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing.state_tracker import StateTracker
from experiments.analyses.detectors.scores import Maker
from experiments.evaluation.detectors import NAMES, make_detector
from traces.states import BandwidthState
from traces.trace import BandwidthTrace

TRANSFER_BYTES = 12_288
"""Edgent's input: one float32 CIFAR picture."""

COMPUTE_S = 0.005
"""Between two transfers of the closed loop: about what the edge computes for a frame."""


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
    """One detector over the transfers of recorded traces, with a `StateTracker` behind it.

    `name` is the detector's, which `make` makes. `streams` are the measurements of one trace each,
    `hours` in all; `states` are those of the map; `clock` gives seconds.
    """
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
    """Every detector with its default settings over the same simulated transfers.

    `traces` are run, `states` are those of the map. `clock` gives seconds; `progress` is called
    with what is being done.
    """
    streams = [closed_loop_transfers(trace) for trace in traces]
    hours = sum(trace.duration_s for trace in traces) / 3600.0
    scores = []
    for name in NAMES:
        progress(f"traces: {name}")
        scores.append(
            score_traces(name, streams, states, hours, lambda n=name: make_detector(n), clock)  # type: ignore[misc]
        )
    return scores
