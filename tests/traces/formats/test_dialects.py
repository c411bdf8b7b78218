"""A trace written in any dialect reads back to the same trace; any bytes give one or one error."""

import gzip
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import ArtefactError
from traces.formats import read
from traces.statistics import trace_statistics

EPOCH = datetime(1970, 1, 1)
START_MS = 1_575_208_052_000
TIMES = {
    "time_s": lambda ms: f"{ms / 1000:.3f}",
    "Time (s)": lambda ms: f"{ms / 1000:.3f}",
    "elapsed_ms": lambda ms: f"{ms}",
    "t [us]": lambda ms: f"{ms * 1000}",
    "timestamp": lambda ms: f"{(START_MS + ms) / 1000:.3f}",
    "epoch": lambda ms: f"{START_MS + ms}",
    "Time": lambda ms: (EPOCH + timedelta(milliseconds=START_MS + ms)).isoformat(
        timespec="milliseconds"
    ),
    "date": lambda ms: (EPOCH + timedelta(milliseconds=START_MS + ms)).isoformat(
        timespec="milliseconds"
    ) + "+01:00",
    "Timestamp": lambda ms: (EPOCH + timedelta(milliseconds=START_MS + ms)).strftime(
        "%Y.%m.%d_%H.%M.%S"
    ) + f".{(START_MS + ms) % 1000:03d}",
}  # fmt: skip
RATES = {
    "rate_bps": 1.0, "bits_per_second": 1.0, "kbps": 1e3, "UL_bitrate (kbit/s)": 1e3, "mbps": 1e6,
    "Throughput (Mbit/s)": 1e6, "bandwidth_Mbps": 1e6, "Gbit/s": 1e9, "MBps": 8e6, "kB/s": 8e3,
    "goodput [MiB/s]": 8 * 2.0**20,
}  # fmt: skip
DECIMAL_COMMA_ONLY_WITH = (";", "\t", "|")


@dataclass
class Dialect:
    separator: str
    decimal_comma: bool
    time: str
    rate: str
    line_end: str
    mark: bool
    packed: bool
    index: bool
    quoted: bool
    newest_first: bool
    other_columns: bool


dialects = st.builds(
    Dialect,
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
    st.sampled_from(sorted(TIMES)),
    st.sampled_from(sorted(RATES)),
    st.sampled_from(["\n", "\r\n", "\r"]),
    *[st.booleans()] * 6,
)
rows = st.lists(
    st.tuples(st.integers(1, 5000), st.one_of(st.just(0), st.integers(1000, 10**9))),
    min_size=3,
    max_size=30,
)


def written(d: Dialect, stamps_ms: list[int], rates_bps: list[int]) -> bytes:
    def cell(text: str) -> str:
        comma = d.decimal_comma and d.separator in DECIMAL_COMMA_ONLY_WITH
        is_date = any(c in text for c in "T_")
        text = text.replace(".", ",") if comma and not is_date else text
        return f'"{text}"' if d.quoted else text

    header = [d.time, d.rate]
    body = [
        [cell(TIMES[d.time](at)), cell(repr(rate / RATES[d.rate]))]
        for at, rate in zip(stamps_ms, rates_bps, strict=True)
    ]
    if d.other_columns:
        header += ["RSRP", "State", "rtt_ms"]
        body = [[*row, "-95", "D", "-"] for row in body]
    if d.newest_first:
        body.reverse()
    if d.index:
        header = ["", *header]
        body = [[str(k), *row] for k, row in enumerate(body)]
    lines = [d.separator.join(row) for row in (header, *body)]
    raw = (d.line_end.join(lines) + d.line_end).encode()
    raw = b"\xef\xbb\xbf" + raw if d.mark else raw
    return gzip.compress(raw) if d.packed else raw


@settings(max_examples=400, deadline=None)
@given(dialects, rows)
def test_a_trace_in_any_dialect_reads_back(tmp_path_factory, dialect, parts):
    stamps_ms = np.cumsum([step for step, _ in parts]).tolist()
    rates_bps = [rate for _, rate in parts]
    path = tmp_path_factory.mktemp("dialect") / "t.csv"
    path.write_bytes(written(dialect, stamps_ms, rates_bps))
    found = read(path)
    starts = (np.array(stamps_ms) - stamps_ms[0]) / 1000
    # Unix times in seconds have a quarter of a microsecond at best
    assert found.trace.times_s.tolist() == pytest.approx(starts.tolist(), abs=1e-6)
    assert found.trace.rates_bps.tolist() == pytest.approx(rates_bps, rel=1e-9)
    last = float(np.median(np.diff(starts)))
    assert found.trace.duration_s == pytest.approx(starts[-1] + last, abs=1e-6)
    assert found.understood.turned == dialect.newest_first
    assert found.understood.repeats == 0


bare_rows = st.lists(
    st.tuples(st.integers(1, 9999), st.integers(1, 10**6)), min_size=3, max_size=30
)


@settings(max_examples=200, deadline=None)
@given(bare_rows, st.sampled_from([" ", "\t", ",", ";", ", "]), st.booleans())
def test_bare_columns_of_seconds_and_mbit_read_back(tmp_path_factory, parts, separator, comma):
    """Fractions of a ms leave seconds; a few Mbit/s with fractions are that set's, and said."""
    stamps_s = [s / 10000 + 0.00005 for s in np.cumsum([step for step, _ in parts]).tolist()]
    rates = [rate / 100001 for _, rate in parts]
    lines = [f"{at:.6f}{separator}{rate!r}" for at, rate in zip(stamps_s, rates, strict=True)]
    if comma and separator in (" ", "\t", ";"):
        lines = [line.replace(".", ",") for line in lines]
    path = tmp_path_factory.mktemp("bare") / "t.txt"
    path.write_text("\n".join(lines) + "\n")
    found = read(path)
    assert found.understood.format == "pensieve"
    assert any("s and Mbit/s are taken" in remark for remark in found.understood.remarks)
    assert found.trace.rates_bps.tolist() == pytest.approx([1e6 * r for r in rates])
    starts = np.array(stamps_s) - stamps_s[0]
    assert found.trace.times_s.tolist() == pytest.approx(starts.tolist(), abs=1e-6)


WORDS = """time time_s ms mbps rate bytes DL_bitrate UL_bitrate RSRP CQI Timestamp run_num seq_num
Throughput 1 0 5.5 1,5 - nan 1e999 -1 12:00:00 2019.12.01_13.47.32 2019-12-01 Mbits/sec [SUM]
0.00-1.00 sec { } # 1575208052 é \0 {"intervals":[]} "quoted" " """
words = st.one_of(st.just(""), st.sampled_from(WORDS.split()))
lines = st.lists(
    st.lists(words, min_size=1, max_size=7).flatmap(
        lambda cells: st.sampled_from([",", ";", "\t", " "]).map(lambda s: s.join(cells))
    ),
    max_size=12,
).map(lambda rows: "\n".join(rows).encode())


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.one_of(lines, st.binary(max_size=200)), st.sampled_from(["plain", "gz", "zip head"]))
def test_any_bytes_give_a_trace_or_one_line(tmp_path_factory, raw, packing):
    path = tmp_path_factory.mktemp("fuzz") / "x.log"
    packed = {"plain": raw, "gz": gzip.compress(raw), "zip head": b"PK\x03\x04" + raw}[packing]
    path.write_bytes(packed)
    try:
        found = read(path)
    except ArtefactError as error:
        assert error.path == path
        assert "\n" not in str(error)
    else:
        assert found.trace.duration_s > 0
        assert np.all(found.trace.rates_bps <= 1e12)
        trace_statistics([found.trace])
