"""`coinfer link`: any command behind a link like a cell's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artefacts import UsageError
from coinfer.cli.console import console
from coinfer.cli.quantities import LATENCY_UNITS, MEMORY_UNITS, quantity
from coinfer.cli.trace_files import (
    ColumnOption,
    DirectionOption,
    FormatOption,
    IntervalOption,
    RateUnitOption,
    TimeColumnOption,
    TimeUnitOption,
    read_options,
    say_lines,
)

if TYPE_CHECKING:
    from experiments.replay.cell.carried import Carried, CellLink
    from experiments.replay.cell.orders import DirectionCounts
    from traces.formats import ReadOptions
    from traces.trace import BandwidthTrace


def link(
    command: Annotated[list[str], typer.Argument(help="What to run, after '--'.")],
    trace: Annotated[Path, typer.Option(help="What the link carries up: any known format.")],
    down: Annotated[
        Path | None,
        typer.Option(help="What it carries down (--trace both ways), a downlink if there is one."),
    ] = None,
    rtt: Annotated[str, typer.Option(help="Round trip of the idle link.")] = "40ms",
    queue: Annotated[
        str, typer.Option(help="Of each direction, in bytes (90kB) or time at the mean rate.")
    ] = "300ms",
    loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of packets lost, each way.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is lost.")] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Nothing passes after the trace's end (it repeats).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but what is wrong.")] = False,
    format: FormatOption = None,
    time_unit: TimeUnitOption = None,
    rate_unit: RateUnitOption = None,
    column: ColumnOption = None,
    time_column: TimeColumnOption = None,
    interval: IntervalOption = None,
    direction: DirectionOption = None,
) -> None:
    """Run any command behind a link that follows a trace, packet by packet.

    Behind the link this machine is 100.64.0.1, its loopback included (COINFER_LINK_HOST).
    """
    from experiments.replay.cell.behind import check_command, run_behind
    from experiments.replay.cell.carried import CellLink

    check_command(command)
    options = read_options(format, time_unit, rate_unit, column, time_column, interval, direction)
    queue_s, queue_bytes = _queue(queue)
    asked = CellLink(
        _trace(trace, options, quiet),
        None if down is None else _trace(down, options, quiet, down=True),
        quantity("--rtt", rtt, LATENCY_UNITS, zero=True) or 0.0,
        queue_s, queue_bytes, loss, seed, "stop" if once else "wrap",
    )  # fmt: skip

    def say(made: Carried) -> None:
        if not quiet:
            _say_link(asked, made)

    code, report = run_behind(asked, command, say)
    if report is not None and not quiet:
        console.print(f"link: {_counts('up', report.up)}; {_counts('down', report.down)}")
    raise typer.Exit(code)


def _queue(text: str) -> tuple[float, int | None]:
    """A queue's seconds, or its bytes."""
    from experiments.replay.cell.opportunities import PACKET_BYTES

    found = quantity("--queue", text, LATENCY_UNITS | MEMORY_UNITS)
    if found is None:
        raise UsageError("--queue: found nothing, expected bytes (90kB) or time (60ms)")
    if text.endswith(tuple(LATENCY_UNITS)):
        return found, None
    if found < PACKET_BYTES:
        raise UsageError(f"--queue: found '{text}', expected a packet ({PACKET_BYTES}B) or more")
    return 0.0, round(found)


def _trace(path: Path, options: ReadOptions, quiet: bool, *, down: bool = False) -> BandwidthTrace:
    from traces.library import read_opportunities

    reading = read_opportunities(path, options, down=down)
    if not quiet:
        say_lines([f"traces: {reading.trace.name}: {note}" for note in reading.notes])
    return reading.trace


def _say_link(asked: CellLink, made: Carried) -> None:
    from controller.link.addresses import LINK_HOST

    ways = {"up": asked.up, "down": asked.down or asked.up}
    said = [
        f"{way} {trace.name}, {trace.mean_bps / 1e6:.3g} Mbit/s in the mean, "
        f"a queue of {asked.queue_of(trace):,} bytes"
        for way, trace in ways.items()
    ]
    console.print(
        f"link: {'; '.join(said)}; round trip {1e3 * asked.rtt_s:g} ms; TCP by "
        f"{made.ready.congestion_control}; this machine is {LINK_HOST}"
    )


def _counts(way: str, counts: DirectionCounts) -> str:
    return (
        f"{way} {counts.delivered_bytes:,} bytes in {counts.delivered:,} packets "
        f"({counts.dropped:,} dropped at the queue, {counts.lost:,} lost)"
    )
