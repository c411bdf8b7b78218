"""Named families of traces, their fixed splits by file, and the stand-ins where files are absent.

A split is fixed once, by file, and shipped; a policy is trained on 'train', choices are made on
'validation', and 'test' is for reported figures.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError, data_directory, read_json
from traces.formats import (
    NO_OPTIONS,
    Reading,
    ReadOptions,
    read,
    read_all,
    read_packets,
    read_trace,
)
from traces.generator import generate, read_fit
from traces.trace import BandwidthTrace

FORMAT_VERSION = 1
PARTS = ("train", "validation", "test")
FOLDERS = {
    "belgium": "belgium_4g",
    "norway": "norway_hsdpa",
    "oboe": "oboe",
    "mahimahi": "mahimahi",
}
FORMATS = {
    "belgium": "throughput-log",
    "norway": "throughput-log",
    "oboe": "oboe",
    "mahimahi": "mahimahi",
}
"""Of the families' published files: who knows the family does not guess."""
SPLITS = Path(__file__).parent / "splits"

DIRECTIONS = ("uplink", "downlink")
EXACT_PACKETS_S = 4 * 3600.0
"""A longer file of packets keeps its pieces of 100 ms: milliseconds would fill the memory."""


class SplitFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a split: its name, mode of transport and duration."""

    file: str
    """Its name."""
    mode: str
    """Of transport."""
    duration_s: float
    """How long it is."""


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A family's split by file."""

    format_version: int
    family: str
    """Whose logs."""
    seed: int
    """The split was drawn with."""
    train: tuple[SplitFile, ...]
    """For training."""
    validation: tuple[SplitFile, ...]
    """For choices."""
    test: tuple[SplitFile, ...]
    """For figures."""


@dataclass(frozen=True, slots=True)
class TraceSet:
    """Traces of one part, and whether they are the real logs or generated stand-ins.

    `notes` are what reading other people's files showed, each with its file.
    """

    traces: tuple[BandwidthTrace, ...]
    generated: bool
    source: str
    notes: tuple[str, ...] = ()


def mode_of(family: str, file: str) -> str:
    """Mode of transport, from a published file name."""
    if family == "belgium":
        return file.split("_")[1]
    return file.split(".")[0]


def read_split(family: str) -> Split:
    """The shipped split of 'belgium' or 'norway'."""
    path = SPLITS / f"{family}.json"
    if not path.exists():
        raise UsageError(f"trace split: found family '{family}', expected belgium or norway")
    return read_json(path, Split, version=FORMAT_VERSION)


def load_split(family: str, part: str) -> TraceSet:
    """The traces of one part: the real logs, or generated stand-ins of the same modes and lengths.

    A stand-in's randomness comes from the file's name alone: every machine makes the same ones.
    """
    if part not in PARTS:
        raise UsageError(f"trace split: found part '{part}', expected one of {', '.join(PARTS)}")
    files: tuple[SplitFile, ...] = getattr(read_split(family), part)
    root = data_directory()
    folder = None if root is None else root / "traces" / FOLDERS[family]
    if folder is not None and all((folder / f.file).exists() for f in files):
        known = ReadOptions(format=FORMATS[family])
        traces = tuple(read_trace(folder / f.file, known) for f in files)
        return TraceSet(traces, False, f"real {family} logs ({part} split)")
    fit = read_fit(family)
    made = tuple(
        generate(
            fit,
            f.mode,
            f.duration_s,
            np.random.default_rng(zlib.crc32(f"{family}/{f.file}".encode())),
            name=f"{Path(f.file).stem}.generated",
        )
        for f in files
    )
    return TraceSet(made, True, f"generated stand-ins for the {family} logs ({part} split)")


def read_set(
    paths: Sequence[Path | str],
    options: ReadOptions = NO_OPTIONS,
    refused: Callable[[ArtefactError], None] | None = None,
) -> TraceSet:
    """The traces of files and folders, which a scenario uses as its uplink.

    Of files with both directions the uplink is taken; `source` and `notes` say so. `refused` is as
    of `read_all`: it is given what of a folder cannot be read.
    """
    readings = [r for path in paths for r in read_all(path, options, refused)]
    notes = [f"{r.trace.name}: {note}" for r in readings for note in r.notes]
    source = ", ".join(map(str, paths)) + _directions(readings)
    return TraceSet(tuple(r.trace for r in readings), False, source, tuple(notes))


def read_opportunities(
    path: Path | str, options: ReadOptions = NO_OPTIONS, *, down: bool = False
) -> Reading:
    """A file's trace for a link that carries packets: one of packets to the millisecond.

    With `down` the downlink is taken of a file that has both directions, unless `options` say.
    """
    reading = read(path, options)
    if down and options.direction is None and reading.understood.direction == "uplink":
        with contextlib.suppress(UsageError):  # the file has no other
            reading = read(path, replace(options, direction="downlink"))
    is_packets = reading.understood.format == FORMATS["mahimahi"]
    if is_packets and reading.trace.duration_s <= EXACT_PACKETS_S:
        reading = replace(reading, trace=read_packets(path, step_ms=1))
    if not reading.trace.total_bytes:
        raise ArtefactError(path, found="a trace that lets nothing pass", expected="one that does")
    return reading


def _directions(readings: Sequence[Reading]) -> str:
    """Which directions the traces were recorded in, where their files say it."""
    count = {d: sum(r.understood.direction == d for r in readings) for d in DIRECTIONS}
    said = [f"{number} {direction}" for direction, number in count.items() if number]
    return f" (recorded: {', '.join(said)}; used as the uplink)" if said else ""
