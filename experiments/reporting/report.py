"""`coinfer report`: reads a folder of results, says what is missing, writes page, tables, picture.

Nothing is run and nothing is computed anew: whatever a figure says stands in a result's file.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from artefacts import ArtefactError, UsageError, atomic_write, read_json
from experiments.reporting import plots
from experiments.reporting.drawing import png_bytes, svg_bytes
from experiments.reporting.page import page
from experiments.reporting.tables import markdown_of, trainings
from experiments.studies.results import (
    EVALUATION,
    FORMAT_VERSION,
    MATRIX,
    STUDY,
    Evaluation,
    Matrix,
    StudyRecord,
    read_evaluation,
    read_matrix,
)


@dataclass(frozen=True, slots=True)
class Results:
    """A folder's results in the study's order, and what is not there."""

    title: str
    command: str
    evaluations: tuple[Evaluation, ...]
    matrices: tuple[Matrix, ...]
    missing: tuple[str, ...]


class Written(msgspec.Struct, frozen=True):
    """What `coinfer report` wrote, and what it lacked."""

    files: tuple[str, ...]
    missing: tuple[str, ...]


def read_results(folder: Path) -> Results:
    """Every result of a folder; one that cannot be read is refused, one that lacks is named."""
    if not folder.is_dir():
        raise ArtefactError(folder, found="no such folder", expected="one of coinfer evaluate")
    evaluations = {p: read_evaluation(p) for p in sorted(folder.glob(f"*{EVALUATION}"))}
    matrices = {p: read_matrix(p) for p in sorted(folder.glob(f"*{MATRIX}"))}
    if not evaluations and not matrices:
        raise ArtefactError(
            folder, found="no results", expected=f"*{EVALUATION} (coinfer evaluate --out {folder})"
        )
    for path, found in (evaluations | matrices).items():
        ending = EVALUATION if path in evaluations else MATRIX
        if path.name != f"{found.name}{ending}":
            raise ArtefactError(
                path, field="name", found=f"'{found.name}'",
                expected=f"'{path.name.removesuffix(ending)}', the file's",
            )  # fmt: skip
    record = _record(folder)
    order = record.evaluations if record else ()
    ordered = sorted(evaluations.values(), key=lambda e: (_place(e.name, order), e.name))
    return Results(
        record.title if record else "Evaluation",
        record.command if record else "",
        tuple(ordered),
        tuple(sorted(matrices.values(), key=lambda m: m.name)),
        missing_parts(record, ordered, list(matrices.values())),
    )


def _record(folder: Path) -> StudyRecord | None:
    path = folder / STUDY
    return read_json(path, StudyRecord, version=FORMAT_VERSION) if path.exists() else None


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def missing_parts(
    record: StudyRecord | None, evaluations: Sequence[Evaluation], matrices: Sequence[Matrix]
) -> tuple[str, ...]:
    """One line for everything that a complete report would have."""
    found = [] if record else [f"{STUDY}: the command that made these results"]
    names, known = {e.name for e in evaluations}, {m.name for m in matrices}
    wanted = record.evaluations if record else ()
    found += [f"evaluation '{name}': planned, no results" for name in wanted if name not in names]
    planned = record.matrices if record else ()
    found += [f"matrix '{name}': no results" for name in planned if name not in known]
    for matrix in matrices:
        absent = sum(cell is None for row in matrix.cells for cell in row)
        if absent:
            found.append(f"matrix '{matrix.name}': {absent} cells not evaluated")
    for evaluation in evaluations:
        found += [f"evaluation '{evaluation.name}': {part}" for part in _absent(evaluation)]
    return tuple(found)


def _absent(found: Evaluation) -> list[str]:
    energies = [own.energy_j_per_frame for own in found.controllers.values()]
    single = [
        m for m, c in (found.headline.modes if found.headline else {}).items() if not c.against
    ]
    parts = {
        "no learned policy, nothing is claimed": found.headline is None,
        "only one seed of the learned policy": trainings(found) == 1,
        "no time series": found.series is None,
        "no accuracy against deadline": found.own_traces and not found.deadlines,
        "no configuration map": found.map is None,
        "no front of accuracy against energy (closed loop)": found.closed_loop,
        "no energy, the device's profile has no power model": not found.closed_loop
        and None in energies,
        f"no claim about {', '.join(single)}: one test file each": bool(single),
        f"{found.frames} frames a trace at most, not whole traces": found.frames is not None,
    }  # fmt: skip
    return [text for text, absent in parts.items() if absent]


def write_report(
    folder: Path, out: Path, markdown: Path | None = None, front: Path | None = None, date: str = ""
) -> Written:
    """Write what was asked for; the same results give the same bytes.

    `folder` has the results. The page goes to `out`, tables to `markdown` and the front of costs to
    `front` (None: not written); `date` is shown on the page where it is given.
    """
    if front is not None and front.suffix not in (".png", ".svg"):
        raise UsageError(f"--front: found '{front.name}', expected a name in .png or .svg")
    found = read_results(folder)
    rendered = f"coinfer report --results {folder} --out report.html"
    command = "\n".join((found.command, rendered)).strip()
    text = page(
        found.title, command, found.evaluations, found.matrices, found.missing, _versions(), date
    )
    made = {out: text.encode()}
    if markdown is not None:
        as_markdown = markdown_of(
            found.title, found.evaluations, found.matrices, found.command, found.missing
        )
        made[markdown] = as_markdown.encode()
    if front is not None:
        made[front] = _front(front, found.evaluations)
    # a file that cannot be written leaves none of the others
    with contextlib.ExitStack() as opened:
        for path, raw in made.items():
            opened.enter_context(atomic_write(path, "wb")).write(raw)
    return Written(tuple(map(str, made)), found.missing)


def _front(path: Path, evaluations: Sequence[Evaluation]) -> bytes:
    drawn = [e for e in evaluations if e.own_traces and not e.closed_loop]
    if not drawn:
        raise UsageError(
            "--front: found no frame stream on its own test traces, expected an evaluation of one"
        )
    figure = plots.front_figure(drawn)
    return png_bytes(figure) if path.suffix == ".png" else svg_bytes(figure, "front")


def _versions() -> dict[str, str]:
    names = ("coinfer", "matplotlib", "numpy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}
