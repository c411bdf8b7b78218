import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import ArtefactError, data_directory
from traces.formats import (
    MAHIMAHI_STEP_MS,
    format_of,
    read_trace,
    read_traces,
    write_csv,
    write_mahimahi,
)
from traces.trace import BandwidthTrace

T = 1450274031


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_throughput_log_keeps_its_bytes(tmp_path):
    text = "1450274031248 725 0 0 1000 500\n1450274032248 1725 0 0 2000 1000\n"
    trace = read_trace(written(tmp_path, "a.log", text))
    assert trace.total_bytes == 3000
    assert trace.rates_bps.tolist() == [16000.0, 16000.0]
    assert trace.duration_s == 1.5


def test_a_row_without_time_gives_its_bytes_to_the_next(tmp_path):
    text = f"{T} 0 0 0 500 0\n{T + 1} 1000 0 0 500 1000\n{T + 1} 1001 0 0 250 0\n"
    assert read_trace(written(tmp_path, "a.log", text)).total_bytes == pytest.approx(1250)


def test_windows_line_ends_and_blank_tails_are_read(tmp_path):
    text = "15.0 1000.0\r\n1015.0 1000.0\r\n1020.0 2000.0\r\n2000.0 2000.0\r\n\r\n\n"
    trace = read_trace(written(tmp_path, "a.txt", text))
    assert trace.rates_bps.tolist() == [1e6, 1e6, 2e6, 2e6]


def test_mahimahi_counts_packets(tmp_path):
    path = written(tmp_path, "a.up", "".join(f"{ms}\n" for ms in (0, 5, 5, 150, 299)))
    trace = read_trace(path)
    assert trace.total_bytes == pytest.approx(5 * 1500)
    assert trace.duration_s == pytest.approx(0.299)
    assert len(trace.rates_bps) == 3
    assert MAHIMAHI_STEP_MS == 100


@pytest.mark.parametrize(
    ("text", "line", "kind"),
    [
        (f"{T} 0 0 0 5 10\n{T} 10 0 0 -5 10\n", 2, "six numbers"),
        ("1 0 0 0 5 10\n1 0 0 0 5\n", 2, "six numbers"),
        ("1 0 0 0 5 10\nhello\n", 2, "six numbers"),
        (f"{T} 0 0 0 5 9\n{T + 1} 9 0 0 5 9\n{T} 18 0 0 5 9\n", 3, "rises, or falls throughout"),
        ("0.5 5.5\n1 5\n0 5\n", 3, "does not fall"),
        ("0.5 5\n1 -5\n", 2, "two numbers"),
        ("0.5 5\n1 x\n", 2, "two numbers"),
        ("10\nx\n", 2, "whole number"),
        ("time_s,rate_bps\n0,5\n0,6\n", 3, "rising seconds"),
        ("time_s,rate_bps\n1,5\n2,6\n", 2, "rising seconds"),
        ("what is this\n", 1, "bare numbers, or a header"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, text, line, kind):
    path = written(tmp_path, "bad.log", text)
    with pytest.raises(ArtefactError, match=kind) as caught:
        read_trace(path)
    assert caught.value.line == line
    assert str(path) in str(caught.value)


def test_a_packet_after_more_than_a_day_is_named(tmp_path):
    with pytest.raises(ArtefactError, match="whole number") as caught:
        read_trace(written(tmp_path, "a.up", "10\n200000000\n"))
    assert caught.value.line == 2


def test_absent_empty_and_binary_files_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no such file"):
        read_trace(tmp_path / "absent.log")
    with pytest.raises(ArtefactError, match="an empty file"):
        read_trace(written(tmp_path, "empty.log", "\n\n"))
    (tmp_path / "raw.log").write_bytes(b"\x89PNG\x00\x01")
    with pytest.raises(ArtefactError, match="not text"):
        read_trace(tmp_path / "raw.log")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtefactError, match="no trace files"):
        read_traces(tmp_path / "folder")


rates = st.lists(st.floats(0, 1e8), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(rates, st.floats(0.01, 3.0))
def test_csv_round_trips_exactly(tmp_path_factory, values, step):
    trace = BandwidthTrace("t", np.arange(len(values)) * step, np.array(values), len(values) * step)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, trace)
    again = read_trace(path)
    assert again.times_s.tolist() == trace.times_s.tolist()
    assert again.rates_bps.tolist() == trace.rates_bps.tolist()
    assert again.duration_s == trace.duration_s


def test_mahimahi_keeps_bytes_to_one_packet(tmp_path):
    trace = BandwidthTrace("t", np.array([0.0, 1.0, 2.0]), np.array([3e6, 0.0, 1e6]), 3.0)
    write_mahimahi(tmp_path / "t.up", trace)
    assert abs(read_trace(tmp_path / "t.up").total_bytes - trace.total_bytes) <= 1500


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text("0123456789 .,-\n\rtime_sra", max_size=200)))
def test_any_bytes_give_a_trace_or_one_error(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("fuzz") / "x.log"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    try:
        assert read_trace(path).duration_s > 0
    except ArtefactError as error:
        assert error.path == path


def test_every_real_file_reads_and_keeps_its_bytes():
    root = data_directory()
    if root is None:
        pytest.skip("the data folder is not here: ../shared/data or COINFER_DATA")
    files = sorted(p for p in (root / "traces").rglob("*") if p.is_file())
    assert len(files) == 515
    kinds = {}
    for path in files:
        trace = read_trace(path)
        kind = kinds.setdefault(path.parent.name, format_of(path))
        if kind == "throughput-log":
            logged = sum(int(line.split()[4]) for line in path.read_text().splitlines())
            assert trace.total_bytes == pytest.approx(logged, abs=0.5)
        elif kind == "mahimahi":
            assert trace.total_bytes == pytest.approx(1500 * len(path.read_text().split()))
    assert kinds == {
        "belgium_4g": "throughput-log",
        "norway_hsdpa": "throughput-log",
        "oboe": "oboe",
        "mahimahi": "mahimahi",
    }
