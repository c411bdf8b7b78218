"""Trace files as commands take them: the options that say what a file leaves open, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console

if TYPE_CHECKING:
    from traces.formats import ReadOptions
    from traces.library import TraceSet
    from traces.trace import BandwidthTrace

MOST_NOTES = 30

FormatOption = Annotated[
    str | None, typer.Option("--format", help="Name of the format (see docs/reference/traces.md).")
]
TimeUnitOption = Annotated[
    str | None, typer.Option("--time-unit", help="s, ms, us, ns or min, where the file is silent.")
]
RateUnitOption = Annotated[
    str | None,
    typer.Option(
        "--rate-unit",
        help="bit/s, kbit/s, Mbit/s, B/s, kB/s, MB/s, bytes (a row) or total-bytes (a counter).",
    ),
]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="Name of the rate's column, in a header.")
]
TimeColumnOption = Annotated[
    str | None, typer.Option("--time-column", help="Name of the time's column, in a header.")
]
IntervalOption = Annotated[
    float | None, typer.Option("--interval", help="Seconds a row, in files without times.")
]
DirectionOption = Annotated[
    str | None,
    typer.Option("--direction", help="uplink (taken where both are there) or downlink."),
]


def read_options(
    format: str | None,
    time_unit: str | None,
    rate_unit: str | None,
    column: str | None,
    time_column: str | None,
    interval: float | None,
    direction: str | None,
) -> ReadOptions:
    """What the options say; what cannot be meant is refused."""
    from traces.formats import ReadOptions

    return ReadOptions(format, time_unit, rate_unit, column, time_column, interval, direction)


def one_trace(path: Path) -> BandwidthTrace:
    """A file's trace, as `coinfer traces info` reads it; what is odd is said."""
    from traces.library import read_set

    read = read_set([path])
    say_notes(read)
    if len(read.traces) != 1:
        from artefacts import UsageError

        raise UsageError(f"trace: found {len(read.traces)} in '{path}', expected one file")
    return read.traces[0]


def say_notes(traces: TraceSet) -> None:
    """What reading showed, on standard error."""
    say_lines([f"traces: {note}" for note in traces.notes])


def say_lines(lines: Sequence[str]) -> None:
    """Lines as they are, without markup; of very many the first."""
    for line in lines[:MOST_NOTES]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(lines) > MOST_NOTES:
        console.print(f"… and {len(lines) - MOST_NOTES} more (coinfer traces info)", markup=False)
