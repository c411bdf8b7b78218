"""Lumos 5G's table: runs of one row a second, `Throughput` in Mbit/s of a TCP downlink.

Columns: Narayanan et al., Lumos5G, IMC 2020 (README of the set). Runs differ by
`run_num`; `seq_num` counts its seconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from artefacts.arrays import Floats
from traces.formats.cells import Table, columns_read, table_of
from traces.formats.limits import check_rows
from traces.formats.reading import Reading, ReadOptions, number_of
from traces.formats.series import Rows, facts_of, stamped
from traces.formats.source import Source
from traces.formats.units import MBIT_S

NAMES = ("run_num", "seq_num", "throughput")


class Lumos5G:
    """Runs in one table: joined end to end, and said."""

    name = "lumos5g"
    title = "the Lumos 5G table (run_num, seq_num, Throughput)"
    options = frozenset[str]()

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Its three columns."""
        table = table_of(source)
        return table is not None and not options.given and _places(table) is not None

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Rows without a throughput are left out; the rate before them holds."""
        check_rows(source.path, source.raw)
        table = table_of(source)
        places = None if table is None else _places(table)
        if table is None or places is None:
            expected = "a header with run_num, seq_num and Throughput"
            raise source.error(expected, source.head[0][0])
        read = columns_read(table, places)
        run, second, rate = read.numbers
        bad = ~(np.isfinite(run) & np.isfinite(second))
        if np.any(bad):
            line = int(read.lines[np.flatnonzero(bad)[0]])
            raise source.error("numbers in run_num and seq_num", line)
        kept = ~np.isnan(rate)
        if not np.any(kept):
            raise source.error("one or more", found="no row with a Throughput")
        times, runs = _end_to_end(run[kept], second[kept])
        remarks = []
        if runs > 1:
            remarks.append(f"{runs} runs stand end to end")
        if not np.all(kept):
            remarks.append(f"{number_of(int((~kept).sum()), 'row')} without a rate: left out")
        facts = facts_of(
            self.name, "column 'seq_num', s of a run", "column 'Throughput', Mbit/s", "downlink",
            *remarks, layout=table.said,
        )  # fmt: skip
        lines = read.lines[kept]
        rows = Rows(times, rate[kept], MBIT_S, lambda row: int(lines[row]), last_s=1.0)
        reading = stamped(source, rows, facts)
        return replace(reading, understood=replace(reading.understood, interval_s=1.0))


def _places(table: Table) -> tuple[int, ...] | None:
    names = [name.lower() for name in table.names]
    return tuple(names.index(n) for n in NAMES) if set(NAMES) <= set(names) else None


def _end_to_end(run: Floats, second: Floats) -> tuple[Floats, int]:
    """Times on one clock, a second between runs; a run ends where `seq_num` does not rise."""
    new = np.concatenate([[True], (np.diff(run) != 0) | (np.diff(second) <= 0)])
    steps = np.where(new, 1.0, np.concatenate([[1.0], np.diff(second)]))
    return np.cumsum(steps), int(new.sum())
