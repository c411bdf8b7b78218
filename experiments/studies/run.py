"""`coinfer evaluate`: a study's evaluations one after the other, cached, and their matrices."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError, read_json, write_json
from controller.registry import find_controller
from controller.scenarios import Prices, Setting, load_priced
from experiments.evaluation.digests import code_digest, policy_digest
from experiments.evaluation.statistics import Interval, bootstrap_mean
from experiments.studies.extras import deadline_points, map_figure, place_of, series_of
from experiments.studies.inputs import (
    Group,
    TrainedOn,
    baseline_names,
    groups_of,
    mode_of_trace,
    seen_in_training,
    trace_scale,
)
from experiments.studies.kept_runs import GroupRunner, KeptRuns
from experiments.studies.merge import Runs, best_baseline, controller_results, headline
from experiments.studies.results import (
    EVALUATION,
    EVALUATION_VERSION,
    FORMAT_VERSION,
    MATRIX,
    STUDY,
    Cell,
    DeadlinePoint,
    Evaluation,
    Matrix,
    PolicyFacts,
    StudyRecord,
)
from experiments.studies.study import EvaluationSpec, Figure, MatrixSpec, Study
from traces.trace import traces_digest

Progress = Callable[[str, float], None]
KEPT_RUNS = "units"


def run_study(
    study: Study,
    folder: Path,
    command: str,
    progress: Progress = lambda what, share: None,
) -> list[Evaluation]:
    """Run, or read what is kept, then write evaluations and matrices into `folder`.

    `progress` is given what is being done, after its evaluation's name, and how much of that
    evaluation's runs is done.

    `study` names the evaluations; `command` is kept with them.
    """
    for spec in study.evaluations:
        _checked(spec)  # a mistake in the last is found before the first is run
    write_json(folder / STUDY, StudyRecord(
        FORMAT_VERSION, study.title, command,
        tuple(e.name for e in study.evaluations),
        tuple(m.name for m in study.matrices),
    ))  # fmt: skip
    found = []
    for spec in study.evaluations:

        def report(what: str, share: float, name: str = spec.name) -> None:
            progress(f"{name}: {what}", share)

        found.append(run_evaluation(spec, folder / KEPT_RUNS, report))
        write_json(folder / f"{spec.name}{EVALUATION}", found[-1])
    by_name = {e.name: e for e in found}
    for matrix in study.matrices:
        write_json(folder / f"{matrix.name}{MATRIX}", made_matrix(matrix, by_name))
    return found


def run_evaluation(
    spec: EvaluationSpec, folder: Path, progress: Progress = lambda what, share: None
) -> Evaluation:
    """One evaluation's figures from runs kept in `folder` or run now."""
    setting = _setting_of(spec)
    groups = groups_of(spec, setting)
    seeds = spec.seeds or (setting.scenario.seeds.evaluate,)
    every = _every(spec, setting, groups, seeds, folder, progress)
    traces = [trace for group in groups for trace in group.traces.traces]
    names = [trace.name for trace in traces]
    modes = tuple(mode_of_trace(name) for name in names)
    results = controller_results(every, names, setting.table, seeds[0])
    best = best_baseline(every)
    learned = results["learned"].against_best if "learned" in results else None
    reference = next(iter(every.values()))
    one = groups[0]
    deadlines: tuple[DeadlinePoint, ...] = ()
    if spec.deadlines_ms:
        deadlines = deadline_points(
            spec, setting, one, seeds[0], folder, lambda what, share: progress(what, 1.0)
        )
    return Evaluation(
        **_provenance(spec, setting, groups),
        traces=tuple(names),
        modes=modes,
        seeds=tuple(seeds),
        frames=spec.frames,
        bound=float(reference.bound_sums.sum() / _frames(reference)),
        bound_per_trace=dict(zip(names, reference.bounds.mean(axis=0).tolist(), strict=True)),
        controllers=results,
        headline=headline(
            every,
            names,
            modes,
            seeds[0],
            len(one.policies),
            learned.p_adjusted if learned else None,
        ),
        series=series_of(spec.series, traces, every, best, setting.table),
        deadlines=deadlines,
        deadline_frames=spec.judged_at_deadlines if deadlines else None,
        map=map_figure(TrainedOn(setting, given=one.training)),
    )


def _checked(spec: EvaluationSpec) -> None:
    setting = _setting_of(spec)
    groups = groups_of(spec, setting)
    for name in spec.controllers:
        entry = find_controller(name)
        entry.load()
        entry.checked(setting)
    try:
        place_of(spec.series, [trace for group in groups for trace in group.traces.traces])
    except UsageError as error:
        raise UsageError(f"evaluation '{spec.name}', {error}") from None


def _setting_of(spec: EvaluationSpec) -> Setting:
    return load_priced(spec.scenario, Prices() if spec.prices is None else Prices(*spec.prices))


def _frames(runs: Runs) -> int:
    return max(sum(len(r.reward) for of_seed in runs.runs for r in of_seed), 1)


def _every(
    spec: EvaluationSpec,
    setting: Setting,
    groups: Sequence[Group],
    seeds: Sequence[int],
    folder: Path,
    progress: Progress,
) -> dict[str, Runs]:
    """Runs of every controller: one row a seed, one column a trace, folds side by side."""
    names = baseline_names(spec, setting, groups)
    policies = len(groups[0].policies)
    steps = _Steps((len(names) + policies) * len(seeds) * len(groups), progress)
    runners = [
        GroupRunner(setting, g, folder, spec.frames, spec.detector, steps.report) for g in groups
    ]
    # a fold's frames must not meet the same pictures at the same phases as another's
    drawn = [[seed_of_group(s, k, len(runners)) for k in range(len(runners))] for s in seeds]
    found = {}
    for name in names:
        rows = [
            [steps.done(r.baseline(name, own)) for r, own in zip(runners, of_seed, strict=True)]
            for of_seed in drawn
        ]
        found[name] = _joined(setting, rows)
    if policies:
        rows = [
            [
                steps.done(r.learned(r.group.policies[p], own))
                for r, own in zip(runners, of_seed, strict=True)
            ]
            for p in range(policies)
            for of_seed in drawn
        ]
        found["learned"] = _joined(setting, rows)
    return found


def seed_of_group(seed: int, group: int, groups: int) -> int:
    """The seed itself where there is one group, else one of each group's own."""
    if groups == 1:
        return seed
    return int(np.random.SeedSequence([seed, group]).generate_state(1)[0])


class _Steps:
    """An evaluation's share that is done, from the shares of its runs; it never falls."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = max(total, 1), progress
        self._done, self._share = 0, 0.0

    def report(self, what: str, share: float) -> None:
        """Progress of one run."""
        self._share = max(self._share, (self._done + min(share, 1.0)) / self._total)
        self._progress(what, min(self._share, 1.0))

    def done(self, kept: KeptRuns) -> KeptRuns:
        """One run is done."""
        self._done += 1
        return kept


def _joined(setting: Setting, rows: Sequence[Sequence[KeptRuns]]) -> Runs:
    return Runs(
        tuple(tuple(run for kept in row for run in kept.runs) for row in rows),
        np.array([[total for kept in row for total in kept.bound_sums] for row in rows]),
        setting.closed_loop,
    )


def _provenance(spec: EvaluationSpec, setting: Setting, groups: Sequence[Group]) -> dict[str, Any]:
    """What the figures were made from."""
    scenario, prices = setting.scenario, setting.prices
    sources = dict.fromkeys(g.traces.source for g in groups)
    training = dict.fromkeys(g.training.source for g in groups)
    return {
        "format_version": EVALUATION_VERSION,
        "name": spec.name,
        "scenario": scenario.name,
        "scenario_digest": scenario.digest,
        "model_digest": setting.model.digest,
        "description": scenario.description,
        "closed_loop": setting.closed_loop,
        "priced": prices.device_second > 0 or prices.megabyte > 0,
        "deadline_s": scenario.frames.deadline_s,
        "traces_digest": traces_digest([t for g in groups for t in g.traces.traces]),
        "source": "; ".join(sources),
        "own_traces": not (spec.traces or spec.traces_of or spec.folds),
        "generated": any(g.traces.generated for g in groups),
        "scale": trace_scale(spec, setting),
        "training_source": "; ".join(training),
        "training_generated": any(g.training.generated for g in groups),
        "seen_in_training": seen_in_training(groups, setting),
        "cross_validated": bool(spec.folds),
        "policies": tuple(policy_facts(folder) for g in groups for folder in g.policies),
        "versions": versions(),
    }


class _LooseCard(msgspec.Struct):
    """Of a policy's card only what is reported: its other fields are the policy's own affair."""

    training: dict[str, Any] = {}


def policy_facts(folder: Path) -> PolicyFacts:
    """A policy's digest, and what its card says of its training."""
    training = read_json(folder / "policy.json", _LooseCard).training
    seed, frames = training.get("seed"), training.get("frames_seen")
    return PolicyFacts(
        str(folder),
        policy_digest(folder),
        seed if isinstance(seed, int) else None,
        str(training.get("traces", "")),
        frames if isinstance(frames, int) else None,
    )


def versions() -> dict[str, str]:
    """What the figures were computed with."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "coinfer's deciding sources (SHA-256)": code_digest(),
    }


def made_matrix(spec: MatrixSpec, evaluations: Mapping[str, Evaluation]) -> Matrix:
    """A study's matrix from its evaluations; `null` where the study names none."""
    rows = tuple(dict.fromkeys(c.row for c in spec.cells))
    columns = tuple(dict.fromkeys(c.column for c in spec.cells))
    found = {(c.row, c.column): cell_of(evaluations[c.evaluation], spec.figure) for c in spec.cells}
    return Matrix(
        FORMAT_VERSION, spec.name, spec.figure, spec.rows, spec.columns, rows, columns,
        tuple(tuple(found.get((row, column)) for column in columns) for row in rows),
    )  # fmt: skip


def cell_of(evaluation: Evaluation, figure: Figure) -> Cell:
    """The learned policy's figure in one evaluation, with its interval over traces."""
    learned = evaluation.controllers.get("learned")
    if learned is None or evaluation.headline is None:
        raise ArtefactError(
            f"{evaluation.name}{EVALUATION}", field="controllers", found="no learned policy",
            expected="one, for the matrix it stands in",
        )  # fmt: skip
    against = evaluation.headline.reward
    interval: Interval | None
    p_value = None
    if figure == "share_of_bound":
        mean, interval = learned.share_of_bound, learned.interval95
    elif figure == "against_best":
        mean, interval, p_value = against.mean, against.interval95, against.p_value
    else:
        own = learned.per_trace if figure == "reward" else learned.per_trace_goodput
        values = list(own.values())
        mean, interval = float(np.mean(values)), bootstrap_mean(values, evaluation.seeds[0])
    if len(evaluation.traces) == 1:
        # of one file nothing is drawn: its own figure is no interval
        interval = p_value = None
    return Cell(
        mean,
        interval,
        traces=len(evaluation.traces),
        seeds=len(evaluation.headline.per_seed),
        generated=evaluation.generated,
        p_value=p_value,
        note=f"over {evaluation.headline.best_baseline}" if figure == "against_best" else "",
    )
