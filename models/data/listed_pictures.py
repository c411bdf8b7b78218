"""Labelled pictures that a CSV lists: a path and a label a row, with a header or without.

Torch-free, as `models.data.own_pictures` is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts import ArtefactError, read_text
from models.data.datasets import Pictures
from models.data.labels import numbered
from models.data.picture_files import picture_array
from models.facts.picture_fit import SQUASH, PictureFit

LIST_SUFFIXES = (".csv", ".tsv")
MOST_LIST_BYTES = 256 * 1024**2
PATH_NAMES = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path",
    "picture", "img", "name", "id",
)  # fmt: skip
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "y", "class_id")
"""What the columns of a header may be called, in any case; the first of each that is there."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the list: its line in the file, the picture's path, the label."""

    line: int
    file: Path
    label: str


def read_list(
    path: Path,
    side: tuple[int, int] | None,
    classes: tuple[str, ...],
    likely: tuple[str, ...] = (),
    fit: PictureFit = SQUASH,
) -> Pictures:
    """Pictures of the CSV `path` (commas, semicolons or tabs) of paths and labels.

    Paths are seen from the CSV's folder. Labels are names or numbers. Without a header a row is a
    path and a label. Pictures are made to `fit` `side` (height, width), or all have one size.
    `classes`: names in the order of the scores (of names: in alphabetical order); `likely`: the
    model's, which count where the list's are among them.
    """
    rows = _rows(path)

    def refuse(row: int, found: str, expected: str) -> ArtefactError:
        return ArtefactError(path, line=rows[row].line, found=found, expected=expected)

    y, names = numbered([row.label for row in rows], classes, (), refuse, likely)
    for number, row in enumerate(rows):
        if not row.file.is_file():
            raise refuse(number, f"no file '{row.file}'", "the path of a picture")
    try:
        x = picture_array(path, [row.file for row in rows], side, fit)
    except ArtefactError as error:
        line = next((row.line for row in rows if row.file == error.path), None)
        if line is None:
            raise
        found = f"'{error.path}', {error.found}"
        raise ArtefactError(path, line=line, found=found, expected=error.expected) from None
    return Pictures(x, y, names)


def _rows(path: Path) -> list[_Row]:
    lines = read_text(path, MOST_LIST_BYTES).splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter)
    at: tuple[int, int] | None = None
    found: list[_Row] = []
    for cells in _cells(path, reader):
        row = [cell.strip() for cell in cells]
        if not any(row):
            continue
        if at is None:
            at = _header(row)
            if at is not None:
                continue
            at = _two(path, reader.line_num, row)
        if len(row) <= max(at) or not row[at[0]]:
            raise ArtefactError(
                path, line=reader.line_num, found=f"'{delimiter.join(cells)}'",
                expected="a path and a label",
            )  # fmt: skip
        found.append(_Row(reader.line_num, path.parent / row[at[0]], row[at[1]]))
    if not found:
        raise ArtefactError(path, found="no rows", expected="a path and a label a row")
    return found


def _cells(path: Path, reader: Any) -> Iterator[list[str]]:
    """A reader's rows; a field that is longer than any path or label is refused."""
    try:
        yield from reader
    except csv.Error as error:
        raise ArtefactError(
            path, line=reader.line_num, found=str(error), expected="a path and a label a row"
        ) from None


def _header(row: list[str]) -> tuple[int, int] | None:
    """Columns of path and label, where the first row is a header that names them."""
    names = [cell.lower() for cell in row]
    paths = [names.index(name) for name in PATH_NAMES if name in names]
    labels = [names.index(name) for name in LABEL_NAMES if name in names]
    return (paths[0], labels[0]) if paths and labels else None


def _two(path: Path, line: int, row: list[str]) -> tuple[int, int]:
    """Columns of path and label where there is no header: the two that there are."""
    if len(row) != 2:
        raise ArtefactError(
            path, line=line, found=f"{len(row)} columns ({', '.join(row[:4])})",
            expected="a path and a label, or a header with such columns "
            f"({', '.join(PATH_NAMES[:4])}; {', '.join(LABEL_NAMES[:4])})",
        )  # fmt: skip
    return 0, 1
