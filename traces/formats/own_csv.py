"""Our own table, `time_s,rate_bps`: written so that reading it back gives the same trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from artefacts import atomic_write
from traces.formats.cells import columns_read, table_of
from traces.formats.reading import (
    MAX_RATE_BPS,
    Direction,
    Reading,
    ReadOptions,
    checked_trace,
)
from traces.formats.series import facts_of
from traces.formats.source import Source
from traces.trace import BandwidthTrace

CSV_HEADER = "time_s,rate_bps"
DIRECTION_COMMENTS: dict[Direction, str] = {
    "uplink": "direction: uplink",
    "downlink": "direction: downlink",
}
OWN_NAMES = ("time_s", "rate_bps")


class OwnCsv:
    """`time_s,rate_bps`, as `write_csv` writes it; a last row gives the end."""

    name = "csv"
    title = f"a header '{CSV_HEADER}' (written by 'coinfer traces')"
    options = frozenset[str]()

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """The header, in any dialect."""
        table = table_of(source)
        return table is not None and tuple(n.lower() for n in table.names) == OWN_NAMES

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """The last row's time is the end (its rate is written as 0)."""
        what = f"two numbers ({CSV_HEADER}): rising seconds from 0, bit/s >= 0"
        table = table_of(source)
        if table is None or len(table.columns) != 2:
            raise source.error(f"a header '{CSV_HEADER}'", source.head[0][0])
        read = columns_read(table, (0, 1))
        times, rates = read.numbers[0], read.numbers[1]
        bad = ~(np.isfinite(times) & (rates >= 0) & (rates <= MAX_RATE_BPS))
        if len(times):
            bad[1:] |= ~(np.diff(times) > 0)
            bad[0] |= times[0] != 0
        if np.any(bad):
            other = " (another's table: --format table)" if len(times) and times[0] != 0 else ""
            raise source.error(what + other, int(read.lines[np.flatnonzero(bad)[0]]))
        if len(times) < 2:
            raise source.error("two or more (start, end)", found=f"{len(times)} rows")
        said = [d for d, comment in DIRECTION_COMMENTS.items() if comment == source.comment]
        direction = said[0] if said else "not said"
        facts = facts_of(
            self.name,
            f"column 'time_s', s; the last row is the end ({times[-1]:g} s)",
            "column 'rate_bps', bit/s",
            direction,
        )
        if rates[-1] > 0:
            odd = f"odd: the last row is the end, not {rates[-1]:g} bit/s (but: --format table)"
            facts = replace(facts, remarks=(odd,))
        trace = checked_trace(source.path, source.stem, times[:-1], rates[:-1], float(times[-1]))
        return Reading(trace, replace(facts, interval_s=round(float(np.median(np.diff(times))), 9)))


def write_csv(path: str | Path, trace: BandwidthTrace, direction: Direction = "not said") -> None:
    """Write `time_s,rate_bps`; a last row gives the end. Reading it back gives the same trace.

    A known direction stands in a comment line before the header.
    """
    with atomic_write(path) as stream:
        if direction != "not said":
            stream.write(f"# {DIRECTION_COMMENTS[direction]}\n")
        stream.write(CSV_HEADER + "\n")
        for at_s, rate in zip(trace.times_s, trace.rates_bps, strict=True):
            stream.write(f"{float(at_s)!r},{float(rate)!r}\n")
        stream.write(f"{trace.duration_s!r},0.0\n")
