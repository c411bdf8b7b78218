"""From stamped rows to a trace: order, repeated stamps, gaps, and how long the last row lasts.

One rule for every format of stamps and rates: a row's rate holds from its stamp to the next row's,
the last for the usual (median) step. Amounts (bytes a row) passed since the row before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from artefacts.arrays import Floats
from traces.formats.numbers import falls_throughout, first_fall
from traces.formats.reading import (
    MAX_RATE_BPS,
    Direction,
    Reading,
    Understood,
    checked_trace,
    number_of,
)
from traces.formats.source import Source
from traces.formats.units import SECONDS, RateUnit, TimeUnit

GAP_STEPS = 3.0
"""A step of more usual ones is a gap in the log."""
MOST_FALLS = 0.01
"""Of a log's rows: a clock that was set right while it ran."""
TURNED = "rows stand newest first: turned"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a file: `times` (rows,) on any clock, `values` in `unit`, and where a row's line is.

    `last_s` is how long the last row lasts where a format says so; `irregular` rows (chunks of a
    download) have no gaps, and of rows with one stamp the last counts.
    """

    times: Floats
    values: Floats
    unit: RateUnit
    locate: Callable[[int], int]
    clock: TimeUnit = SECONDS
    last_s: float | None = None
    irregular: bool = False


def stamped(source: Source, rows: Rows, facts: Understood) -> Reading:
    """The trace of stamped rows, and `facts` with what their stamps showed."""
    falls = int(np.count_nonzero(np.diff(rows.times) < 0))
    rows, turned = _in_order(source, rows)
    if falls and not turned:
        back = number_of(falls, "time")
        said = f"the clock is set back {back}: time stands still until it is made up"
        facts = replace(facts, remarks=(*facts.remarks, said))
    _refuse(source, rows, rows.values < 0, "a rate >= 0")
    times, values, repeats = _merged(rows)
    starts = (times - times[0]) / rows.clock.per_s
    step = _usual_step(source, starts, rows)
    last = step if rows.last_s is None else rows.last_s
    if rows.unit.amount:
        starts, rates, duration = _of_amounts(source, starts, values, rows.unit, step)
    else:
        rates, duration = rows.unit.bits * values, float(starts[-1]) + last
    if not np.all(rates <= MAX_RATE_BPS):
        raise source.error("rates of at most 1e12 bit/s", found=f"{np.nanmax(rates):g} bit/s")
    trace = checked_trace(source.path, source.stem, starts, rates, duration)
    gaps = np.diff(starts)
    gaps = gaps[(gaps > GAP_STEPS * step) & (not rows.irregular)]
    known = replace(
        facts,
        interval_s=round(step, 9),
        gaps=len(gaps),
        gap_s=round(float(gaps.sum()), 6),
        repeats=repeats,
        turned=turned,
    )
    return Reading(trace, replace(known, remarks=(*facts.remarks, *_remarks(known, rows))))


def _remarks(known: Understood, rows: Rows) -> list[str]:
    said = []
    if known.turned:
        said.append(TURNED)
    if known.gaps:
        held = (
            "what passed is spread over them" if rows.unit.amount else "the rate before one holds"
        )
        said.append(f"{number_of(known.gaps, 'gap')}, {known.gap_s:.6g} s together: {held}")
    if known.repeats:
        taken = "the last counts" if rows.irregular or rows.unit.total else "their mean counts"
        taken = "their sum counts" if rows.unit.amount and not rows.unit.total else taken
        said.append(f"{number_of(known.repeats, 'row')} with the stamp of the row before: {taken}")
    return said


def _refuse(source: Source, rows: Rows, bad: np.ndarray, expected: str) -> None:
    """Raise at the first row that is bad."""
    if np.any(bad):
        raise source.error(expected, rows.locate(int(np.flatnonzero(bad)[0])))


def _in_order(source: Source, rows: Rows) -> tuple[Rows, bool]:
    """Rows whose stamps do not fall; rows that stand newest first are turned."""
    if falls_throughout(rows.times):
        last = len(rows.times) - 1
        locate = rows.locate
        turned = replace(
            rows,
            times=rows.times[::-1],
            values=rows.values[::-1],
            locate=lambda row: locate(last - row),
        )
        return turned, True
    fall = first_fall(rows.times)
    if fall is None:
        return rows, False
    if rows.irregular or not _clock_set_back(rows.times):
        raise source.error(
            "a time that does not fall (or falls in every row: such files are turned)",
            rows.locate(fall),
        )
    return replace(rows, times=np.maximum.accumulate(rows.times)), False


def _clock_set_back(times: Floats) -> bool:
    """Whether times fall as a clock that is set right: in a row of a hundred, by a few steps."""
    steps = np.diff(times)
    falls, rises = -steps[steps < 0], steps[steps > 0]
    few = len(falls) <= MOST_FALLS * len(times)
    return few and bool(np.all(falls <= GAP_STEPS * np.median(rises)))


def _merged(rows: Rows) -> tuple[Floats, Floats, int]:
    """One row a stamp: the mean of rates, the sum of amounts, the last of a counter or chunk."""
    times = rows.times
    first = np.flatnonzero(np.concatenate([[True], np.diff(times) > 0]))
    repeats = len(times) - len(first)
    if not repeats:
        return times, rows.values, 0
    if rows.unit.total or rows.irregular:
        return times[first], rows.values[np.append(first[1:], len(times)) - 1], repeats
    sums = np.add.reduceat(rows.values, first)
    counts = np.diff(np.append(first, len(times)))
    return times[first], sums if rows.unit.amount else sums / counts, repeats


def _usual_step(source: Source, starts: Floats, rows: Rows) -> float:
    if len(starts) > 1:
        return float(np.median(np.diff(starts)))
    if rows.last_s is not None:
        return rows.last_s
    raise source.error(
        "two moments or more: nothing says how long a row lasts",
        found=f"{len(rows.times)} row{'s' * (len(rows.times) > 1)} of a single moment",
    )


def _of_amounts(
    source: Source, starts: Floats, values: Floats, unit: RateUnit, step: float
) -> tuple[Floats, Floats, float]:
    """Starts, rates and duration of what passed between stamps; a counter's first row begins it."""
    lengths = np.diff(starts)
    if unit.total:
        values = np.diff(values)
        if np.any(values < 0) or not len(values):
            raise source.error("a counter that does not fall", found="total-bytes that fall")
    else:
        lengths = np.concatenate([[step], lengths])
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    return edges[:-1], values * unit.bits / lengths, float(edges[-1])


def from_lengths(
    source: Source, lengths_s: Floats, rates_bps: Floats, facts: Understood
) -> Reading:
    """The trace of consecutive pieces of known lengths.

    `source` is the file, `lengths_s` (N,) are seconds and `rates_bps` (N,) bit/s, `facts` what was
    understood of the file. Raises an `ArtefactError` for a rate that cannot be.
    """
    if not np.all((rates_bps >= 0) & (rates_bps <= MAX_RATE_BPS)):
        found = f"{np.nanmin(rates_bps):g} to {np.nanmax(rates_bps):g} bit/s"
        raise source.error("rates from 0 to 1e12 bit/s", found=found)
    edges = np.concatenate([[0.0], np.cumsum(lengths_s)])
    trace = checked_trace(source.path, source.stem, edges[:-1], rates_bps, float(edges[-1]))
    return Reading(trace, replace(facts, interval_s=round(float(np.median(lengths_s)), 9)))


def facts_of(
    name: str,
    time: str,
    rate: str,
    direction: Direction = "not said",
    *remarks: str,
    layout: str = "",
) -> Understood:
    """What is known before rows were looked at.

    `name` is the format's. `time` and `rate` say which columns were taken in which unit,
    `direction` is that of the rates, `layout` the table's dialect, `remarks` what was odd.
    """
    return Understood(name, time, rate, direction, 0.0, layout, remarks=remarks)
