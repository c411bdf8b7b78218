"""What a device has kept of its link, read back: bandwidth traces, and their split by time.

A device sees its link only through transfers. Where two of them lie close together the rate between
them is taken from both; where nothing was measured for longer, a trace ends and another begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError, read_bytes
from artefacts.arrays import Floats
from controller.daemon.records.entries import (
    FORMAT_VERSION,
    LINE_BYTES,
    Entry,
    KeptFrame,
    KeptMeasurement,
    RecordsHeader,
    decoded,
    plans_digest,
)
from controller.daemon.records.segments import MOST_SEGMENT_BYTES, segment_files
from controller.scenarios import Setting
from traces.library import TraceSet
from traces.trace import BandwidthTrace

GAP_S = 2.0
"""Nothing measured for longer: nobody knows what the link did, and the trace is cut."""
LEAST_S = 1e-5
"""A measurement over less time says nothing."""
SAME_S = 1e-6
"""Moments so close together are one."""
SILENT_S = 0.5
"""Times in which nothing of a transfer came are an outage where they sum up to this before anything
comes: for less, a slow link and an answer on its way look the same."""
APART_S = 60.0
"""Between two streams on one clock: nothing of the earlier is left to compute."""
SHORTEST_S = 10.0
"""A trace that is shorter tells nothing of how the bandwidth moves, and is left out."""
TRAIN, VALIDATION = 0.70, 0.15
"""Shares of the measured time, in its order; what comes last is held back."""
JUDGED_S = 60.0
"""Traces to choose and to judge on are cut into pieces of about this length."""


Segment = tuple[Path, RecordsHeader, list[Entry], int | None]
"""A segment's file, header and entries; the number of the line that is none (None: all are)."""


@dataclass(frozen=True)
class Stream:
    """What was kept of one unbroken stream. `torn`: its last line was cut off."""

    header: RecordsHeader
    frames: tuple[KeptFrame, ...]
    measurements: tuple[KeptMeasurement, ...]
    torn: bool


@dataclass(frozen=True)
class RecordedLink:
    """Traces of what was measured, in three parts by time; `held_back` is the newest."""

    train: TraceSet
    validation: TraceSet
    held_back: TraceSet


def read_streams(folder: Path) -> tuple[Stream, ...]:
    """Every stream in a folder of kept records, the oldest first.

    Refuses a folder without records. The last segment of a stream may be torn: a daemon that was
    killed has not ended it. Any other line that is none is refused.
    """
    if not folder.is_dir():
        raise ArtefactError(folder, found="no folder", expected="a folder of kept records")
    segments: dict[str, list[Segment]] = {}
    for path in segment_files(folder):
        read = _read_segment(path)
        if read is not None:
            segments.setdefault(read[1].stream, []).append(read)
    if not segments:
        raise ArtefactError(
            folder, found="no records (records-*.jsonl)",
            expected="what a daemon keeps where [records] names this folder",
        )  # fmt: skip
    return tuple(_stream(parts) for parts in segments.values())


def check_streams(folder: Path, streams: Sequence[Stream], setting: Setting) -> None:
    """Refuse records of another scenario, network or list of plans.

    Profiles may have been measured anew since: what a link did does not depend on them.
    """
    own = setting.scenario
    for stream in streams:
        header = stream.header
        if header.scenario != own.name:
            raise ArtefactError(
                folder, field="scenario", found=f"records of '{header.scenario}'",
                expected=f"those of '{own.name}' alone",
            )  # fmt: skip
        for field, found, expected in (
            ("scenario_digest", header.scenario_digest, own.digest),
            ("model_digest", header.model_digest, setting.model.digest),
            ("plans_digest", header.plans_digest, plans_digest(setting.table.plans)),
        ):
            if found != expected:
                raise ArtefactError(
                    folder, field=field, found=f"records with {found[:12]}",
                    expected=f"{expected[:12]} (the scenario as it is)",
                )  # fmt: skip


def _read_segment(path: Path) -> Segment | None:
    """A segment; None of one whose header was never whole."""
    lines = read_bytes(path, MOST_SEGMENT_BYTES + LINE_BYTES).split(b"\n")
    torn = len(lines) + 1 if lines.pop() else None  # a whole line ends
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(decoded(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            torn = number
            break
    if not entries:
        if not lines or not lines[0].strip(b"\0"):
            return None
        raise ArtefactError(
            path, line=1, found=f"no header of format {FORMAT_VERSION}{_version(lines[0])}",
            expected="records that this version of coinfer has kept",
        )  # fmt: skip
    header, *rest = entries
    if not isinstance(header, RecordsHeader) or any(isinstance(e, RecordsHeader) for e in rest):
        raise ArtefactError(
            path, line=1, found="another order of lines", expected="one header, then records"
        )
    if header.format_version != FORMAT_VERSION:
        raise ArtefactError(
            path, field="format_version", found=str(header.format_version),
            expected=str(FORMAT_VERSION),
        )  # fmt: skip
    return path, header, rest, torn


def _version(line: bytes) -> str:
    """Of a first line of another form: the version that it says, for a message."""
    try:
        plain = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    version = plain.get("format_version") if isinstance(plain, dict) else None
    return f", but of {version}" if isinstance(version, int) else ""


def _stream(parts: list[Segment]) -> Stream:
    parts = sorted(parts, key=lambda part: part[1].number)
    for path, _, _, torn in parts[:-1]:
        if torn is not None:
            raise ArtefactError(
                path, line=torn, found="no record",
                expected="a frame or a measurement (only the last segment may be torn)",
            )  # fmt: skip
    entries = [entry for part in parts for entry in part[2]]
    return Stream(
        parts[0][1],
        tuple(e for e in entries if isinstance(e, KeptFrame)),
        tuple(e for e in entries if isinstance(e, KeptMeasurement)),
        parts[-1][3] is not None,
    )


def measured_traces(
    streams: Sequence[Stream], shortest_s: float = SHORTEST_S
) -> tuple[BandwidthTrace, ...]:
    """What the link did wherever it was measured for `shortest_s` or longer, in order of time."""
    return tuple(
        trace
        for k, stream in enumerate(streams)
        for trace in _traces(f"records-{k + 1}", stream.measurements, shortest_s)
    )


def _traces(
    name: str, measurements: Sequence[KeptMeasurement], shortest_s: float
) -> list[BandwidthTrace]:
    edges, rates = _pieces(measurements)
    found: list[BandwidthTrace] = []
    lengths: list[float] = []
    held: list[float] = []

    def cut() -> None:
        if lengths and sum(lengths) >= shortest_s:
            found.append(BandwidthTrace.from_intervals(f"{name}-{len(found) + 1}", lengths, held))
        lengths.clear()
        held.clear()

    known = np.flatnonzero(np.isfinite(rates))
    if not len(known):
        return found
    for before, k in zip([-1, *known[:-1].tolist()], known.tolist(), strict=True):
        gap_s = float(edges[k] - edges[before + 1])
        if before < 0 or gap_s > GAP_S:
            cut()
        elif gap_s > 0:  # half of it is like what came before, half like what comes next
            lengths += [gap_s / 2, gap_s / 2]
            held += [float(rates[before]), float(rates[k])]
        lengths.append(float(edges[k + 1] - edges[k]))
        held.append(float(rates[k]))
    cut()
    return found


def _pieces(measurements: Sequence[KeptMeasurement]) -> tuple[Floats, Floats]:
    """Edges (N + 1,) in seconds, and the rate (N,) between two of them, NaN where nobody measured.

    What arrived says most: a transfer owns its time against those that were known later. That
    nothing of one came counts where nothing else was measured, and for `SILENT_S` at least.
    """
    usable = [m for m in measurements if m.duration_s >= LEAST_S and m.payload_bytes >= 0]
    if not usable:
        return np.zeros(1), np.zeros(0)
    known = np.array([m.known_s for m in usable])
    begun = known - np.array([m.duration_s for m in usable])
    rates = 8.0 * np.array([m.payload_bytes for m in usable]) / (known - begun)
    edges = np.unique(np.concatenate([begun, known]))
    edges = edges[np.concatenate([[True], np.diff(edges) > SAME_S])]
    found = np.full(len(edges) - 1, np.nan)
    first = np.searchsorted(edges, begun + SAME_S, side="right") - 1
    last = np.maximum(np.searchsorted(edges, known - SAME_S, side="left"), first + 1)
    # the last word has who is written last: nothing at all first, then from the newest back
    order = np.lexsort((-known, rates > 0))
    for k in order.tolist():
        found[first[k] : last[k]] = rates[k]
    return edges, _without_short_silence(edges, found)


def _without_short_silence(edges: Floats, rates: Floats) -> Floats:
    """Rates where silences of less than `SILENT_S` between two transfers are not known at all."""
    arrived = np.flatnonzero(rates > 0)
    # stretches before, between and behind pieces in which something arrived
    begins = np.concatenate([[0], arrived + 1])
    ends = np.concatenate([arrived, [len(rates)]])
    silent = np.concatenate([[0.0], np.cumsum(np.where(rates == 0, np.diff(edges), 0.0))])
    kept = rates.copy()
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if silent[end] - silent[begin] < SILENT_S:
            kept[begin:end] = np.nan
    return kept


def frames_between(streams: Sequence[Stream], begin: float, end: float) -> tuple[KeptFrame, ...]:
    """The frames of all streams as they arrived, from the share `begin` to the share `end` of them.

    Streams follow one another on one clock, `APART_S` apart: each had its own.
    """
    frames: list[KeptFrame] = []
    for stream in streams:
        own = sorted(stream.frames, key=lambda frame: frame.arrival_s)
        shift_s = frames[-1].arrival_s + APART_S - own[0].arrival_s if frames and own else 0.0
        frames += [
            msgspec.structs.replace(frame, arrival_s=frame.arrival_s + shift_s) for frame in own
        ]
    return tuple(frames[int(begin * len(frames)) : int(end * len(frames))])


def split_by_time(traces: Sequence[BandwidthTrace], source: str) -> RecordedLink:
    """The first 70 % of the measured time to learn from, 15 % to choose on, the rest to judge."""
    total = sum(trace.duration_s for trace in traces)
    cuts = (0.0, TRAIN * total, (TRAIN + VALIDATION) * total, total)
    parts = [between(traces, *pair) for pair in itertools.pairwise(cuts)]
    names = ("learnt from", "to choose on", "held back")
    for what, part in zip(names, parts, strict=True):
        if not part:
            raise UsageError(
                f"records: found {total:.0f} s measured in {len(traces)} pieces, of which none of "
                f"{SHORTEST_S:g} s is {what}, expected more"
            )
    judged = [[piece for trace in part for piece in _cut(trace)] for part in parts[1:]]
    return RecordedLink(
        TraceSet(tuple(parts[0]), False, source),
        *(TraceSet(tuple(part), False, source) for part in judged),
    )


def between(traces: Sequence[BandwidthTrace], begin_s: float, end_s: float) -> list[BandwidthTrace]:
    """What lies in [begin, end) of all traces laid end to end, short rests left out."""
    found, offset_s = [], 0.0
    for trace in traces:
        start = min(max(begin_s - offset_s, 0.0), trace.duration_s)
        stop = min(max(end_s - offset_s, 0.0), trace.duration_s)
        if stop - start >= SHORTEST_S:
            found.append(trace.slice(start, stop))
        offset_s += trace.duration_s
    return found


def _cut(trace: BandwidthTrace) -> list[BandwidthTrace]:
    """Pieces of equal length, about `JUDGED_S`."""
    count = max(round(trace.duration_s / JUDGED_S), 1)
    edges = np.linspace(0.0, trace.duration_s, count + 1).tolist()
    return [
        BandwidthTrace(f"{trace.name}.{k + 1}", piece.times_s, piece.rates_bps, piece.duration_s)
        for k, (start, stop) in enumerate(itertools.pairwise(edges))
        for piece in [trace.slice(start, stop)]
    ]
