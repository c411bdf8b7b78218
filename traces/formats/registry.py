"""All formats of trace files, in the order in which they are tried; the first that claims reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from artefacts import ArtefactError, UsageError
from traces.formats.bare import OBOE, PENSIEVE, NamedPair, RateColumn, TwoColumns, ValueUnit
from traces.formats.iperf import IperfJson, IperfText
from traces.formats.logs import ThroughputLog
from traces.formats.lumos import Lumos5G
from traces.formats.own_csv import OwnCsv
from traces.formats.packets import Mahimahi
from traces.formats.reading import NO_OPTIONS, OPTION_NAMES, Format, Reading, ReadOptions
from traces.formats.source import Source, load, load_all, shown
from traces.formats.tables import DriveTest, HeaderTable
from traces.formats.unpacking import PACKED, SUFFIXES, is_trace_name
from traces.trace import BandwidthTrace

FORMATS: tuple[Format, ...] = (
    IperfJson(),
    IperfText(),
    ValueUnit(),
    OwnCsv(),
    Lumos5G(),
    DriveTest(),
    HeaderTable(),
    ThroughputLog(),
    Mahimahi(),
    RateColumn(),
    NamedPair("oboe", "two columns, ms and kbit/s (Oboe)", OBOE),
    NamedPair("pensieve", "two columns, seconds and Mbit/s (Pensieve)", PENSIEVE),
    TwoColumns(),
)


_BEGINS_WITH_NUMBER = re.compile(r"[-+.\"']?\d")


def named_format(name: str) -> Format:
    """The format of a name, as `--format` takes it."""
    for known in FORMATS:
        if known.name == name:
            return known
    raise UsageError(
        f"--format: found '{name}', expected one of {', '.join(f.name for f in FORMATS)}"
    )


def read(path: str | Path, options: ReadOptions = NO_OPTIONS) -> Reading:
    """A trace and what was understood; raises `ArtefactError`, or `TraceQuestion` to choose by."""
    return _read(load(path), options)


def _read(source: Source, options: ReadOptions) -> Reading:
    # a tiny interval overflows to an infinite rate, which is refused in words
    with np.errstate(all="ignore"):
        chosen = _chosen(source, options)
        unused = [OPTION_NAMES[o] for o in options.given if o not in chosen.options]
        if unused:
            raise UsageError(
                f"{source.path}: found {', '.join(unused)}, expected none: files of format "
                f"'{chosen.name}' say it themselves"
            )
        reading = chosen.read(source, options)
    return reading if not source.remarks else reading.with_remarks(source.remarks)


def _chosen(source: Source, options: ReadOptions) -> Format:
    if options.format is not None:
        chosen = named_format(options.format)
        if source.is_report and not isinstance(chosen, IperfJson):
            raise source.error(chosen.title, source.head[0][0], "an object in JSON")
        return chosen
    for known in FORMATS:
        if known.claims(source, options):
            return known
    number, line = source.head[0]
    kind = ArtefactError if any(_BEGINS_WITH_NUMBER.match(row) for _, row in source.head) else Prose
    raise kind(
        source.path,
        line=number,
        found=shown(line),
        expected="bare numbers, or a header that names a rate (formats: "
        f"{', '.join(known.name for known in FORMATS)}; see docs/reference/traces.md)",
    )


def read_trace(path: str | Path, options: ReadOptions = NO_OPTIONS) -> BandwidthTrace:
    """Read one trace file, recognising its format."""
    return read(path, options).trace


def read_all(
    path: str | Path,
    options: ReadOptions = NO_OPTIONS,
    refused: Callable[[ArtefactError], None] | None = None,
) -> list[Reading]:
    """One file, or every trace of a folder or zip file, each with what was understood of it.

    The first file that cannot be read raises its `ArtefactError`. Where `refused` is given it is
    given the errors instead, and the other files are read; one at least must be a trace.
    """
    found, errors = [], []
    for file in trace_files(path):
        for source in load_all(file):
            try:
                if isinstance(source, ArtefactError):
                    raise source
                found.append(_read(source, options))
            except ArtefactError as error:
                if refused is None:
                    raise
                errors.append(error)
    if errors and not found:
        raise errors[0]
    if refused is not None:
        for one in errors:
            refused(one)
    return found


class Prose(ArtefactError):
    """A file of words: no line of its head begins with a number, and no format claims it."""


def is_passed_over(error: ArtefactError) -> bool:
    """Whether what `read_all` could not read of a folder is a note beside the traces, and no loss.

    Such a file has no suffix that promises a trace, and words in the place of numbers.
    """
    return isinstance(error, Prose) and not error.path.suffix


def read_traces(path: str | Path, options: ReadOptions = NO_OPTIONS) -> list[BandwidthTrace]:
    """One file's trace, or every trace of a folder or zip file."""
    return [reading.trace for reading in read_all(path, options)]


def trace_files(path: str | Path) -> list[Path]:
    """The file itself, or a folder's trace files (sorted by name, sub-folders included)."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    named = sorted(p for p in path.rglob("*") if is_trace_name(p.relative_to(path)))
    files = [p for p in named if not p.is_dir()]
    odd = next((p for p in files if p.exists() and not p.is_file()), None)
    if odd is not None:
        raise ArtefactError(
            odd, found="a pipe, device or socket in a folder of traces", expected="a file"
        )
    if not files:
        packed = " or ".join(PACKED)
        raise ArtefactError(
            path,
            found="no trace files",
            expected=f"files ending in {', '.join(SUFFIXES)} or nothing (or these with {packed})",
        )
    return files


def format_of(path: str | Path, options: ReadOptions = NO_OPTIONS) -> str:
    """Name of a file's format."""
    source = load(path)
    with np.errstate(all="ignore"):
        return _chosen(source, options).name
