"""The simulator held against a real run, frame by frame and stage by stage: `replay --audit`.

The physics is given what really happened outside it: the trace, when frames arrived, which pictures
they were, and the plans that were executed. It predicts every frame's latency, each of its stages,
and how good its answer in time is. What differs then is the physics' own fault, not that of a
controller which decided otherwise. Of a scenario's `[world]` the physics has pictures' own sizes
and the means of overheads; what nobody could know beforehand is not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.device.frame import FrameRecord
from controller.physics import FrameOutcome, PlanTable, TraceBank, run_frames
from controller.physics.frames import Timing
from controller.scenarios import Setting
from experiments.replay.device_run import RunRecord
from experiments.replay.pictures import picture_order
from traces.trace import BandwidthTrace

MEDIAN_BAR, P95_BAR, AGREEMENT_BAR, GOODPUT_BAR = 0.05, 0.15, 0.98, 0.01
"""What a prediction is held to: errors of latency, share of frames, goodput accuracy."""
STAGES = (
    "device wait", "prefix", "encoding", "link, both ways", "edge wait", "edge compute", "suffix",
)  # fmt: skip


class StageFigures(msgspec.Struct, frozen=True):
    """One stage of the frames that the plan's edge answered, in seconds."""

    stage: str
    frames: int
    measured_s: float
    """Mean."""
    predicted_s: float
    """Mean of the same frames."""
    median_error_s: float
    """Median of the absolute differences."""
    p95_error_s: float
    """Their 95th percentile."""


class FrameComparison(msgspec.Struct, frozen=True):
    """A frame as it went and as it was predicted; None where there is no answer in time."""

    frame: int
    plan: str
    arrival_s: float
    offloaded: bool
    measured_s: float | None
    """Latency."""
    predicted_s: float | None
    quality: float
    """Of its answer in time, 0 to 1: of a class right or wrong."""
    predicted_quality: float | None
    """None where the picture is none that outcomes were recorded of."""


class Audit(msgspec.Struct, frozen=True):
    """What the prediction is worth for one run."""

    scenario: str
    trace: str
    controller: str
    frames: int
    compared: int
    """Frames that the edge answered, in the run and in the prediction."""
    median_error: float
    """Of their latencies: median of the relative differences."""
    p95_error: float
    """Their 95th percentile."""
    agreement: float
    """Of qualities in time: 1 less their mean difference. Of classes the share of frames that are
    right and in time in both, or in neither."""
    in_time_agreement: float
    """The same for being in time."""
    goodput_accuracy: float
    predicted_goodput_accuracy: float
    late_share: float
    predicted_late_share: float
    stages: tuple[StageFigures, ...]
    rows: tuple[FrameComparison, ...] = ()

    @property
    def held(self) -> dict[str, bool]:
        """Which of the bars the prediction holds."""
        off = abs(self.goodput_accuracy - self.predicted_goodput_accuracy)
        return {
            "median error of latency": self.median_error <= MEDIAN_BAR,
            "95th percentile": self.p95_error <= P95_BAR,
            "right and in time": self.agreement >= AGREEMENT_BAR,
            "goodput accuracy": off <= GOODPUT_BAR,
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the physics says of N frames whose plans are given; seconds since each arrival.

    `latency_s` is inf where there is no answer in time; `stages` (N,) each are NaN where a frame
    does not pass them.
    """

    latency_s: Floats
    exit: Ints
    by_plan: Bools
    stages: dict[str, Floats]


def audit(
    setting: Setting, trace: BandwidthTrace, record: RunRecord, seed: int, *, rows: bool = True
) -> Audit:
    """Predict a run on `trace` (scaled already) by its own plans, and compare.

    `setting` is the scenario loaded, `record` what the device wrote, `seed` the one of its
    pictures. With `rows` every frame is reported, not only figures of all.
    """
    frames = record.frames
    samples = _samples(setting, record, seed)
    found = predict(setting, trace, frames, samples)
    deadline_s = setting.scenario.frames.deadline_s + 1e-6
    latency = np.array([np.inf if f.latency_s is None else f.latency_s for f in frames])
    in_time, expected = latency <= deadline_s, found.latency_s <= deadline_s
    quality = np.where(in_time, np.array(record.quality, dtype=np.float64), 0.0)
    predicted = (
        None
        if samples is None
        else np.where(expected, _quality(setting, frames, found, samples), 0.0)
    )
    measured = measured_stages(setting, frames)
    replied = np.isfinite(measured["link, both ways"])
    by_edge = np.array([f.where == "edge" or (f.by_plan and f.bytes_sent > 0) for f in frames])
    both = replied & by_edge & found.by_plan & np.isfinite(latency) & np.isfinite(found.latency_s)
    errors = np.abs(found.latency_s[both] - latency[both]) / np.maximum(latency[both], 1e-9)
    # of samples that nothing was recorded of time alone is compared
    judged = in_time.astype(np.float64) if predicted is None else quality
    guessed = expected.astype(np.float64) if predicted is None else predicted
    return Audit(
        setting.scenario.name, trace.name, record.controller, len(frames), int(both.sum()),
        _quantile(errors, 0.5), _quantile(errors, 0.95),
        float((1.0 - np.abs(judged - guessed)).mean()), float((in_time == expected).mean()),
        float(quality.mean()), float(guessed.mean()),
        float((~in_time).mean()), float((~expected).mean()),
        tuple(_stage(name, measured[name][both], found.stages[name][both]) for name in STAGES),
        _rows(setting, frames, found, quality, predicted) if rows else (),
    )  # fmt: skip


def predict(
    setting: Setting,
    trace: BandwidthTrace,
    frames: Sequence[FrameRecord],
    samples: Ints | None,
) -> Prediction:
    """The physics of `setting` on the plans that `frames` ran by, one after the other.

    `trace` is the link, scaled already.

    `samples` (N,) are the pictures' places in the report half, which say how gated plans end; None
    where they are unknown: then a gated plan is taken to go on to its end.
    """
    rows = setting.rows("report")
    table = rows.gate_rows.table
    plans = np.array([_as_run(setting.table, f) for f in frames], dtype=np.int64)
    # rows of `gate_rows` begin with the table's own plans, ended by no gate
    ending = plans if samples is None else rows.ending(plans, samples)
    link, models = TraceBank([trace]).lanes(np.zeros(1, dtype=np.int64)), setting.link_models
    state = setting.idle(1)
    timing: Timing = setting.timing
    weights = 1.0 if samples is None else rows.weight(ending, samples)
    weights = np.broadcast_to(weights, ending.shape)
    # of what is drawn in a world, nobody knows better than its mean
    beyond = setting.scenario.world.expected
    outcomes = []
    for number, frame in enumerate(frames):
        outcome, state = run_frames(
            table, ending[number : number + 1], np.array([frame.arrival_s]), state,
            setting.links(link), models, timing, **beyond,
            weight=weights[number : number + 1],
        )  # fmt: skip
        outcomes.append(outcome)
    latency = np.array([o.latency_s[0] for o in outcomes])
    exits = np.array([o.answer_exit[0] for o in outcomes], dtype=np.int64)
    for number, outcome in enumerate(outcomes):
        gone = number - 1 - np.flatnonzero(outcome.lost[::-1, 0] >= 0)
        latency[gone], exits[gone] = np.inf, -1
    by_plan = np.array([o.by_plan[0] for o in outcomes], dtype=np.bool_)
    return Prediction(latency, exits, by_plan, _predicted_stages(setting, frames, ending, outcomes))


def _as_run(table: PlanTable, frame: FrameRecord) -> int:
    """The plan as it ran: one that time was kept for has a local fallback."""
    plan = table.plans[frame.plan]
    if not frame.reserved or plan.rescue:
        return frame.plan
    kept = replace(plan, rescue=True)
    return next((k for k, other in enumerate(table.plans) if other == kept), frame.plan)


def _samples(setting: Setting, record: RunRecord, seed: int) -> Ints | None:
    """Where the frames' pictures stand in the report half of the outcomes."""
    if not record.real:
        return None
    places = np.searchsorted(setting.outcomes.half("report"), picture_order(setting, seed))
    return places[np.array([f.frame for f in record.frames], dtype=np.int64) % len(places)]


def _quality(
    setting: Setting, frames: Sequence[FrameRecord], found: Prediction, samples: Ints
) -> Floats:
    """Of the answers that are predicted, by the outcomes of the same samples; 0 of none."""
    rows = setting.rows("report")
    plans = np.array([f.plan for f in frames], dtype=np.int64)
    row = rows.row(rows.ending(plans, samples), np.maximum(found.exit, 0), found.by_plan)
    return np.where(found.exit >= 0, rows.of(row, samples), 0.0)


def measured_stages(setting: Setting, frames: Sequence[FrameRecord]) -> dict[str, Floats]:
    """Seconds of every stage (N,), NaN where a frame did not pass it or nothing is known of it."""

    def moment(name: str) -> Floats:
        return np.array([f.moments_s.get(name, np.nan) for f in frames])

    def stage(name: str) -> Floats:
        return np.array([f.stages_s.get(name, np.nan) for f in frames])

    begun, encoding, handed = (moment(name) for name in ("begun", "encoding", "handed"))
    replied = moment("replied")
    queue, compute = stage("edge queue"), stage("edge compute")
    ended = np.array([np.nan if f.latency_s is None else f.latency_s for f in frames])
    computes = setting.table.prefix_s[[f.plan for f in frames]] > 0
    begun = np.where(computes, begun, 0.0)
    has_suffix = setting.table.suffix_s[[f.plan for f in frames]] > 0
    return {
        "device wait": begun,
        "prefix": encoding - begun,
        "encoding": handed - encoding,
        "link, both ways": replied - handed - queue - compute,
        "edge wait": queue,
        "edge compute": compute,
        "suffix": np.where(has_suffix, ended - replied, 0.0),
    }


def _predicted_stages(
    setting: Setting, frames: Sequence[FrameRecord], ending: Ints, outcomes: Sequence[FrameOutcome]
) -> dict[str, Floats]:
    table = setting.rows("report").gate_rows.table

    def every(name: str) -> Floats:
        return np.array([getattr(outcome, name)[0] for outcome in outcomes])

    arrival = np.array([f.arrival_s for f in frames])
    codes = [p.hops[0].codec if p.hops else None for p in table.plans]
    cuts = [(p.exit, p.hops[0].start) if p.hops else (0, 0) for p in table.plans]
    device = setting.device
    encode = np.array(
        [
            0.0 if codes[e] is None else device.encode_s(str(codes[e]), device.crossing(*cuts[e]))
            for e in ending
        ]
    )
    handed, known = every("handed_s"), every("measured_known_s")
    compute = table.cost_of("compute", 1)[ending]
    with np.errstate(invalid="ignore"):  # of frames that never get there
        wait = every("served_s") - every("reached_s")
        passed = {
            "device wait": every("device_start_s") - arrival,
            "prefix": handed - every("device_start_s") - encode,
            "encoding": encode,
            "link, both ways": known - handed - wait - compute,
            "edge wait": wait,
            "edge compute": compute,
            "suffix": every("answered_s") - known,
        }
    return {name: np.where(np.isfinite(s), s, np.nan) for name, s in passed.items()}


def _stage(name: str, measured: Floats, predicted: Floats) -> StageFigures:
    known = np.isfinite(measured) & np.isfinite(predicted)
    measured, predicted = measured[known], predicted[known]
    off = np.abs(measured - predicted)
    means = [float(part.mean()) if len(part) else 0.0 for part in (measured, predicted)]
    errors = _quantile(off, 0.5), _quantile(off, 0.95)
    return StageFigures(name, len(off), means[0], means[1], *errors)


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0


def _rows(
    setting: Setting,
    frames: Sequence[FrameRecord],
    found: Prediction,
    quality: Floats,
    predicted: Floats | None,
) -> tuple[FrameComparison, ...]:
    return tuple(
        FrameComparison(
            f.frame, str(setting.table.plans[f.plan]), f.arrival_s, f.bytes_sent > 0, f.latency_s,
            float(latency) if np.isfinite(latency) else None, float(quality[k]),
            None if predicted is None else float(predicted[k]),
        )
        for k, (f, latency) in enumerate(zip(frames, found.latency_s, strict=True))
    )  # fmt: skip


def stage_rows(found: Audit) -> list[tuple[str, ...]]:
    """Rows of the printed table: stage, frames, measured, predicted, median and p95 difference."""
    rows = []
    for s in found.stages:
        seconds = (s.measured_s, s.predicted_s, s.median_error_s, s.p95_error_s)
        rows.append((s.stage, f"{s.frames}", *(f"{1e3 * value:.1f} ms" for value in seconds)))
    return rows


def bar_rows(found: Audit) -> list[tuple[str, str, str]]:
    """Rows of the printed table: what is predicted, how well, and whether that is good enough."""
    held = found.held
    off = found.predicted_goodput_accuracy - found.goodput_accuracy
    return [
        ("latency of offloaded frames, median error", f"{100 * found.median_error:.1f} %",
         _verdict(held["median error of latency"], f"{100 * MEDIAN_BAR:.0f} % at most")),
        ("latency of offloaded frames, 95th percentile", f"{100 * found.p95_error:.1f} %",
         _verdict(held["95th percentile"], f"{100 * P95_BAR:.0f} % at most")),
        ("right and in time, agreement", f"{100 * found.agreement:.2f} % of {found.frames} frames",
         _verdict(held["right and in time"], f"{100 * AGREEMENT_BAR:.0f} % at least")),
        ("goodput accuracy, predicted - measured", f"{100 * off:+.2f} points",
         _verdict(held["goodput accuracy"], f"{100 * GOODPUT_BAR:.0f} point at most")),
    ]  # fmt: skip


def _verdict(held: bool, bar: str) -> str:
    return f"{'held' if held else 'not held'} ({bar})"
