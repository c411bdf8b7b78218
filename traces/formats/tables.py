"""Anybody's tables with a header, whose words and units say what the columns are.

What a header and the cells leave open is asked for; nothing is taken for granted. Of an uplink and
a downlink the uplink is taken, unless the caller chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Floats
from traces.formats import stamps
from traces.formats.cells import Table, table_of
from traces.formats.choosing import (
    OpenQuestions,
    choose_rate,
    choose_time,
    clock_of,
    other_direction,
    unit_of,
)
from traces.formats.headers import Column
from traces.formats.limits import MOST_WORDED_ROWS, check_count, check_rows
from traces.formats.reading import (
    Reading,
    ReadOptions,
    Understood,
    number_of,
)
from traces.formats.series import Rows, facts_of, from_lengths, stamped
from traces.formats.source import Source, shown
from traces.formats.units import (
    KBIT_S,
    MICROSECONDS,
    RateUnit,
    TimeUnit,
)

RADIO_WORDS = {
    "operatorname", "operator", "cellid", "networkmode", "networktech", "rsrp", "rsrq", "snr",
    "cqi", "rssi", "level", "qual", "state", "node",
}  # fmt: skip
"""Columns of which a drive test's log has some (G-NetTrack and its kind)."""
DRIVE_RATES = ("dl_bitrate", "ul_bitrate")
TABLE_OPTIONS = frozenset(
    {"time_unit", "rate_unit", "column", "time_column", "interval_s", "direction"}
)


class HeaderTable:
    """A table of any usual words and units."""

    name = "table"
    title = "a header of usual words and units (time_s, ms, mbps, DL_bitrate, bytes, …)"
    options = TABLE_OPTIONS

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """A header of which some column is a rate, or is named by the caller."""
        table = table_of(source)
        if table is None:
            return False
        return options.column is not None or any(c.role == "rate" for c in table.columns)

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """As header, cells and options say together."""
        table = table_of(source)
        if table is None:
            raise source.error("a header with the columns' names", source.head[0][0])
        return read_table(self.name, table, options)


class DriveTest:
    """A drive test's log: Timestamp, DL_bitrate and UL_bitrate in kbit/s, radio columns."""

    name = "drive-test"
    title = "a drive test's log (Irish 4G and 5G sets, G-NetTrack)"
    options = TABLE_OPTIONS

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """A bitrate of that name beside columns of the radio."""
        table = table_of(source)
        if table is None:
            return False
        names = {name.lower().replace(" ", "") for name in table.names}
        return bool(names & set(DRIVE_RATES)) and len(names & RADIO_WORDS) >= 2

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Other columns are ignored; a bitrate that is not there leaves its row out."""
        table = table_of(source)
        if table is None:
            raise source.error("a header with DL_bitrate or UL_bitrate", source.head[0][0])
        columns = tuple(
            replace(c, rate=c.rate or KBIT_S)
            if c.name.lower() in DRIVE_RATES
            else replace(c, role="other" if c.role == "rate" else c.role)
            for c in table.columns
        )
        return read_table(self.name, replace(table, columns=columns), options)


def read_table(name: str, table: Table, options: ReadOptions) -> Reading:
    """A table's trace, by the columns that header, cells and options choose."""
    check_rows(table.source.path, table.source.raw)
    rate = choose_rate(table, options)
    time = choose_time(table, options)
    _refuse_unused(table, options, time)
    read = _rows_of(table, rate, other_direction(table, rate), time)
    open_questions = OpenQuestions()
    if not time and options.interval_s is None:
        open_questions.add(
            "no column known to be a time", "--time-column NAME or --interval SECONDS between rows"
        )
    clock = MICROSECONDS
    if read.kind not in (None, "number") and options.time is not None:
        raise UsageError(
            f"{table.source.path}, --time-unit: found it for {time[0].said}, which is a "
            f"{read.kind}, expected it for numbers"
        )
    if read.kind == "number" and len(read.times):
        clock = clock_of(open_questions, time[0], read.times, options)
    unit = unit_of(open_questions, rate, read.values, options)
    open_questions.raise_any(table)
    if not len(read.values):
        raise table.source.error("one or more", found=f"no row with a rate in {rate.said}")
    facts = facts_of(
        name,
        _time_said(time, read, clock, options),
        f"{rate.said}, {unit.name}" + (" a row" if unit.amount and not unit.total else ""),
        rate.direction,
        *_remarks(rate, unit, time, clock, options, read),
        layout=table.said,
    )
    if options.interval_s is not None:
        return _without_times(table.source, read, unit, options.interval_s, facts)
    lines = read.lines
    rows = Rows(read.times, read.values, unit, lambda row: int(lines[row]), clock)
    return stamped(table.source, rows, facts)


def _without_times(
    source: Source, read: RowsRead, unit: RateUnit, step_s: float, facts: Understood
) -> Reading:
    """A row every `step_s`: none may be missing, and a counter needs two moments."""
    if read.left_out:
        raise source.error(
            "one in every row: without times a missing one has no place",
            found=f"{number_of(read.left_out, 'row')} without a rate",
        )
    if unit.total:
        raise source.error("a column of the time beside it", found="a counter without times")
    rates = read.values * unit.bits / (step_s if unit.amount else 1.0)
    return from_lengths(source, np.full(len(rates), step_s), rates, facts)


def _refuse_unused(table: Table, options: ReadOptions, time: tuple[Column, ...]) -> None:
    if time and options.interval_s is not None:
        raise UsageError(
            f"{table.source.path}, --interval: found it beside a time ({time[0].said}), expected "
            "it for files without one"
        )
    if options.time is not None and not time:
        raise UsageError(
            f"{table.source.path}, --time-unit: found it without a column of a time, expected "
            "--time-column NAME too"
        )


@dataclass
class RowsRead:
    """Rows with a rate: lines, `times` (numbers, or microseconds) and `values`."""

    kind: stamps.Kind | None
    lines: npt.NDArray[np.int64]
    times: Floats
    values: Floats
    left_out: int
    beside: float | None
    """Mean of the other direction, in the rate's unit."""


def _rows_of(
    table: Table, rate: Column, beside: Column | None, time: tuple[Column, ...]
) -> RowsRead:
    """Stream the chosen columns; rows without a rate are left out."""
    reader = _TimeReader(table, time)
    indices = [rate.index, *(c.index for c in time), *([beside.index] if beside else [])]
    lines: list[npt.NDArray[np.int64]] = []
    values: list[Floats] = []
    left_out, other_sum, other_count = 0, 0.0, 0
    for numbers, cells in table.batches(indices):
        found = table.floats(cells[0], numbers, rate.name)
        kept = np.flatnonzero(~np.isnan(found))
        left_out += len(found) - len(kept)
        lines.append(np.array(numbers, dtype=np.int64)[kept])
        values.append(found[kept])
        reader.add(cells[1 : 1 + len(time)], numbers, kept)
        if beside:
            others = table.floats(cells[-1], numbers, beside.name)
            other_sum += float(np.nansum(others))
            other_count += int(np.count_nonzero(~np.isnan(others)))
    return RowsRead(
        reader.kind,
        np.concatenate(lines) if lines else np.empty(0, dtype=np.int64),
        reader.times,
        np.concatenate(values) if values else np.empty(0),
        left_out,
        other_sum / other_count if other_count else None,
    )


class _TimeReader:
    """Times of rows as they come: numbers, dates (also of two columns) or times of day."""

    def __init__(self, table: Table, columns: tuple[Column, ...]) -> None:
        self._table, self._columns = table, columns
        self._parts: list[Floats] = []
        self._origin: int | None = None
        self._worded = 0
        self.kind: stamps.Kind | None = None

    @property
    def times(self) -> Floats:
        """All of them; microseconds since the first where they are no numbers."""
        whole = np.concatenate(self._parts) if self._parts else np.empty(0)
        return stamps.over_midnight(whole) if self.kind == "time of day" else whole

    def add(self, cells: list[list[str]], lines: list[int], kept: npt.NDArray[np.intp]) -> None:
        """Another batch, of which the rows `kept` have a rate."""
        if not self._columns or not len(kept):
            return
        if len(kept) < len(lines):
            cells = [[column[k] for k in kept] for column in cells]
        own = cells[0]
        if len(cells) == 2:
            own = [f"{day} {clock}" for day, clock in zip(*cells, strict=True)]
        at = [lines[k] for k in kept]
        if self.kind is None:
            self.kind = stamps.kind_of(own[0])
        if self.kind is None:
            self._refuse(own[0], at[0])
        if self.kind != "number":
            self._worded += len(own)
            path = self._table.source.path
            check_count(path, self._worded, f"rows with a {self.kind}", MOST_WORDED_ROWS)
        self._parts.append(self._parsed(own, at))

    def _parsed(self, cells: list[str], lines: list[int]) -> Floats:
        name = self._columns[0].name
        if self.kind == "number":
            times = self._table.floats(cells, lines, name)
            missing = np.flatnonzero(np.isnan(times))
            if len(missing):
                self._refuse(cells[int(missing[0])], lines[int(missing[0])])
            return times
        try:
            if self.kind == "time of day":
                return stamps.clocks_us(cells)
            moments = stamps.dates_us(cells)
        except stamps.BadStampError as error:
            self._refuse(cells[error.place], lines[error.place])
        if self._origin is None:
            self._origin = int(moments[0])
        return (moments - self._origin).astype(np.float64)

    def _refuse(self, cell: str, line: int) -> NoReturn:
        like = {"date": "2019-12-01 13:47:32", "time of day": "13:47:32"}.get(self.kind or "")
        said = (
            f"a {self.kind} as '{like}'" if like else "a number (or a date as 2019-12-01 13:47:32)"
        )
        name = self._columns[0].name
        raise self._table.source.error(f"{said} in column '{name}'", line, found=shown(cell))


def _time_said(
    time: tuple[Column, ...], read: RowsRead, clock: TimeUnit, options: ReadOptions
) -> str:
    if not time:
        return f"a row every {options.interval_s:g} s (--interval)"
    named = " and ".join(column.said for column in time)
    if read.kind != "number":
        return f"{named}, {read.kind}"
    unix = "Unix time in " if stamps.epoch_unit(float(read.times[0])) == clock else ""
    return f"{named}, {unix}{clock.name}"


def _remarks(
    rate: Column,
    unit: RateUnit,
    time: tuple[Column, ...],
    clock: TimeUnit,
    options: ReadOptions,
    read: RowsRead,
) -> list[str]:
    said = []
    known = rate.rate
    if time and read.kind == "number" and options.time is None and time[0].time is None:
        unix = stamps.epoch_unit(float(read.times[0])) is not None
        taken = f"no unit of the time is stated: {clock.name} are taken (or: --time-unit)"
        said += [] if unix else [taken]
    if options.rate and known and (unit.bits, unit.amount) != (known.bits, known.amount):
        said.append(f"--rate-unit {unit.name} is obeyed, though the header says {known.name}")
    if options.time and time and time[0].time not in (None, options.time):
        said.append(f"--time-unit {options.time.name} is obeyed, though the header says otherwise")
    if read.left_out:
        said.append(f"{number_of(read.left_out, 'row')} without a rate: left out")
    if read.beside is not None:
        other = "downlink" if rate.direction == "uplink" else "uplink"
        said.append(
            f"the file has both directions: the {rate.direction} is taken (mean "
            f"{float(read.values.mean()):.4g} {unit.name}; {other} {read.beside:.4g})"
        )
    return said
