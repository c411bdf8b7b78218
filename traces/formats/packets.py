"""Packet-delivery files (Mahimahi): each line the ms at which one 1500-byte packet may pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from artefacts import ArtefactError, atomic_write
from artefacts.arrays import Floats
from traces.formats.numbers import bare_columns, bare_numbers, falls_throughout, first_fall, line_of
from traces.formats.reading import Direction, Reading, ReadOptions, checked_trace
from traces.formats.series import TURNED, facts_of
from traces.formats.source import Source, load
from traces.trace import BandwidthTrace

PACKET_BYTES = 1500
"""What one line lets pass."""
MAHIMAHI_STEP_MS = 100
"""Width of the pieces a packet-delivery trace is read into."""
LONGEST_MS = 1e8
"""Of such a trace, whose pieces are counted out: a stray stamp must not fill the memory."""
WHAT = "one whole number of milliseconds that does not fall, 1e8 (a day) at most"
NAMED = (".up", ".down", ".mahimahi")
"""Suffixes that these files have in Mahimahi's own sets."""
LEAST_PACKETS = 100
LEAST_MOMENTS = 20
LEAST_TOGETHER = 0.1
"""Lines, different ms among them, and share of lines with the ms of the line above, from which
a column without such a suffix is one of packets: a ramp of rates has not so many."""
DIRECTIONS: dict[str, Direction] = {".up": "uplink", ".down": "downlink"}


class Mahimahi:
    """One column of whole milliseconds that do not fall."""

    name = "mahimahi"
    title = "one column of whole ms (Mahimahi)"
    options = frozenset[str]()

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Whole numbers that rise, or that fall throughout, one a line."""
        if bare_columns(source) != 1 or options.given:
            return False
        try:
            stamps = bare_numbers(source, 1, WHAT)[:, 0]
        except ArtefactError:
            return True  # whichever line is wrong, reading it says so
        # rates that never fall look like packets: the name or the form must say it
        return may_be_packets(stamps) and (_suffix(source) in NAMED or _are_packets(stamps))

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Packets counted in pieces of `MAHIMAHI_STEP_MS`."""
        reading = _read(source, MAHIMAHI_STEP_MS)
        if options.format is not None or _suffix(source) in NAMED:
            return reading
        return reading.with_remarks(
            ("the file's form is taken as the ms of packets (rates: --interval, --rate-unit)",)
        )


def _are_packets(column: Floats) -> bool:
    """Whether lines are so many, and so many of one ms, as packets are and rates are not."""
    moves = np.count_nonzero(np.diff(column))
    together = len(column) - 1 - moves
    return bool(
        len(column) >= LEAST_PACKETS
        and moves + 1 >= LEAST_MOMENTS
        and together >= LEAST_TOGETHER * len(column)
    )


def may_be_packets(column: Floats) -> bool:
    """Whether numbers are whole ms that do not fall (or fall throughout)."""
    whole = np.all(column == np.floor(column)) and np.all(column >= 0)
    return bool(whole) and (first_fall(column) is None or falls_throughout(column))


def _suffix(source: Source) -> str:
    return Path(source.name).suffix.lower()


def _read(source: Source, step_ms: int) -> Reading:
    stamps, turned = _stamps(source)
    trace = _pieces(source, stamps, step_ms)
    direction = DIRECTIONS.get(_suffix(source), "not said")
    facts = facts_of(
        Mahimahi.name,
        "column 1, ms of a packet",
        f"packets of {PACKET_BYTES} bytes, counted in {step_ms} ms",
        direction,
        *((TURNED,) if turned else ()),
    )
    return Reading(trace, replace(facts, interval_s=step_ms / 1000.0, turned=turned))


def _stamps(source: Source) -> tuple[Floats, bool]:
    stamps = bare_numbers(source, 1, WHAT)[:, 0]
    turned = falls_throughout(stamps)
    if turned:
        stamps = stamps[::-1]
    bad = (stamps < 0) | (stamps != np.floor(stamps)) | (stamps > LONGEST_MS)
    bad[1:] |= np.diff(stamps) < 0
    if np.any(bad):
        row = int(np.flatnonzero(bad)[0])
        raise source.error(WHAT, line_of(source, len(stamps) - 1 - row if turned else row))
    return stamps, turned


def _pieces(source: Source, stamps: Floats, step_ms: int) -> BandwidthTrace:
    last = max(int(stamps[-1]), 1)
    # the trace repeats after its last stamp, whose packet passes at the very end of the lap
    piece = np.minimum(stamps.astype(np.int64), last - 1) // step_ms
    count = -(-last // step_ms)
    packets = np.bincount(piece, minlength=count)
    edges = np.minimum(np.arange(count + 1) * step_ms, last) / 1000.0
    rates = 8.0 * PACKET_BYTES * packets / np.diff(edges)
    return checked_trace(source.path, source.name, edges[:-1], rates, float(edges[-1]))


def read_packets(path: str | Path, step_ms: int) -> BandwidthTrace:
    """A packet-delivery (Mahimahi) file on pieces of `step_ms`."""
    source = load(path)
    if source.is_report or bare_columns(source) != 1:
        raise source.error("a packet-delivery (Mahimahi) trace", source.head[0][0])
    return _read(source, step_ms).trace


def write_mahimahi(path: str | Path, trace: BandwidthTrace) -> None:
    """Write packet-delivery opportunities; bytes are kept to within one packet.

    The duration is kept to the millisecond only where a packet falls into the last one: Mahimahi
    itself ends a lap at its last packet.
    """
    packets = int(trace.total_bytes // PACKET_BYTES)
    if packets == 0:
        raise ArtefactError(
            path, found=f"{trace.total_bytes:.0f} bytes", expected="at least one 1500-byte packet"
        )
    sizes = PACKET_BYTES * np.arange(1, packets + 1, dtype=np.float64)
    ends = trace.transfer_end(np.zeros(packets), np.minimum(sizes, trace.total_bytes), "stop")
    stamps = np.ceil(np.minimum(ends, trace.duration_s) * 1000.0 - 1e-6).astype(np.int64)
    with atomic_write(path) as stream:
        stream.writelines(f"{stamp}\n" for stamp in stamps)
