"""Labels that somebody gave, held against what a judge of such answers can take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError
from models.facts.answers import (
    Answers,
    BoxesAnswer,
    ClassAnswer,
    LabelsAnswer,
    VectorAnswer,
)
from models.facts.judges import NO_BOX, Labels

ROUNDING = 1e-5
"""That a corner may lie beyond the picture: centres and sizes were added up in float32."""
Fits = npt.NDArray[np.bool_]


def check_labels(
    y: Labels, answers: Answers, values: int, path: Path | None = None, own_judge: bool = False
) -> None:
    """Refuse labels `y` (N, ...) that say nothing of `answers` of so many `values`.

    Classes and labels that hold are numbers within range, boxes lie within the picture, vectors and
    tensors are finite. The line names the file (`path`, where there is one) and the first row that
    does not fit. With `own_judge` an author's function judges: labels of tensors are then whatever
    it takes. Raises `ArtefactError`, or `UsageError` where there is no file.
    """
    if isinstance(answers, BoxesAnswer):
        _check_boxes(y, answers.classes(values), path)
    elif isinstance(answers, ClassAnswer):
        _check_classes(y, values, path)
    elif isinstance(answers, LabelsAnswer | VectorAnswer) or not own_judge:
        if y.shape[1:] != (values,):
            _refuse(path, None, f"{y.dtype} {y.shape}", f"(N, {values})")
        if isinstance(answers, LabelsAnswer):
            _check_each(y, (y == 0) | (y == 1), path, "0 or 1 for every label")
        else:
            _check_each(y, np.isfinite(y), path, "finite numbers")


def _check_classes(y: Labels, count: int, path: Path | None) -> None:
    expected = f"classes 0 to {count - 1}"
    if y.ndim != 1 or y.dtype.kind not in "iu":
        _refuse(path, None, f"{y.dtype} {y.shape}", f"{expected}, (N,)")
    _check_each(y, (y >= 0) & (y < count), path, expected)


def _check_boxes(y: Labels, classes: int, path: Path | None) -> None:
    if y.ndim != 3 or y.shape[2] != 5:
        _refuse(
            path, None, f"{y.dtype} {y.shape}",
            f"boxes (N, boxes, 5) of a class (0 to {classes - 1}, {NO_BOX}: none), left, top, "
            "right and bottom",
        )  # fmt: skip
    _check_each(
        y[..., 0], np.isin(y[..., 0], np.arange(NO_BOX, classes)), path,
        f"a class of 0 to {classes - 1}, or {NO_BOX}: no box",
    )  # fmt: skip
    corners = y[..., 1:]
    within = ((corners >= -ROUNDING) & (corners <= 1 + ROUNDING)).all(axis=-1)  # NaN is not
    ordered = (corners[..., :2] <= corners[..., 2:]).all(axis=-1)
    fits = (within & ordered) | (y[..., 0] == NO_BOX)
    _check_each(
        corners, fits, path,
        "left, top, right and bottom of 0 to 1, left <= right and top <= bottom",
    )  # fmt: skip


def _check_each(y: Labels, fits: Fits, path: Path | None, expected: str) -> None:
    """Refuse the first entry of `y` (N, ...) of which `fits` (of its first axes) does not hold."""
    if not fits.all():
        at = tuple(int(k) for k in np.argwhere(~fits)[0])
        entry: Any = y[at]
        found = entry.tolist()
        said = f"[{', '.join(f'{v:g}' for v in found)}]" if isinstance(found, list) else f"{found}"
        _refuse(path, at[0], said, expected)


def _refuse(path: Path | None, row: int | None, found: str, expected: str) -> NoReturn:
    where = "" if row is None else f", row {row}"
    if path is None:
        raise UsageError(f"labels{where}: found {found}, expected {expected}")
    raise ArtefactError(path, field=f"y{where}", found=found, expected=expected)
