"""A study: which policies and controllers are evaluated on which traces, from TOML.

docs/reference/studies.md has every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from artefacts import ArtefactError, check_name, read_toml
from controller.registry import controller_names

FORMAT_VERSION = 1
Figure = Literal["share_of_bound", "reward", "goodput_accuracy", "against_best"]


class SeriesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of one trace that is drawn; without a name the first trace's."""

    trace: str = ""
    """Its name."""
    start_s: float = 0.0
    """Where the part begins."""
    seconds: float = 60.0
    """How long it is."""


class FoldSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file left out: policies (a folder a seed) trained on `train` and judged on `test`."""

    test: str
    """The file that is left out: of the family's split, or a path."""
    train: tuple[str, ...]
    """What these policies were trained on."""
    policies: tuple[str, ...]
    """Folders, one a seed."""


class EvaluationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One evaluation: a scenario, seeds of its policy, baselines, traces."""

    name: str
    """Of the result's file."""
    scenario: str
    """A shipped name or a .toml file."""
    policies: tuple[str, ...] = ()
    """Folders of the learned policy, one a seed (the shipped one)."""
    controllers: tuple[str, ...] = ()
    """Beside 'learned' (every one that the scenario has); also MODULE:FACTORY of yours."""
    traces_of: str = ""
    """Another scenario's test logs and scale."""
    traces: tuple[str, ...] = ()
    """Files and folders, instead of the scenario's test logs."""
    scale: float | None = None
    """Factor on the rates of `traces` (the scenario's)."""
    seeds: tuple[int, ...] = ()
    """Of phases, samples and compute times (the scenario's)."""
    frames: int | None = None
    """At most, a trace (all)."""
    detector: str = "bayes"
    """Change detector of the controller 'map'."""
    deadlines_ms: tuple[float, ...] = ()
    """Other deadlines, for accuracy against deadline."""
    deadline_controllers: tuple[str, ...] = ("device-only", "edge-only", "fixed", "robust")
    """Who is judged at them."""
    deadline_frames: int = 1500
    """At most so many frames a trace there."""
    series: SeriesSpec = SeriesSpec()
    """The part of a trace that is drawn."""
    folds: tuple[FoldSpec, ...] = ()
    """One file left out at a time, instead of `policies` and `traces`."""
    prices: tuple[float, float] | None = None
    """Of a device second and of a megabyte, in the place of the scenario's; for everybody."""

    @property
    def judged_at_deadlines(self) -> int:
        """Frames of a trace, at most, for accuracy against deadline."""
        return min(self.deadline_frames, self.frames or self.deadline_frames)


class CellSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell of a matrix: whose evaluation stands there."""

    row: str
    """Title of its row."""
    column: str
    """Title of its column."""
    evaluation: str
    """Name of the evaluation that stands there."""


class MatrixSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A matrix of evaluations; rows and columns in the order of their first cell."""

    name: str
    """Of the result's file."""
    cells: tuple[CellSpec, ...]
    """Row, column and evaluation of each."""
    rows: str = "trained on"
    """What rows stand for."""
    columns: str = "tested on"
    """What columns stand for."""
    figure: Figure = "share_of_bound"
    """Which figure of an evaluation is shown."""


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A study file; every key is checked, an unknown one is refused."""

    format_version: int
    evaluations: tuple[EvaluationSpec, ...]
    """What is run."""
    title: str = "Evaluation"
    """Of the report."""
    matrices: tuple[MatrixSpec, ...] = ()
    """Tables made of the evaluations."""


def read_study(path: str | Path) -> Study:
    """Read and check a study; what it names by relative path lies beside it or here."""
    path = Path(path)
    study = read_toml(path, Study, version=FORMAT_VERSION)
    if not study.evaluations:
        raise ArtefactError(path, field="evaluations", found="none", expected="at least one")
    _check_names(path, "evaluations", [e.name for e in study.evaluations])
    _check_names(path, "matrices", [m.name for m in study.matrices])
    for k, evaluation in enumerate(study.evaluations):
        _check_evaluation(path, f"evaluations[{k}]", evaluation)
    for k, matrix in enumerate(study.matrices):
        _check_matrix(path, f"matrices[{k}]", matrix, {e.name for e in study.evaluations})
    found = [_placed(path.parent, evaluation) for evaluation in study.evaluations]
    return msgspec.structs.replace(study, evaluations=tuple(found))


def _check_names(path: Path, field: str, names: Sequence[str]) -> None:
    for name in names:
        check_name(path, f"{field}.name", name)
        if names.count(name) > 1:
            raise ArtefactError(
                path, field=f"{field}.name", found=f"'{name}' twice", expected="different names"
            )


def _check_evaluation(path: Path, field: str, spec: EvaluationSpec) -> None:
    for key in ("controllers", "deadline_controllers"):
        for name in getattr(spec, key):
            if ":" not in name and name not in controller_names():
                raise ArtefactError(
                    path, field=f"{field}.{key}", found=f"'{name}'",
                    expected=f"some of {', '.join(controller_names())}, or MODULE:FACTORY",
                )  # fmt: skip
    sources = [bool(spec.traces_of), bool(spec.traces), bool(spec.folds)]
    if sum(sources) > 1:
        raise ArtefactError(
            path, field=field, found="several of traces_of, traces, folds", expected="one of them"
        )
    if spec.folds and spec.policies:
        raise ArtefactError(
            path, field=f"{field}.policies", found="policies beside folds",
            expected="every fold's own",
        )  # fmt: skip
    if spec.folds and spec.deadlines_ms:
        raise ArtefactError(
            path, field=f"{field}.deadlines_ms", found="deadlines beside folds",
            expected="an evaluation of their own",
        )  # fmt: skip
    _check_numbers(path, field, spec)
    _check_folds(path, field, spec.folds)


def _check_numbers(path: Path, field: str, spec: EvaluationSpec) -> None:
    positive = {f"deadlines_ms[{k}]": value for k, value in enumerate(spec.deadlines_ms)}
    positive |= {"series.seconds": spec.series.seconds, "deadline_frames": spec.deadline_frames}
    optional = {"frames": spec.frames, "scale": spec.scale}
    positive |= {key: value for key, value in optional.items() if value is not None}
    for key, value in positive.items():
        if not 0 < value < float("inf"):
            raise ArtefactError(
                path, field=f"{field}.{key}", found=f"{value:g}", expected="a number above 0"
            )
    if spec.prices is not None and not all(0 <= price < float("inf") for price in spec.prices):
        raise ArtefactError(
            path, field=f"{field}.prices", found=f"{spec.prices[0]:g}, {spec.prices[1]:g}",
            expected="numbers of 0 or more",
        )  # fmt: skip
    least = min((*spec.seeds, spec.series.start_s))
    if not least >= 0:
        raise ArtefactError(
            path, field=f"{field}.seeds or series.start_s", found=f"{least:g}", expected="0 or more"
        )
    if len(set(spec.seeds)) < len(spec.seeds):
        raise ArtefactError(
            path, field=f"{field}.seeds", found="one twice", expected="different seeds"
        )


def _check_folds(path: Path, field: str, folds: Sequence[FoldSpec]) -> None:
    tests = [Path(f.test).name for f in folds]
    for k, fold in enumerate(folds):
        name = f"{field}.folds[{k}]"
        if not fold.policies or len(fold.policies) != len(folds[0].policies):
            raise ArtefactError(
                path, field=f"{name}.policies", found=f"{len(fold.policies)} policies",
                expected=f"{max(len(folds[0].policies), 1)}, as many seeds in every fold",
            )  # fmt: skip
        if tests[k] in {Path(file).name for file in fold.train}:
            raise ArtefactError(
                path, field=f"{name}.train", found=f"the file it is tested on, '{fold.test}'",
                expected="others",
            )  # fmt: skip
        if not fold.train:
            raise ArtefactError(
                path, field=f"{name}.train", found="no files", expected="those it was trained on"
            )
        if tests.count(tests[k]) > 1:
            raise ArtefactError(
                path, field=f"{name}.test", found=f"'{fold.test}' twice", expected="a fold a file"
            )


def _check_matrix(path: Path, field: str, matrix: MatrixSpec, known: set[str]) -> None:
    places = [(c.row, c.column) for c in matrix.cells]
    if not places:
        raise ArtefactError(path, field=f"{field}.cells", found="none", expected="at least one")
    for k, cell in enumerate(matrix.cells):
        if cell.evaluation not in known:
            raise ArtefactError(
                path, field=f"{field}.cells[{k}].evaluation", found=f"'{cell.evaluation}'",
                expected=f"one of {', '.join(sorted(known))}",
            )  # fmt: skip
        if places.count(places[k]) > 1:
            raise ArtefactError(
                path, field=f"{field}.cells[{k}]", found="the same row and column twice",
                expected="one evaluation a cell",
            )  # fmt: skip


def _placed(folder: Path, spec: EvaluationSpec) -> EvaluationSpec:
    def beside(name: str) -> str:
        return str(folder / name) if (folder / name).exists() else name

    def all_beside(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(beside(name) for name in names)

    def scenario(name: str) -> str:
        return beside(name) if name.endswith(".toml") else name

    folds = tuple(
        FoldSpec(beside(f.test), all_beside(f.train), all_beside(f.policies)) for f in spec.folds
    )
    return msgspec.structs.replace(
        spec, scenario=scenario(spec.scenario), traces_of=scenario(spec.traces_of),
        policies=all_beside(spec.policies), traces=all_beside(spec.traces), folds=folds,
    )  # fmt: skip
