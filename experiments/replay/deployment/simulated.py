"""A simulated device that keeps its records as a daemon does.

The simulator is of the place where the device stands; controllers know only the scenario. What is
kept goes through the daemon's own writer, a stream a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Ints
from controller.daemon.records.entries import RecordSettings, records_header
from controller.daemon.records.keeping import MOST_WAITING, RecordsKeeper
from controller.device.frame import FrameRecord
from controller.interface import Controller, FrameResult, Measurement, Overruled, Situation
from controller.scenarios import Setting
from envs.records import StepResult
from envs.simulator import Simulator
from experiments.evaluation.evaluator import TraceRun, evaluate
from traces.trace import BandwidthTrace

MOST_BYTES, HOURS = 2**36, 8784.0
"""Of records that nobody shall lose to their bounds."""
BEGUN_AT_S = 1.6e9
"""When the first simulated stream begins, in seconds since 1970."""

Kept = FrameRecord | Measurement


@dataclass
class KeepingController:
    """Another controller, with what its device would keep: measurements, and frames at their end.

    `under_way` are frames without an end, by their numbers (`keep_step` fills it).
    """

    inner: Controller
    kept: list[Kept] = field(default_factory=list)
    under_way: dict[int, FrameRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Its name and probe are the inner one's."""
        self.name, self.initial_probe_bytes = self.inner.name, self.inner.initial_probe_bytes

    def reset(self) -> None:
        """A new stream; what was kept stays."""
        self.inner.reset()

    def observe(self, measurement: Measurement) -> None:
        """Keep a measurement."""
        self.kept.append(measurement)
        self.inner.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """Keep a frame."""
        self.kept.append(self.under_way.pop(result.frame))
        self.inner.record(result)

    def decide(self, situation: Situation) -> int:
        """The inner one's plan."""
        return self.inner.decide(situation)

    def overruled(self, frame: int, plan: int) -> None:
        """Passed on where the inner one asks for it."""
        if isinstance(self.inner, Overruled):
            self.inner.overruled(frame, plan)


def keep_step(
    controllers: Sequence[KeepingController],
    simulator: Simulator,
    step: StepResult,
    frames: Ints,
    plans: Ints,
) -> None:
    """Have the frame of each of `controllers` kept once it has ended.

    `frames` and `plans` (L,) are those of the `step` that `simulator` has just made.
    """
    outcome, table = step.outcome, simulator.rows.gate_rows.table
    compute_s = table.cost_of("compute", 1)[step.ending] * simulator.factors[1]
    computes = table.prefix_s[step.ending] > 0
    local = table.local[step.ending]
    for k, controller in enumerate(controllers):
        frame, arrival_s = int(frames[k]), float(step.arrival_s[k])
        in_time = bool(step.in_time[k])
        stages_s, moments_s = {}, {}
        if computes[k] and np.isfinite(outcome.device_start_s[k]):
            moments_s["begun"] = float(outcome.device_start_s[k]) - arrival_s
        if np.isfinite(outcome.handed_s[k]):
            moments_s["handed"] = float(outcome.handed_s[k]) - arrival_s
            if not computes[k]:
                moments_s["encoding"] = float(outcome.device_start_s[k]) - arrival_s
        by_edge = bool(outcome.measured_complete[k] and outcome.by_plan[k])
        if by_edge:
            stages_s["receive"] = float(outcome.measured_duration_s[k])
            waited_s = float(outcome.served_s[k] - outcome.reached_s[k])
            stages_s["edge queue"] = waited_s + simulator.setting.scenario.world.edge.overhead_s
            stages_s["edge compute"] = float(compute_s[k])
            moments_s["replied"] = float(outcome.measured_known_s[k]) - arrival_s
        controller.under_way[frame] = FrameRecord(
            frame, int(plans[k]), arrival_s, float(outcome.latency_s[k]) if in_time else None,
            int(outcome.answer_exit[k]) if in_time else None, bool(outcome.by_plan[k]),
            None if not in_time else "edge" if by_edge and not local[k] else "device",
            None, None, int(outcome.measured_bytes[k]), float(outcome.device_s[k]), None,
            stages_s, moments_s,
        )  # fmt: skip


def simulated_records(
    setting: Setting,
    place: Setting,
    traces: Sequence[BandwidthTrace],
    make: Callable[[int], Controller],
    folder: Path,
    seed: int,
) -> list[TraceRun]:
    """Run `make(k)`'s controller on trace k in `place`, and keep records of `setting` in `folder`.

    `place` is the setting as it is where the device stands, `setting` the one that it knows.
    `traces` are the link there, scaled. `seed` draws phases, computing times and pictures.
    """
    controllers: list[KeepingController] = []

    def keeping(k: int) -> Controller:
        controllers.append(KeepingController(make(k)))
        return controllers[-1]

    runs = evaluate(
        place, traces, keeping, seed=seed, as_daemon=True,
        watch=lambda *seen: keep_step(controllers, *seen),
    )  # fmt: skip
    begun_at_s = BEGUN_AT_S
    for controller, trace in zip(controllers, traces, strict=True):
        _write(setting, controller.kept, folder, begun_at_s)
        begun_at_s += trace.duration_s
    return runs


def _write(setting: Setting, kept: Sequence[Kept], folder: Path, begun_at_s: float) -> None:
    """One stream by the daemon's writer."""
    keeper = RecordsKeeper(
        lambda stream, number: records_header(setting, stream, number, begun_at_s),
        wall=lambda: begun_at_s,
    )
    keeper.change(RecordSettings(str(folder), MOST_BYTES, HOURS))
    for begin in range(0, len(kept), MOST_WAITING // 2):
        for one in kept[begin : begin + MOST_WAITING // 2]:
            keeper.keep(one)
        keeper.flush(60.0)
    keeper.close(60.0)
    if keeper.dropped:
        raise UsageError(f"records: found {keeper.dropped} that '{folder}' took none of")
