"""Trace files as commands take them: the options that say what a file leaves open, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console

if TYPE_CHECKING:
    from artefacts import ArtefactError
    from controller.scenarios import Setting
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

OwnScaleOption = Annotated[
    float | None,
    typer.Option("--scale", min=1e-6, help="Factor on the rates of your traces (the scenario's)."),
]


@dataclass
class LeftOut:
    """Files of folders that cannot be read: each is named, the others count.

    The command goes on without them; its exit code says at the end that something was left out.
    """

    count: int = 0

    def add(self, error: ArtefactError) -> None:
        """One more, said on standard error; a note among the traces is said, and is no loss."""
        from traces.formats import is_passed_over

        if is_passed_over(error):
            say_lines([f"{error.path}: passed over, it holds words in the place of numbers"])
            return
        self.count += 1
        say_lines([f"left out: {error}"])

    def end(self) -> None:
        """End the command with exit code 2, where files were left out."""
        if self.count:
            files = "1 file was" if self.count == 1 else f"{self.count} files were"
            say_lines([f"{files} left out: the exit code is 2"])
            raise typer.Exit(2)


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

    if path.is_dir():
        from artefacts import UsageError

        raise UsageError(f"trace: found the folder '{path}', expected one file")
    read = read_set([path])
    say_notes(read)
    if len(read.traces) != 1:
        from artefacts import UsageError

        raise UsageError(f"trace: found {len(read.traces)} in '{path}', expected one file")
    return read.traces[0]


def own_traces(
    setting: Setting, paths: Sequence[Path], scale: float | None, left_out: LeftOut
) -> TraceSet:
    """A user's traces at `scale` times their rates, or at the scenario's factor; which is said."""
    from traces.library import read_set

    read = read_set(paths, refused=left_out.add)
    say_notes(read)
    factor = scale_of(setting, scale)
    return replace(read, traces=tuple(trace.scale(factor) for trace in read.traces))


def scale_of(setting: Setting, scale: float | None) -> float:
    """The factor on the rates of a user's traces; said where it is not 1."""
    name, own = setting.scenario.name, setting.scenario.traces.scale
    factor = own if scale is None else scale
    if scale is None and own != 1.0:
        say_lines(
            [f"traces: rates x {own:g}, the factor of scenario '{name}' (--scale 1: as they are)"]
        )
    elif factor != 1.0:
        say_lines([f"traces: rates x {factor:g}"])
    return factor


def say_notes(traces: TraceSet) -> None:
    """What reading showed, on standard error."""
    say_lines([f"traces: {note}" for note in traces.notes])


def say_lines(lines: Sequence[str]) -> None:
    """Lines as they are, without markup; of very many the first."""
    for line in lines[:MOST_NOTES]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(lines) > MOST_NOTES:
        console.print(f"… and {len(lines) - MOST_NOTES} more (coinfer traces info)", markup=False)
