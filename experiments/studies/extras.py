"""What plots need beside the table: a trace's frames, other deadlines, the configuration map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from artefacts import UsageError
from controller.physics import PlanTable
from controller.planners.configuration_map import state_bandwidths
from controller.plans import Plan
from controller.scenarios import Setting, load_setting
from controller.scenarios.rewards import expected_rewards
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import TraceRun
from experiments.evaluation.statistics import bootstrap_mean
from experiments.studies.inputs import Group
from experiments.studies.kept_runs import GroupRunner
from experiments.studies.merge import Runs
from experiments.studies.results import DeadlinePoint, MapFigure, Series, SeriesOf
from experiments.studies.study import EvaluationSpec, SeriesSpec
from traces.trace import BandwidthTrace

Progress = Callable[[str, float], None]


def series_of(
    spec: SeriesSpec,
    traces: Sequence[BandwidthTrace],
    every: Mapping[str, Runs],
    best: str | None,
    table: PlanTable,
) -> Series:
    """The drawn part of one trace: its rate, and what a few controllers (first seed) did there.

    `spec` says which part; `every` has the runs by controller over `traces`, `best` is the best
    baseline's name (None: none); `table` has the plans.
    """
    at = place_of(spec, traces)
    trace = traces[at]
    end_s = min(spec.start_s + spec.seconds, trace.duration_s)
    part = trace.slice(spec.start_s, end_s)
    drawn = dict.fromkeys(n for n in ("learned", best, "device-only") if n in every)
    return Series(
        trace.name, spec.start_s, end_s - spec.start_s,
        tuple((part.times_s + spec.start_s).tolist()), tuple(part.rates_bps.tolist()),
        {n: _frames(every[n].runs[0][at], spec.start_s, end_s, table) for n in drawn if n},
    )  # fmt: skip


def place_of(spec: SeriesSpec, traces: Sequence[BandwidthTrace]) -> int:
    """Which of the traces is drawn; refuses one that is not there, or a start behind its end."""
    names = [t.name for t in traces]
    wanted = spec.trace.removesuffix(".log") if spec.trace not in names else spec.trace
    if wanted and wanted not in names:
        raise UsageError(
            f"field 'series.trace': found '{spec.trace}', expected one of {', '.join(names)}"
        )
    at = names.index(wanted) if wanted else 0
    if not spec.start_s < traces[at].duration_s:
        raise UsageError(
            f"field 'series.start_s': found {spec.start_s:g} s of '{names[at]}', expected less "
            f"than its {traces[at].duration_s:g} s"
        )
    return at


def _frames(run: TraceRun, start_s: float, end_s: float, table: PlanTable) -> SeriesOf:
    inside = (run.arrival_s >= start_s) & (run.arrival_s < end_s)
    rows, index = np.unique(run.plan[inside], return_inverse=True)
    return SeriesOf(
        tuple(run.arrival_s[inside].tolist()), tuple(index.tolist()),
        tuple(str(table.plans[k]) for k in rows),
        tuple(s if np.isfinite(s) else None for s in run.latency_s[inside].tolist()),
        tuple(run.in_time[inside].tolist()), tuple(run.quality[inside].tolist()),
    )  # fmt: skip


def deadline_points(
    spec: EvaluationSpec,
    setting: Setting,
    group: Group,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[DeadlinePoint, ...]:
    """Goodput accuracy of a few baselines at other deadlines; learned only at its own.

    `spec` names deadlines and baselines, `group` traces and policies of `setting`; `seed` draws,
    `folder` keeps runs. `progress` hears what is being done, and its share.
    """
    own_s = setting.scenario.frames.deadline_s
    found = []
    for deadline_s in sorted({own_s, *(ms / 1000.0 for ms in spec.deadlines_ms)}):
        here = setting if deadline_s == own_s else with_deadline(setting, deadline_s)

        def report(name: str, share: float, deadline_s: float = deadline_s) -> None:
            progress(f"{1000 * deadline_s:g} ms: {name}", share)

        runner = GroupRunner(
            here, group, folder, frames=spec.judged_at_deadlines, detector=spec.detector,
            progress=report,
        )  # fmt: skip
        for name in dict.fromkeys(n for n in spec.deadline_controllers if n != "learned"):
            found.append(_point(deadline_s, name, runner.baseline(name, seed).runs, seed))
        if deadline_s == own_s and group.policies:
            run = runner.learned(group.policies[0], seed).runs
            found.append(_point(deadline_s, "learned", run, seed))
    return tuple(found)


def with_deadline(setting: Setting, deadline_s: float) -> Setting:
    """The same scenario at another deadline; its plan list is made anew."""
    frames = msgspec.structs.replace(setting.scenario.frames, deadline_s=deadline_s)
    there = load_setting(msgspec.structs.replace(setting.scenario, frames=frames))
    return replace(there, given_prices=setting.given_prices)


def _point(
    deadline_s: float, controller: str, runs: Sequence[TraceRun], seed: int
) -> DeadlinePoint:
    own = [float(r.quality.mean()) if len(r.quality) else 0.0 for r in runs]
    return DeadlinePoint(deadline_s, controller, float(np.mean(own)), bootstrap_mean(own, seed))


def map_figure(factory: ControllerFactory) -> MapFigure:
    """The configuration map over its states: what every exit and partition would be worth."""
    setting, made = factory.setting, factory.configuration_map
    order = sorted(range(len(made.entries)), key=lambda k: made.entries[k].mean_bps)
    rewards = np.stack(
        [expected_rewards(setting, state_bandwidths(made.states[k])).mean(axis=0) for k in order]
    )
    of_plan = [_place(p) for p in setting.table.plans]
    rows = sorted(set(of_plan))
    index = np.array([rows.index(place) for place in of_plan])
    values = np.stack([rewards[:, index == r].max(axis=1) for r in range(len(rows))])
    chosen = [rows.index(_place(made.entries[k].plan)) for k in order]
    return MapFigure(
        made.made_from, tuple(made.entries[k].mean_bps for k in order),
        tuple(_said(row) for row in rows), tuple(tuple(v.tolist()) for v in values), tuple(chosen),
    )  # fmt: skip


def _place(plan: Plan) -> tuple[int, int, int]:
    """Exit, and first and last layer on the edge (an empty interval where there is none)."""
    if plan.is_local:
        return plan.exit, -1, -1
    return plan.exit, plan.hops[0].start, plan.hops[-1].stop


def _said(place: tuple[int, int, int]) -> str:
    exit_, start, stop = place
    return f"exit {exit_ + 1}, " + ("device" if start < 0 else f"edge [{start}, {stop})")
