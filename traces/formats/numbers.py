"""Bare columns of numbers, read at the speed of numpy, and the first line that is none.

Separators are blanks, tabs, commas or semicolons; a decimal comma is read where another separator
leaves no doubt.
"""

from __future__ import annotations

import math
import re
import warnings
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats
from traces.formats.limits import MOST_NUMBERS, check_count
from traces.formats.source import Source

CHUNK_BYTES = 4 * 1024 * 1024
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_BLANK = np.zeros(256, dtype=bool)
_BLANK[[9, 10, 11, 12, 13, 32]] = True


@dataclass(frozen=True, slots=True)
class Separator:
    """What stands between columns (None: blanks), and whether a comma is the decimal point."""

    text: str | None
    decimal_comma: bool = False

    def fields(self, line: str) -> list[str]:
        """A line's fields, with decimal points."""
        fields = [f.strip() for f in line.split(self.text)]
        return [f.replace(",", ".") for f in fields] if self.decimal_comma else fields

    @property
    def said(self) -> str:
        """For people."""
        names = {None: "blanks", ";": "semicolons", ",": "commas", "\t": "tabs"}
        comma = ", decimal comma" if self.decimal_comma else ""
        return f"separated by {names[self.text]}{comma}"


def is_number(text: str) -> bool:
    """Whether it is a decimal number (no words for infinity, no underscores)."""
    return _NUMBER.fullmatch(text) is not None


def bare_separator(line: str) -> tuple[Separator, int] | None:
    """The separator and count of a line of numbers alone; None where it holds anything else."""
    for separator in _candidates(line):
        fields = separator.fields(line)
        if all(is_number(f) for f in fields):
            return separator, len(fields)
    return None


def _candidates(line: str) -> Iterator[Separator]:
    if ";" in line:
        yield Separator(";", "," in line)
        return
    yield Separator(None)
    fields = line.split()
    if len(fields) > 1 and any(_COMMA_NUMBER.fullmatch(f) for f in fields):
        yield Separator(None, decimal_comma=True)
        return
    yield Separator(",")


def bare_columns(source: Source) -> int:
    """How many bare columns the first line has; 0 where it is none of numbers alone."""
    found = bare_separator(source.head[0][1])
    return 0 if found is None else found[1]


def separator_of(source: Source) -> Separator:
    """The separator of a file of bare columns; a comma that separates nothing is decimal."""
    found = bare_separator(source.head[0][1])
    separator = Separator(None) if found is None else found[0]
    return Separator(separator.text, separator.text != "," and b"," in source.raw)


def bare_numbers(source: Source, columns: int, what: str) -> Floats:
    """All rows (rows, columns); raises at the first line that is not `columns` finite numbers."""
    if columns not in source.kept:
        source.kept[columns] = _numbers(source, columns)
    found = source.kept[columns]
    if isinstance(found, int):
        raise source.error(what, found)
    return np.asarray(found)


def _numbers(source: Source, columns: int) -> Floats | int:
    """All rows, or the number of the first line that is none."""
    lines = source.raw.count(b"\n") + 1
    check_count(source.path, lines * columns, "numbers", MOST_NUMBERS)
    separator = separator_of(source)
    values = _quickly(source, separator, columns)
    found = _slowly(source, separator, columns) if values is None else values
    if not isinstance(found, int):
        found.setflags(write=False)  # several formats look at it
    return found


def _quickly(source: Source, separator: Separator, columns: int) -> Floats | None:
    """All rows, or None where any line needs a closer look."""
    parts = []
    for chunk in _chunks(_as_blanks(source.raw, separator)):
        part = _parsed(chunk, columns)
        if part is None or not np.all(np.isfinite(part)):
            return None
        parts.append(part)
    values = np.concatenate(parts)
    # a separator may stand where no field does ('1,,2')
    between = len(values) * (columns - 1)
    if separator.text is not None and source.raw.count(separator.text.encode()) != between:
        return None
    return values


def _as_blanks(raw: bytes, separator: Separator) -> bytes:
    if separator.text in (";", ","):
        raw = raw.replace(separator.text.encode(), b" ")
    return raw.replace(b",", b".") if separator.decimal_comma else raw


def _chunks(raw: bytes) -> Iterator[bytes]:
    """Pieces of whole lines."""
    at = 0
    while at < len(raw):
        end = raw.find(b"\n", at + CHUNK_BYTES)
        end = len(raw) if end < 0 else end + 1
        yield raw[at:end]
        at = end


def _parsed(chunk: bytes, columns: int) -> Floats | None:
    """The chunk's rows; None where any line is not `columns` numbers."""
    blank = _BLANK[np.frombuffer(chunk, dtype=np.uint8)]
    begins = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    if len(begins) == 0:
        return np.empty((0, columns))
    ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == 10)
    counts = np.diff(np.searchsorted(begins, np.concatenate([[0], ends, [len(chunk)]])))
    if np.any((counts != 0) & (counts != columns)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an older numpy warns where a newer one raises
            values = np.fromstring(chunk, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    return values.reshape(-1, columns) if len(values) == len(begins) else None


def _slowly(source: Source, separator: Separator, columns: int) -> Floats | int:
    rows = array("d")
    for number, line in source.lines():
        fields = separator.fields(line)
        values = [float(f) for f in fields] if all(map(is_number, fields)) else []
        if len(values) != columns or not all(map(math.isfinite, values)):
            return number
        rows.extend(values)
    return np.frombuffer(rows, dtype=np.float64).reshape(-1, columns)


def line_of(source: Source, row: int) -> int:
    """The number of the line that holds the `row`th row (from 0)."""
    for at, (number, _) in enumerate(source.lines()):
        if at == row:
            return number
    return 1


def falls_throughout(stamps: Floats) -> bool:
    """Whether rows stand newest first: stamps fall somewhere and rise nowhere."""
    steps = np.diff(stamps)
    return bool(np.any(steps < 0) and not np.any(steps > 0))


def first_fall(stamps: Floats) -> int | None:
    """The first row whose stamp is before the row's above it."""
    falls = np.flatnonzero(np.diff(stamps) < 0)
    return int(falls[0]) + 1 if len(falls) else None
