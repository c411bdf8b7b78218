"""A table with a header: its dialect, its rows, and whole columns of it as numbers or stamps.

Rows are streamed; a row of another length than the header is refused with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from artefacts.arrays import Floats, Ints
from traces.formats.headers import Column, columns_of
from traces.formats.limits import LONGEST_LINE_BYTES, MOST_COLUMNS, check_count
from traces.formats.numbers import bare_separator, is_number
from traces.formats.source import SHOWN, Source, shown

BATCH_ROWS = 65_536
MISSING = frozenset(("", "-", "--", "na", "n/a", "nan", "null", "none", "?"))
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_SEPARATORS = ("\t", ";", ",", "|")
_SAID = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", None: "blanks"}


@dataclass
class Table:
    """A header and the rows below it; `decimal_comma` is found out as cells are read."""

    source: Source
    separator: str | None
    columns: tuple[Column, ...]
    header_line: int
    decimal_comma: bool = False
    decimal_point: bool = False
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """The header's names as they stand."""
        self.names = tuple(column.name for column in self.columns)

    @property
    def said(self) -> str:
        """The dialect, for people."""
        comma = ", decimal comma" if self.decimal_comma else ""
        return f"separated by {_SAID[self.separator]}{comma}"

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Numbered rows below the header."""
        for number, cells in split_rows(self.source, self.separator):
            if number > self.header_line:
                yield number, self._whole(number, cells)

    def _whole(self, number: int, cells: list[str]) -> list[str]:
        wanted = len(self.columns)
        if len(cells) == wanted or (len(cells) > wanted and not any(cells[wanted:])):
            return cells
        raise self.source.error(
            f"{wanted}, one for each name of the header",
            number,
            found=f"{len(cells)} columns ({shown(' '.join(cells[:SHOWN]))})",
        )

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Line numbers and the cells of chosen columns, column by column."""
        lines: list[int] = []
        chosen: list[list[str]] = [[] for _ in indices]
        for number, cells in self.rows():
            lines.append(number)
            for column, index in zip(chosen, indices, strict=True):
                column.append(cells[index])
            if len(lines) == BATCH_ROWS:
                yield lines, chosen
                lines, chosen = [], [[] for _ in indices]
        if lines:
            yield lines, chosen

    def floats(self, cells: list[str], lines: Sequence[int], name: str) -> Floats:
        """Cells as numbers, NaN where one is missing; raises at the first that is neither."""
        has_point = any("." in cell for cell in cells)
        try:
            if self.decimal_comma and not has_point:
                values = np.array([float(cell.replace(",", ".")) for cell in cells])
            else:
                values = np.array(list(map(float, cells)))
        except ValueError:
            return self._carefully(cells, lines, name)
        if (self.decimal_comma and has_point) or np.any(np.isinf(values)):
            return self._carefully(cells, lines, name)
        self.decimal_point = self.decimal_point or has_point
        return values

    def _carefully(self, cells: list[str], lines: Sequence[int], name: str) -> Floats:
        values = np.empty(len(cells))
        for place, cell in enumerate(cells):
            text = cell.strip()
            if text.lower() in MISSING:
                values[place] = np.nan
                continue
            value = self._number(text)
            if value is None or not np.isfinite(value):
                raise self.source.error(
                    f"a number in column '{name}'", lines[place], found=shown(cell)
                )
            values[place] = value
        return values

    def _number(self, text: str) -> float | None:
        """One number; a decimal comma and a decimal point do not stand in one table."""
        if "," in text:
            grouped = self.separator == "," and _THOUSANDS.fullmatch(text)
            if self.decimal_point or grouped or not _COMMA.fullmatch(text):
                return None
            self.decimal_comma = True
            return float(text.replace(",", "."))
        if "." in text:
            if self.decimal_comma:
                return None
            self.decimal_point = True
        return float(text) if is_number(text) else None


def split_rows(source: Source, separator: str | None) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows of a file, blank lines left out."""
    if separator is None:
        for number, line in source.lines():
            yield number, line.split()
        return
    stream = io.TextIOWrapper(
        io.BytesIO(source.raw), encoding="utf-8", errors="replace", newline="\n"
    )
    lines = _RowLines(stream)
    reader = csv.reader(
        lines if b'"' in source.raw else stream, delimiter=separator, skipinitialspace=True
    )
    try:
        for cells in reader:
            lines.row_bytes = 0
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as error:
        raise source.error("a table of short cells", reader.line_num, str(error)) from None


class _RowLines:
    """Lines for a reader of CSV, of which a quoted row may take several, but not without bound."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.row_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.row_bytes += len(line)
        if self.row_bytes > 2 * LONGEST_LINE_BYTES:
            raise csv.Error("a row that goes on over many lines (a quote that is not closed?)")
        return line


def table_of(source: Source) -> Table | None:
    """The table of a file whose first line, or last comment before it, is a header; or None."""
    line, first = source.head[0]
    if _is_header(first):
        second = source.head[1][1] if len(source.head) > 1 else first
        return _table(source, first, second, line)
    table = _table(source, source.comment, first, 0) if _is_header(source.comment) else None
    # a comment is a header only where it says a unit: most comments are prose
    return table if table and any(c.time or c.rate for c in table.columns) else None


def _is_header(line: str) -> bool:
    """Whether a line has words where rows have numbers."""
    has_words = any(c.isalpha() for c in line) and not line.startswith(("{", "["))
    return has_words and bare_separator(line) is None


def _table(source: Source, header: str, row: str, line: int) -> Table | None:
    """The table by the first separator that gives header and row equally many columns.

    Where none does, the first that makes out a rate: a row of another length is named when read.
    """
    found = [(s, _split(header, s), _split(row, s)) for s in _SEPARATORS]
    for separator, names, cells in found:
        fits = len(names) == len(cells) or (cells[len(names) :] and not any(cells[len(names) :]))
        if fits and len(names) > 1:
            return Table(source, separator, _columns(source, names), line)
    for separator, names, _ in found:
        if not line or len(names) < 2:
            continue
        columns = _columns(source, names)
        if any(column.role == "rate" for column in columns):
            return Table(source, separator, columns, line)
    names, cells = _names(header, row), row.split()
    return Table(source, None, _columns(source, names), line) if len(names) == len(cells) else None


def _columns(source: Source, names: list[str]) -> tuple[Column, ...]:
    check_count(source.path, len(names), "columns", MOST_COLUMNS)
    return columns_of(names)


def _names(header: str, row: str) -> list[str]:
    """Names of a header of blanks; over a single column it is one name."""
    return [header] if len(row.split()) == 1 else _joined(header.split())


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def _joined(names: list[str]) -> list[str]:
    """Names of a header of blanks: a unit in brackets belongs to the word before it."""
    found: list[str] = []
    for name in names:
        if found and name.startswith(("(", "[")):
            found[-1] += f" {name}"
        else:
            found.append(name)
    return found


@dataclass(frozen=True, slots=True)
class ColumnsRead:
    """Chosen columns: `numbers` by place, and the number of every row's line."""

    lines: Ints
    numbers: tuple[Floats, ...]


def columns_read(table: Table, indices: Sequence[int]) -> ColumnsRead:
    """Columns of numbers, NaN where a cell is missing."""
    parts: list[list[Floats]] = [[] for _ in indices]
    lines: list[Ints] = []
    for numbers, cells in table.batches(indices):
        lines.append(np.array(numbers, dtype=np.int64))
        for part, column, index in zip(parts, cells, indices, strict=True):
            part.append(table.floats(column, numbers, table.names[index] or f"{index + 1}"))
    whole = tuple(np.concatenate(part) if part else np.empty(0) for part in parts)
    joined = np.concatenate(lines) if lines else np.empty(0, dtype=np.int64)
    return ColumnsRead(joined, whole)
