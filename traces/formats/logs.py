"""Throughput logs of six columns, as of the Belgian 4G and Norwegian 3G sets.

Column 1 is a Unix time (s or ms), 2 the ms since the start, 3 and 4 the place, 5 the bytes that
passed in the last column-6 milliseconds. Bytes are conserved.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from artefacts.arrays import Floats
from traces.formats.numbers import bare_columns, bare_numbers, falls_throughout, first_fall, line_of
from traces.formats.reading import MAX_RATE_BPS, Reading, ReadOptions, checked_trace, number_of
from traces.formats.series import GAP_STEPS, TURNED, facts_of
from traces.formats.source import Source
from traces.formats.stamps import epoch_unit
from traces.formats.units import MILLISECONDS, SECONDS, TimeUnit

COLUMNS = 6
EXPECTED = (
    "six columns: Unix time (s or ms), elapsed ms that count on by column 6, latitude, longitude, "
    "bytes, ms of the row (other times: --format throughput-log)"
)
MOST_APART, MOST_APART_MS = 0.1, 10.0
"""By how much the count of column 2 and the ms of a row may differ, in most rows."""
WHAT = "six numbers: time, elapsed ms, latitude, longitude, bytes >= 0, interval ms >= 0"
LONGEST_ROW_MS = 3.6e6
MOST_ROW_BYTES = 1e12


class ThroughputLog:
    """Six columns: time, elapsed ms, latitude, longitude, bytes, interval ms."""

    name = "throughput-log"
    title = "six columns (Belgian 4G, Norwegian 3G)"
    options = frozenset[str]()

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Six bare columns."""
        return bare_columns(source) == COLUMNS

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Rates are bytes over interval; a row without time gives its bytes to the next."""
        rows = bare_numbers(source, COLUMNS, WHAT)
        n_bytes, interval_ms = rows[:, 4], rows[:, 5]
        bad = (n_bytes < 0) | (interval_ms < 0)
        bad |= (interval_ms > LONGEST_ROW_MS) | (n_bytes > MOST_ROW_BYTES)
        if np.any(bad):
            raise source.error(WHAT, line_of(source, int(np.flatnonzero(bad)[0])))
        clock = _clock(rows)
        if options.format is None and (clock is None or not _counts(rows)):
            raise source.error(EXPECTED, source.head[0][0])
        turned = falls_throughout(rows[:, 0])
        if turned:
            rows = rows[::-1]
        fall = first_fall(rows[:, 0])
        if fall is not None:
            raise source.error(
                "a time (column 1) that rises, or falls throughout (such files are turned)",
                line_of(source, fall),
            )
        lengths, counts = _with_time(source, rows)
        rates = 8.0 * counts / lengths
        if np.any(rates > MAX_RATE_BPS):
            raise source.error(WHAT, found=f"a rate of {rates.max():g} bit/s")
        edges = np.concatenate([[0.0], np.cumsum(lengths)])
        trace = checked_trace(source.path, source.stem, edges[:-1], rates, float(edges[-1]))
        facts = facts_of(
            self.name,
            "column 6, ms a row" + (f" (column 1: Unix time in {clock.name})" if clock else ""),
            "column 5, bytes a row",
            "downlink",
            *((TURNED,) if turned else ()),
        )
        gaps, gap_s = _gaps(rows, float(np.median(lengths)))
        if gaps:
            said = f"{number_of(gaps, 'gap')}, {gap_s:.6g} s together: left out (rows say how long)"
            facts = replace(facts, remarks=(*facts.remarks, said))
        step = round(float(np.median(lengths)), 9)
        return Reading(
            trace, replace(facts, interval_s=step, gaps=gaps, gap_s=gap_s, turned=turned)
        )


def _clock(rows: Floats) -> TimeUnit | None:
    """The unit in which all of column 1 are Unix times; None where they are none."""
    units = {epoch_unit(float(end)) for end in (rows[:, 0].min(), rows[:, 0].max())}
    clock = units.pop()
    return clock if not units and clock in (SECONDS, MILLISECONDS) else None


def _counts(rows: Floats) -> bool:
    """Whether column 2 counts on by the ms of column 6, gaps and new counts of few rows aside."""
    if len(rows) < 2:
        return True
    back = rows[::-1] if falls_throughout(rows[:, 0]) else rows
    apart = np.abs(np.diff(back[:, 1]) - back[1:, 5])
    return bool(np.median(apart - MOST_APART * back[1:, 5]) <= MOST_APART_MS)


def _with_time(source: Source, rows: Floats) -> tuple[Floats, Floats]:
    """Lengths in s and bytes of the rows that last; bytes of those that do not go to the next."""
    n_bytes, interval_ms = rows[:, 4], rows[:, 5]
    lasts = np.flatnonzero(interval_ms > 0)
    if not len(lasts):
        raise source.error("at least one", found="no interval longer than 0 ms")
    counts = np.add.reduceat(n_bytes, np.concatenate([[0], lasts[:-1] + 1]))
    return interval_ms[lasts] / 1000.0, counts


def _gaps(rows: Floats, step_s: float) -> tuple[int, float]:
    """Time that column 2 counts and no row's interval covers."""
    missing = (np.diff(rows[:, 1]) - rows[1:, 5]) / 1000.0
    found = missing[missing > GAP_STEPS * step_s]
    return len(found), round(float(found.sum()), 6)
