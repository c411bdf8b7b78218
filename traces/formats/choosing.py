"""Which columns of a table are read, and in which units: what header, cells and caller say.

Whatever stays open is gathered and asked for in one line, with what each answer would make of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from traces.formats import stamps
from traces.formats.cells import Table, split_rows
from traces.formats.headers import ASIDE_WORDS, Column, words_of
from traces.formats.limits import listed, short
from traces.formats.reading import LONGEST_S, ReadOptions, TraceQuestion
from traces.formats.units import (
    MILLISECONDS,
    SECONDS,
    TOTAL_BYTES,
    RateUnit,
    TimeUnit,
)

LEAST_COUNTER_ROWS = 3
"""Amounts that never fall in so many rows may be a counter's."""


@dataclass
class OpenQuestions:
    """What a file leaves open, each with the options that answer it."""

    found: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def add(self, found: str, expected: str) -> None:
        """One more."""
        self.found.append(found)
        self.expected.append(expected)

    def raise_any(self, table: Table) -> None:
        """Ask, where anything is open."""
        if self.found:
            raise TraceQuestion(
                table.source.path,
                line=table.header_line or None,
                found=" and ".join(self.found),
                expected="; ".join(self.expected),
            )


def choose_rate(table: Table, options: ReadOptions) -> Column:
    """The column of the rate; of both directions the uplink, unless the caller says otherwise."""
    if options.column is not None:
        named = _named(table, options.column, "--column")
        if options.direction not in (None, named.direction) and named.direction != "not said":
            raise UsageError(
                f"{table.source.path}, --direction: found {options.direction}, expected "
                f"{named.direction}, which --column '{named.name}' is"
            )
        return named
    rates = [c for c in table.columns if c.role == "rate"]
    directions = {c.direction for c in rates}
    wanted = options.direction or ("uplink" if {"uplink", "downlink"} <= directions else None)
    fitting = [c for c in rates if wanted in (None, c.direction)]
    if options.direction and not fitting:
        raise UsageError(
            f"{table.source.path}, --direction: found {options.direction}, expected one of the "
            f"file's ({', '.join(sorted(directions))})"
        )
    # an amount beside a rate says the same once more
    own = [c for c in fitting if c.rate is None or not c.rate.amount] or fitting
    if len(own) == 1 and (own == fitting or not own[0].is_aside):
        return own[0]
    open_ones = fitting if len(own) == 1 else own
    raise TraceQuestion(
        table.source.path,
        line=table.header_line or None,
        found=f"{len(open_ones)} columns that may be the rate ({_listed(open_ones)})" if open_ones
        else "no column known to be a rate",
        expected=listed([c.name for c in open_ones], "--column '{}'", " or ") or "--column NAME",
    )  # fmt: skip


def _named(table: Table, name: str, option: str) -> Column:
    name = short(name)
    found = [column for column in table.columns if column.name.lower() == name.lower()]
    if len(found) != 1:
        raise UsageError(
            f"{table.source.path}, {option}: found '{name}', expected one of "
            f"{_listed([c for c in table.columns if c.name])}"
        )
    return found[0]


def _listed(columns: list[Column]) -> str:
    return listed([column.name for column in columns])


def other_direction(table: Table, rate: Column) -> Column | None:
    """The column of the other direction, where there is exactly one."""
    other = {"uplink": "downlink", "downlink": "uplink"}.get(rate.direction)
    found = [c for c in table.columns if c.role == "rate" and c.direction == other]
    return found[0] if other and len(found) == 1 else None


def choose_time(table: Table, options: ReadOptions) -> tuple[Column, ...]:
    """The column of the time; a date and a time of day in two columns; none where there is none.

    A bare unit (`min`) is a time only where no column is called one, and never beside its like
    (`max`). Of several the first is taken whose unit is clear.
    """
    if options.time_column is not None:
        return (_named(table, options.time_column, "--time-column"),)
    cells = _first_row(table)
    times = _times(table)
    first = table.columns[0]
    if not times and first.name in ("", "index") and stamps.kind_of(cells[0]) == "date":
        return (replace(first, role="time"),)  # a pandas index of dates
    days = [c for c in times if stamps.is_day(cells[c.index])]
    clocks = [c for c in times if stamps.kind_of(cells[c.index]) == "time of day"]
    if days and clocks:
        return days[0], clocks[0]
    finer = [c for c in times if c not in days] or days
    clear = [c for c in finer if c.time is not None or _clear(cells[c.index])]
    return tuple((clear or finer)[:1])


def _times(table: Table) -> list[Column]:
    """The columns that are called times; where there is none, bare units."""
    times = [c for c in table.columns if c.role == "time"]
    worded = [c for c in times if c.worded]
    if worded:
        return worded
    figures = {word for c in table.columns for word in words_of(c.name)} & (ASIDE_WORDS - {"min"})
    return [c for c in times if not (figures and c.is_aside)]


def _clear(cell: str) -> bool:
    """Whether a time needs no unit: a date, a time of day, a Unix time."""
    text = cell.strip()
    kind = stamps.kind_of(text)
    if kind == "number":
        return stamps.epoch_unit(float(text.replace(",", ".", 1))) is not None
    return kind is not None


def _first_row(table: Table) -> list[str]:
    """The cells of the first row below the header; empty ones where there is none."""
    for number, cells in split_rows(table.source, table.separator):
        if number > table.header_line and len(cells) >= len(table.columns):
            return cells
    return [""] * len(table.columns)


def clock_of(
    open_questions: OpenQuestions, column: Column, times: Floats, options: ReadOptions
) -> TimeUnit:
    """The unit of a column of numbers: given, in the name, a Unix time's, or the only possible.

    A name that the numbers contradict (`time_s` of Unix times in ms) is asked for.

    `column` is the times' own, `times` (rows,) are its numbers, `options` what the caller says.
    Where the unit stays open it is added to `open_questions`.
    """
    if options.time is not None:
        return options.time
    span = float(times.max() - times.min())
    epoch = stamps.epoch_unit(float(times[0]))
    if column.time is not None and epoch not in (None, column.time):
        if span / epoch.per_s <= LONGEST_S:
            open_questions.add(
                f"{column.said} with Unix times in {epoch.name} (as {times[0]:.15g})",
                " or ".join(
                    f"--time-unit {unit.name} ({span / unit.per_s:.6g} s)"
                    for unit in (column.time, epoch)
                ),
            )
        return column.time
    known = column.time or epoch
    if known is not None:
        return known
    if np.any(times != np.floor(times)):
        return SECONDS  # there is no fraction of a ms
    if span > LONGEST_S:
        return MILLISECONDS
    open_questions.add(
        f"a time without a unit ({column.said})",
        f"--time-unit s ({span:.6g} s) or --time-unit ms ({span / 1e3:.6g} s)",
    )
    return SECONDS


def unit_of(
    open_questions: OpenQuestions, column: Column, values: Floats, options: ReadOptions
) -> RateUnit:
    """The unit of the rate: given, or in the name; amounts that never fall may be a counter's.

    `column` is the rates' own, `values` (rows,) are its numbers, `options` what the caller says.
    Where the unit stays open it is added to `open_questions`.
    """
    known = options.rate or column.rate
    if known is None:
        open_questions.add(
            f"a rate without a clear unit ({column.said})", _rate_choices(column, values)
        )
        return TOTAL_BYTES
    rises = len(values) >= LEAST_COUNTER_ROWS and not np.any(np.diff(values) < 0)
    if known.amount and not known.total and rises and values[-1] > values[0] and not options.rate:
        open_questions.add(
            f"amounts that never fall ({column.said}), which may be a counter",
            f"--rate-unit {known.name} (a row) or --rate-unit total-bytes (since the start)",
        )
    return known


def _rate_choices(column: Column, values: Floats) -> str:
    mean = float(values.mean()) if len(values) else 0.0
    if "byte" in column.name.lower():
        return "--rate-unit bytes (a row) or --rate-unit B/s"
    choices = [("kbit/s", 1e-3), ("Mbit/s", 1.0)]
    if _in_capitals(column.name):
        choices = [("Mbit/s", 1.0), ("MB/s", 8.0)]
    return " or ".join(
        f"--rate-unit {unit} (mean {factor * mean:.4g} Mbit/s)" for unit, factor in choices
    )


def _in_capitals(name: str) -> bool:
    """Whether a name spells a unit whose case leaves bits and bytes open."""
    return name.upper().endswith(("BPS", "B/S")) and not name.lower().endswith("bit/s")
