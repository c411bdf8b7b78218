"""Readers that recognise the public trace formats, and writers for CSV and Mahimahi.

A malformed line is refused with its file, number, what was found and what was expected. Readers
conserve bytes: what a log counted is what the trace delivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from artefacts import ArtefactError, atomic_write
from traces.trace import BandwidthTrace

PACKET_BYTES = 1500
"""What one Mahimahi line lets pass."""
MAHIMAHI_STEP_MS = 100
"""Width of the pieces a packet-delivery trace is read into."""
LONGEST_MS = 1e8
"""Of such a trace, whose pieces are counted out: a stray stamp must not fill the memory."""
OBOE_LAST_CHUNK_MS = 1000.0
CSV_HEADER = "time_s,rate_bps"
SUFFIXES = (".log", ".txt", ".csv", ".up", ".down", ".trace")
MAX_RATE_BPS = 1e12

Row = tuple[int, str]


def read_trace(path: str | Path) -> BandwidthTrace:
    """Read one trace file, recognising its format from its first line."""
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise ArtefactError(path, found="an empty file", expected="a bandwidth trace")
    return _reader(path, rows[0])(path, rows)


def read_traces(path: str | Path) -> list[BandwidthTrace]:
    """One file's trace, or every trace file of a folder."""
    return [read_trace(p) for p in trace_files(path)]


def trace_files(path: str | Path) -> list[Path]:
    """The file itself, or a folder's trace files (sorted by name, sub-folders included)."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    if not files:
        raise ArtefactError(
            path, found="no trace files", expected=f"files ending in {', '.join(SUFFIXES)}"
        )
    return files


def format_of(path: str | Path) -> str:
    """Name of a file's format: 'throughput-log', 'oboe', 'mahimahi' or 'csv'."""
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise ArtefactError(path, found="an empty file", expected="a bandwidth trace")
    return _NAMES[_reader(path, rows[0])]


def _rows(path: Path) -> list[Row]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="a bandwidth trace") from None
    except (IsADirectoryError, PermissionError) as error:
        raise ArtefactError(path, found=str(error.strerror), expected="a readable file") from None
    except UnicodeDecodeError:
        raise ArtefactError(path, found="bytes that are not text", expected="a trace") from None
    return [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _reader(path: Path, first: Row) -> Callable[[Path, list[Row]], BandwidthTrace]:
    number, line = first
    if line.replace(" ", "").lower() == CSV_HEADER:
        return _read_csv
    fields = line.split()
    readers = {6: _read_log, 2: _read_oboe, 1: _read_mahimahi}
    if len(fields) in readers and all(_is_number(f) for f in fields):
        return readers[len(fields)]
    raise ArtefactError(
        path,
        line=number,
        found=repr(line[:80]),
        expected=f"six columns (Belgium, Norway), two (Oboe), one (Mahimahi) or '{CSV_HEADER}'",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(
    path: Path, rows: Sequence[Row], columns: int, what: str, separator: str | None = None
) -> Iterator[tuple[int, str, list[float]]]:
    for number, line in rows:
        fields = line.split(separator)
        try:
            values = [float(f) for f in fields]
        except ValueError:
            values = []
        if len(values) != columns or not all(np.isfinite(values)):
            raise ArtefactError(path, line=number, found=repr(line[:80]), expected=what)
        yield number, line, values


def _read_log(path: Path, rows: list[Row]) -> BandwidthTrace:
    """Belgium 4G and Norway 3G: column 5 bytes passed in the last column-6 milliseconds."""
    what = "six numbers: time, elapsed ms, latitude, longitude, bytes >= 0, interval ms >= 0"
    lengths: list[float] = []
    counts: list[float] = []
    owed = 0.0
    for number, line, values in _numbers(path, rows, 6, what):
        n_bytes, interval_ms = values[4], values[5]
        if n_bytes < 0 or interval_ms < 0 or interval_ms > 3.6e6 or n_bytes > 1e12:
            raise ArtefactError(path, line=number, found=repr(line[:80]), expected=what)
        if interval_ms == 0:
            owed += n_bytes  # a row without time of its own: its bytes belong to the next
            continue
        lengths.append(interval_ms / 1000.0)
        counts.append(n_bytes + owed)
        owed = 0.0
    if not lengths:
        raise ArtefactError(path, found="no interval longer than 0 ms", expected="at least one")
    counts[-1] += owed
    rates = 8.0 * np.array(counts) / np.array(lengths)
    return BandwidthTrace.from_intervals(path.stem, lengths, rates)


def _read_oboe(path: Path, rows: list[Row]) -> BandwidthTrace:
    """Oboe: time in ms and kbit/s, two lines a chunk (its start and its end).

    A rate holds from its line's time to the next line's; the last lasts one second.
    """
    what = "two numbers: time in ms that does not fall, kbit/s >= 0"
    times: list[float] = []
    rates: list[float] = []
    for number, line, (at_ms, kbps) in _numbers(path, rows, 2, what):
        bad = at_ms < 0 or kbps < 0 or kbps * 1000 > MAX_RATE_BPS or at_ms > 1e12
        if bad or (times and at_ms < times[-1]):
            raise ArtefactError(path, line=number, found=repr(line[:80]), expected=what)
        if times and at_ms == times[-1]:
            rates[-1] = 1000.0 * kbps
            continue
        times.append(at_ms)
        rates.append(1000.0 * kbps)
    starts = (np.array(times) - times[0]) / 1000.0
    duration = float(starts[-1]) + OBOE_LAST_CHUNK_MS / 1000.0
    return BandwidthTrace(path.stem, starts, np.array(rates), duration)


def read_packets(path: str | Path, step_ms: int) -> BandwidthTrace:
    """A packet-delivery (Mahimahi) file on pieces of `step_ms`."""
    path = Path(path)
    rows = _rows(path)
    if not rows or _reader(path, rows[0]) is not _read_mahimahi:
        found = f"line 1 '{rows[0][1][:80]}'" if rows else "an empty file"
        raise ArtefactError(path, found=found, expected="a packet-delivery (Mahimahi) trace")
    return _packets_trace(path, rows, step_ms)


def _read_mahimahi(path: Path, rows: list[Row]) -> BandwidthTrace:
    """Mahimahi: each line the millisecond at which one 1500-byte packet may pass."""
    return _packets_trace(path, rows, MAHIMAHI_STEP_MS)


def _packets_trace(path: Path, rows: list[Row], step_ms: int) -> BandwidthTrace:
    what = "one whole number of milliseconds that does not fall, 1e8 (a day) at most"
    stamps: list[int] = []
    for number, line, (at_ms,) in _numbers(path, rows, 1, what):
        falls = bool(stamps) and at_ms < stamps[-1]
        if at_ms < 0 or at_ms != int(at_ms) or falls or at_ms > LONGEST_MS:
            raise ArtefactError(path, line=number, found=repr(line[:80]), expected=what)
        stamps.append(int(at_ms))
    last = max(stamps[-1], 1)
    # the trace repeats after its last stamp, whose packet passes at the very end of the lap
    piece = np.minimum(np.array(stamps), last - 1) // step_ms
    count = -(-last // step_ms)
    packets = np.bincount(piece, minlength=count)
    edges = np.minimum(np.arange(count + 1) * step_ms, last) / 1000.0
    rates = 8.0 * PACKET_BYTES * packets / np.diff(edges)
    return BandwidthTrace(path.name, edges[:-1], rates, float(edges[-1]))


def _read_csv(path: Path, rows: list[Row]) -> BandwidthTrace:
    """CSV `time_s,rate_bps`; the last line's time is the end (its rate is written as 0)."""
    what = f"two numbers ({CSV_HEADER}): rising seconds from 0, bit/s >= 0"
    times: list[float] = []
    rates: list[float] = []
    for number, line, (at_s, rate) in _numbers(path, rows[1:], 2, what, ","):
        wrong_start = not times and at_s != 0
        bad = rate < 0 or rate > MAX_RATE_BPS or (times and at_s <= times[-1])
        if wrong_start or bad:
            raise ArtefactError(path, line=number, found=repr(line[:80]), expected=what)
        times.append(at_s)
        rates.append(rate)
    if len(times) < 2:
        raise ArtefactError(path, found=f"{len(times)} rows", expected="two or more (start, end)")
    return BandwidthTrace(path.stem, np.array(times[:-1]), np.array(rates[:-1]), times[-1])


_NAMES: dict[Callable[[Path, list[Row]], BandwidthTrace], str] = {
    _read_log: "throughput-log",
    _read_oboe: "oboe",
    _read_mahimahi: "mahimahi",
    _read_csv: "csv",
}


def write_csv(path: str | Path, trace: BandwidthTrace) -> None:
    """Write `time_s,rate_bps`; a last row gives the end. Reading it back gives the same trace."""
    with atomic_write(path) as stream:
        stream.write(CSV_HEADER + "\n")
        for at_s, rate in zip(trace.times_s, trace.rates_bps, strict=True):
            stream.write(f"{float(at_s)!r},{float(rate)!r}\n")
        stream.write(f"{trace.duration_s!r},0.0\n")


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
