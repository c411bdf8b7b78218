"""`coinfer traces`: list, info, convert, generate, fit, fit-subsecond, plot, fetch."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import TRACE_FILE, JsonOption
from coinfer.cli.trace_files import (
    ColumnOption,
    DirectionOption,
    FormatOption,
    IntervalOption,
    LeftOut,
    RateUnitOption,
    TimeColumnOption,
    TimeUnitOption,
    read_options,
    say_lines,
    say_notes,
)

if TYPE_CHECKING:
    from traces.formats import Reading

app = typer.Typer(help="Bandwidth traces: read, convert, generate, fetch.", no_args_is_help=True)
PathsArgument = Annotated[list[Path], typer.Argument(help="Files, folders or zip files.")]


@app.command("list")
def list_traces(json: JsonOption = False) -> None:
    """The families, their splits, and whether the real files are here."""
    from artefacts import data_directory
    from traces.library import FOLDERS, PARTS, read_split

    root = data_directory()
    rows = []
    for family, folder in FOLDERS.items():
        here = 0
        if root is not None and (root / "traces" / folder).is_dir():
            here = sum(1 for p in (root / "traces" / folder).iterdir() if p.is_file())
        split = "not split"
        if family in ("belgium", "norway"):
            known = read_split(family)
            split = " / ".join(str(len(getattr(known, part))) for part in PARTS)
        rows.append({"family": family, "real_files_here": here, "train/validation/test": split})
    if json:
        emit_json(rows)
        return
    print_table("trace families", list(rows[0]), [list(r.values()) for r in rows])


@app.command()
def info(
    paths: PathsArgument,
    format: FormatOption = None,
    time_unit: TimeUnitOption = None,
    rate_unit: RateUnitOption = None,
    column: ColumnOption = None,
    time_column: TimeColumnOption = None,
    interval: IntervalOption = None,
    direction: DirectionOption = None,
    json: JsonOption = False,
) -> None:
    """What was understood of trace files or folders, their statistics, and what is odd."""
    from traces.formats import read_all
    from traces.statistics import trace_statistics

    options = read_options(format, time_unit, rate_unit, column, time_column, interval, direction)
    left_out = LeftOut()
    readings = [r for path in paths for r in read_all(path, options, left_out.add)]
    rows = []
    for reading in readings:
        trace, s = reading.trace, trace_statistics([reading.trace])
        rows.append(
            {
                "trace": trace.name,
                "format": reading.understood.format,
                "duration_s": round(trace.duration_s, 3),
                "bytes": round(trace.total_bytes),
                "mean_mbps": round(s.mean, 4),
                "std_mbps": round(s.std, 4),
                "seconds_below_0.5_mbps": round(s.outage_runs * s.outage_mean_s, 3),
            }
        )
    understood = [_understood(reading) for reading in readings]
    if json:
        emit_json([row | known for row, known in zip(rows, understood, strict=True)])
    else:
        _print_info(rows, understood)
        say_lines([f"{r.trace.name}: {note}" for r in readings for note in r.notes])
    left_out.end()


def _print_info(rows: list[dict[str, object]], understood: list[dict[str, object]]) -> None:
    print_table("traces", list(rows[0]), [list(r.values()) for r in rows])
    shown = [key for key in understood[0] if key not in ("remarks", "warnings")]
    print_table(
        "what was understood",
        ["trace", *shown],
        [
            [row["trace"], *(known[key] for key in shown)]
            for row, known in zip(rows, understood, strict=True)
        ],
    )


def _understood(reading: Reading) -> dict[str, object]:
    """What `info` says beside the figures."""
    from traces.formats import oddities

    known = reading.understood
    return {
        "time": known.time,
        "rate": known.rate,
        "direction": known.direction,
        "layout": known.layout,
        "interval_s": known.interval_s,
        "gaps": known.gaps,
        "gap_s": known.gap_s,
        "repeats": known.repeats,
        "turned": known.turned,
        "remarks": list(known.remarks),
        "warnings": list(oddities(reading.trace)),
    }


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help=TRACE_FILE)],
    target: Annotated[Path, typer.Argument(help="Ends in .csv, or in .up/.down for Mahimahi.")],
    scale: Annotated[float, typer.Option(help="Factor on the rates.")] = 1.0,
    format: FormatOption = None,
    time_unit: TimeUnitOption = None,
    rate_unit: RateUnitOption = None,
    column: ColumnOption = None,
    time_column: TimeColumnOption = None,
    interval: IntervalOption = None,
    direction: DirectionOption = None,
) -> None:
    """Convert a trace of any format to CSV or Mahimahi."""
    from artefacts import UsageError
    from traces.formats import read, write_csv, write_mahimahi

    if target.suffix not in (".csv", ".up", ".down", ".mahimahi"):
        raise UsageError(f"target: found '{target}', expected a name in .csv, .up or .down")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"target: found '{target}', which is the source, expected another file")
    options = read_options(format, time_unit, rate_unit, column, time_column, interval, direction)
    reading = read(source, options)
    trace, known = reading.trace.scale(scale), reading.understood
    if target.suffix == ".csv":
        write_csv(target, trace, known.direction)
    else:
        write_mahimahi(target, trace)
    say_lines(
        [
            f"{source}: {known.format}; time: {known.time}; rate: {known.rate}; "
            f"direction: {known.direction}",
            *(f"{source}: {note}" for note in reading.notes),
            *_renamed_direction(target, known.direction),
            f"{target}: {trace.duration_s:.1f} s, {trace.total_bytes:.0f} bytes",
        ]
    )


def _renamed_direction(target: Path, direction: str) -> list[str]:
    """What to say where a Mahimahi file's suffix names the other direction."""
    from traces.formats.packets import DIRECTIONS

    named = DIRECTIONS.get(target.suffix, "not said")
    if "not said" in (named, direction) or named == direction:
        return []
    return [f"{target}: the suffix says {named}, the trace is of the {direction}"]


@app.command()
def generate(
    mode: Annotated[str, typer.Option(help="bus, car, foot, train, tram, bicycle, …")] = "bus",
    family: Annotated[str, typer.Option(help="belgium (4G) or norway (3G).")] = "belgium",
    seconds: Annotated[float, typer.Option(min=1.0, max=1e7, help="Length of the trace.")] = 600.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the trace.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    check: Annotated[bool, typer.Option(help="Hold generated hours against the targets.")] = False,
    hours: Annotated[float, typer.Option(min=1.0, help="Generated hours a mode.")] = 100.0,
    json: JsonOption = False,
) -> None:
    """Generate a trace by mode of transport, or show how well the generator fits."""
    import numpy as np

    from artefacts import UsageError
    from traces.fit import check_family
    from traces.formats import write_csv
    from traces.generator import generate as make
    from traces.generator import read_fit

    if check:
        rows = check_family(family, hours, seed)
        held = [r for r in rows if r.bound != "shown only"]
        if json:
            emit_json(rows)
            return
        print_table(
            f"{family}: {hours:g} generated hours a mode; "
            f"{sum(r.within for r in held)} of {len(held)} within their bounds",
            ["mode", "statistic", "target", "generated", "bound", "within"],
            [
                (r.mode, r.statistic, f"{r.target:.3f}", f"{r.generated:.3f}", r.bound,
                 "-" if r not in held else "yes" if r.within else "NO")
                for r in rows
            ],
        )  # fmt: skip
        return
    if out is None:
        raise UsageError("generate: found no --out, expected a CSV file to write (or --check)")
    if out.suffix != ".csv":
        raise UsageError(f"generate: found --out '{out}', expected a name in .csv")
    trace = make(read_fit(family), mode, seconds, np.random.default_rng(seed))
    write_csv(out, trace)
    console.print(
        f"{out}: {trace.duration_s:g} s of {family} {mode}, {trace.mean_bps / 1e6:.2f} Mbit/s"
    )


@app.command()
def fit(
    family: Annotated[str, typer.Argument(help="belgium or norway.")],
    logs: Annotated[Path | None, typer.Option(help="Folder of logs (norway).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the generated statistics.")] = 7,
) -> None:
    """Fit the generator anew and write the shipped fit: to the published table, or to logs."""
    from artefacts import UsageError, data_directory
    from traces.fit import refit
    from traces.formats import ReadOptions, read_traces
    from traces.library import FOLDERS, FORMATS, mode_of
    from traces.trace import BandwidthTrace

    by_mode: dict[str, list[BandwidthTrace]] = defaultdict(list)
    if family == "norway":
        root = data_directory()
        folder = logs or (root / "traces" / FOLDERS[family] if root else None)
        if folder is None:
            raise UsageError("fit norway: found no logs, expected --logs FOLDER or COINFER_DATA")
        for trace in read_traces(folder, ReadOptions(format=FORMATS[family])):
            by_mode[mode_of(family, trace.name)].append(trace)
    elif family != "belgium":
        raise UsageError(f"fit: found family '{family}', expected belgium or norway")
    made = refit(family, dict(by_mode), seed)
    console.print(f"{family}: fitted {', '.join(made.modes)} to {made.fitted_to}")


@app.command("fit-subsecond")
def fit_subsecond(
    source: Annotated[
        Path | None, typer.Option("--from", help="Packet-delivery files (the Mahimahi set's).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write (the shipped fit).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated seconds.")] = 7,
    json: JsonOption = False,
) -> None:
    """Fit the variation within seconds to packet-delivery traces; judge it on held-out halves."""
    from artefacts import UsageError, data_directory
    from traces.library import FOLDERS
    from traces.subsecond import SUBSECOND
    from traces.subsecond_fit import refit_subsecond

    root = data_directory()
    folder = source or (root / "traces" / FOLDERS["mahimahi"] if root else None)
    if folder is None:
        raise UsageError(
            "fit-subsecond: found no packet-delivery traces, expected --from FOLDER or COINFER_DATA"
        )
    given = f" --from {source}" if source else ""
    made_by = f"coinfer traces fit-subsecond{given} --seed {seed}"
    made = refit_subsecond(folder, out or SUBSECOND, seed, made_by, console.print)
    if json:
        emit_json(made.held_out)
        return
    print_table(
        f"fitted to first halves, laid over the seconds of second halves; "
        f"{sum(r.within for r in made.held_out)} of {len(made.held_out)} within their bounds",
        ["statistic", "first halves", "overlaid", "second halves", "bound", "within"],
        [
            (r.statistic, f"{r.first_halves:.3f}", f"{r.overlaid:.3f}", f"{r.second_halves:.3f}",
             f"{r.bound:.3f}", "yes" if r.within else "NO")
            for r in made.held_out
        ],
    )  # fmt: skip
    console.print(f"{out or SUBSECOND}: fitted to {made.seconds} s of {', '.join(made.fitted_to)}")


@app.command()
def plot(
    paths: PathsArgument,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("runs/traces.png"),
    format: FormatOption = None,
    time_unit: TimeUnitOption = None,
    rate_unit: RateUnitOption = None,
    column: ColumnOption = None,
    time_column: TimeColumnOption = None,
    interval: IntervalOption = None,
    direction: DirectionOption = None,
) -> None:
    """Draw traces over time."""
    from traces.library import read_set
    from traces.plots import plot_traces

    options = read_options(format, time_unit, rate_unit, column, time_column, interval, direction)
    left_out = LeftOut()
    read = read_set(paths, options, left_out.add)
    say_notes(read)
    plot_traces(read.traces, out)
    console.print(f"wrote {out}")
    left_out.end()


@app.command()
def fetch(
    family: Annotated[str, typer.Argument(help="belgium, norway, oboe or mahimahi.")],
    to: Annotated[Path, typer.Option(help="Data folder (holds traces/FAMILY).")] = Path("data"),
    verify_only: Annotated[bool, typer.Option(help="Only check files that are there.")] = False,
) -> None:
    """Fetch a public set, or check the files of one against their known digests."""
    from traces.fetch import fetch_family, verify_family

    if not verify_only:
        fetch_family(family, to, console.print)
    found = verify_family(family, to)
    console.print(
        f"{family}: {found.good} files as published, {len(found.missing)} missing, "
        f"{len(found.wrong)} with other bytes"
    )
    if found.wrong or found.missing:
        raise typer.Exit(2)
