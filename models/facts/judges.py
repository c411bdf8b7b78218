"""How good an answer is: 0 to 1 for each sample, by what is right of it.

A judge takes rows (N, V) of an exit and labels (N, ...), and gives N numbers of 0 to 1. What labels
are depends on the answers: class numbers (N,), labels that hold (N, V), boxes (N, M, 5), vectors
(N, V) or rows of tensors. Where nobody knows what is right the whole network's own answers stand in
(`own_labels`), and quality is agreement with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats
from models.facts.answers import (
    Answers,
    BoxesAnswer,
    ClassAnswer,
    Detections,
    LabelsAnswer,
    TensorsAnswer,
    VectorAnswer,
    overlaps,
    own_values,
)

Labels = npt.NDArray[Any]
Judge = Callable[[Float32s, Labels], Floats]
IOU = 0.5
"""A box that overlaps a labelled one so much has found it."""
NO_BOX = -1
"""The class of a row of labels that is no box: samples have boxes in different numbers."""


def top_k(k: int, rows: Float32s, labels: Labels) -> Floats:
    """1 where the class (N,) is among the `k` greatest scores (N, C), else 0.

    Of equal scores the first counts as the greater: constant scores are no answer to everything.
    """
    right = labels.astype(np.int64)[:, None]
    wanted = np.take_along_axis(rows, right, axis=1)
    first = (rows == wanted) & (np.arange(rows.shape[1]) < right)
    return np.asarray(((rows > wanted) | first).sum(axis=1) < k, dtype=np.float64)


def f1(kind: LabelsAnswer, rows: Float32s, labels: Labels) -> Floats:
    """F1 of each sample's labels: 2 hits over all given and all right; 1 where both are none."""
    given, right = kind.chosen(rows), labels.astype(np.bool_)
    hits, count = (given & right).sum(axis=1), given.sum(axis=1) + right.sum(axis=1)
    return np.asarray(np.where(count > 0, 2.0 * hits / np.maximum(count, 1), 1.0))


def cosine(rows: Float32s, labels: Labels) -> Floats:
    """Cosine similarity with the right vector (N, V), negative ones as 0."""
    a, b = rows.astype(np.float64), labels.astype(np.float64)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dot = (a * b).sum(axis=1)
    found: Floats = np.clip(np.where(length > 0, dot / np.maximum(length, 1e-300), 0.0), 0.0, 1.0)
    return found


def mean_average_precision(kind: BoxesAnswer, rows: Float32s, labels: Labels) -> Floats:
    """Mean over the sample's classes of average precision at IoU 0.5.

    `labels` (N, M, 5): class (`NO_BOX`: no box), left, top, right, bottom. Classes are those that
    are labelled or given; precision is averaged over recall, as it is (no interpolated points),
    with each labelled box found once, by the surest box that overlaps it enough. A sample without
    boxes is 1 where none is given.
    """
    return np.array(
        [
            _average_precision(kind.detections(row), one)
            for row, one in zip(rows, labels, strict=True)
        ]
    )


def _average_precision(found: Detections, labels: Labels) -> float:
    right = labels[labels[:, 0] != NO_BOX].astype(np.float32)
    classes = np.union1d(found.labels, right[:, 0].astype(np.int64))
    if not len(classes):
        return 1.0
    return float(np.mean([_of_class(found, right, int(c)) for c in classes]))


def _of_class(found: Detections, right: Float32s, number: int) -> float:
    mine, wanted = found.boxes[found.labels == number], right[right[:, 0] == number, 1:]
    if not len(mine) or not len(wanted):
        return 0.0
    shared, taken, hits = overlaps(mine, wanted), np.zeros(len(wanted), dtype=np.bool_), []
    for row in shared:
        best = int(np.where(taken, -1.0, row).argmax())
        hit = not taken[best] and row[best] >= IOU
        taken[best] |= hit
        hits.append(hit)
    right_so_far = np.cumsum(hits)
    precision = right_so_far / np.arange(1, len(hits) + 1)
    return float((precision * np.array(hits)).sum() / len(wanted))


def relative_closeness(rows: Float32s, labels: Labels) -> Floats:
    """1 less the distance to the right row over its length, negative ones as 0."""
    right = labels.astype(np.float64)
    away = np.linalg.norm(rows.astype(np.float64) - right, axis=1)
    length = np.maximum(np.linalg.norm(right, axis=1), 1e-300)
    found: Floats = np.clip(1.0 - away / length, 0.0, 1.0)
    return found


USUAL: Mapping[type[Answers], str] = {
    ClassAnswer: "top-1", LabelsAnswer: "f1", BoxesAnswer: "map", VectorAnswer: "cosine",
    TensorsAnswer: "closeness",
}  # fmt: skip
"""What the usual judge of a kind of answers is called."""


def default_judge(kind: Answers) -> Judge:
    """The judge of a kind of answers: top-1, F1, mean average precision, cosine or closeness."""
    return judge_named(usual_judge_name(kind), kind)


def _of_values(kind: Answers, judge_by: Judge) -> Judge:
    """A judge of rows as they are, for rows that may end with a confidence."""
    return functools.partial(_judged_values, kind, judge_by) if _confident(kind) else judge_by


def _judged_values(kind: Answers, judge_by: Judge, rows: Float32s, labels: Labels) -> Floats:
    return judge_by(own_values(kind, rows), labels)


def _confident(kind: Answers) -> bool:
    return bool(getattr(kind, "own_confidence", False))


def judge_named(name: str, kind: Answers) -> Judge:
    """A built-in judge: `top-K`, `f1`, `map`, `cosine` or `closeness`, fit for the answers."""
    built_in: Mapping[str, tuple[type[Answers] | tuple[type[Answers], ...], Judge]] = {
        "cosine": (VectorAnswer, cosine),
        "closeness": ((VectorAnswer, TensorsAnswer), relative_closeness),
    }
    if name.startswith("top-") and name[4:].isdecimal() and 0 < int(name[4:]) < 1000:
        if isinstance(kind, ClassAnswer):
            return functools.partial(top_k, int(name[4:]))
    elif name == "f1" and isinstance(kind, LabelsAnswer):
        return functools.partial(f1, kind)
    elif name == "map" and isinstance(kind, BoxesAnswer):
        return functools.partial(mean_average_precision, kind)
    elif name in built_in and isinstance(kind, built_in[name][0]):
        return _of_values(kind, built_in[name][1])
    raise UsageError(
        f"judge: found '{name}', expected top-K, f1, map, cosine or closeness, fit for the "
        "network's answers, or MODULE:FUNCTION"
    )


def check_choice(name: str, kind: Answers, values: int) -> None:
    """Refuse a judge `top-K` that any answer of so many `values` satisfies."""
    count = name.removeprefix("top-")
    if isinstance(kind, ClassAnswer) and count.isdecimal() and int(count) >= values:
        most = "top-1" if values == 2 else f"top-1 to top-{values - 1}"
        raise UsageError(f"judge: found '{name}' of {values} classes, expected {most}")


def usual_judge_name(kind: Answers) -> str:
    """What the usual judge of a kind of answers is called (`default_judge`)."""
    return USUAL[type(kind)]


def judge_of(name: str, kind: Answers) -> Judge:
    """The judge that a card names; the usual one for none, and for a function that is not ours:
    what a folder from elsewhere names is not imported.
    """
    return default_judge(kind) if not name or ":" in name else judge_named(name, kind)


def own_labels(kind: Answers, rows: Float32s) -> Labels:
    """Labels that say of rows (N, V) that they are right."""
    if isinstance(kind, ClassAnswer):
        small = np.uint8 if rows.shape[1] <= 256 else np.uint16
        return np.asarray(rows.argmax(axis=1).astype(small))
    if isinstance(kind, LabelsAnswer):
        return kind.chosen(rows).astype(np.uint8)
    if isinstance(kind, BoxesAnswer):
        return box_labels([kind.detections(row) for row in rows])
    return np.asarray(own_values(kind, rows), dtype=np.float32)


def box_labels(found: list[Detections]) -> Float32s:
    """Detections as labels (N, M, 5)."""
    most = max((len(one.labels) for one in found), default=0)
    labels = np.full((len(found), max(most, 1), 5), NO_BOX, dtype=np.float32)
    for row, one in zip(labels, found, strict=True):
        row[: len(one.labels), 0], row[: len(one.labels), 1:] = one.labels, one.boxes
    return labels


def checked_judge(name: str, judge: Judge) -> Judge:
    """An author's judge, called `name` (MODULE:FUNCTION), whose failures are a `UsageError` each.

    What it raises, and what it gives that is no quality, is said in a line that names it.
    """
    return functools.partial(_judged_by, name, judge)


def _judged_by(name: str, judge: Judge, rows: Float32s, labels: Labels) -> Floats:
    try:
        # copies: what is answered stays what it is, whatever the function does to what it is given
        found: npt.NDArray[Any] = np.asarray(judge(rows.copy(), labels.copy()))
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        said = str(error).splitlines()[0][:200] if str(error) else ""
        raise UsageError(
            f"judge '{name}': failed on rows {rows.shape} and labels {labels.dtype} "
            f"{labels.shape}: {type(error).__name__}: {said}"
        ) from None
    return _qualities(f"judge '{name}'", found, len(rows)).astype(np.float64)


def judged(judge: Judge, rows: Float32s, labels: Labels) -> npt.NDArray[np.float32]:
    """What a judge gives, checked: N finite numbers of 0 to 1."""
    return _qualities("judge", np.asarray(judge(rows, labels)), len(rows))


def _qualities(who: str, found: npt.NDArray[Any], count: int) -> npt.NDArray[np.float32]:
    if found.shape != (count,) or found.dtype.kind not in "fiub":
        raise UsageError(f"{who}: found {found.dtype} {found.shape}, expected numbers ({count},)")
    fit = (found >= 0) & (found <= 1)  # no comparison holds of NaN
    if not fit.all():
        row = int(np.argmin(fit))
        raise UsageError(
            f"{who}: found {float(found[row])} for row {row} of {count}, expected a quality of 0 "
            "to 1 for each sample"
        )
    return found.astype(np.float32)
