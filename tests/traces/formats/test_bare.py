"""Bare columns: what the numbers make sure, what is inferred and said, what is refused."""

import pytest

from artefacts import ArtefactError
from traces.formats import ReadOptions, read

T = 1450274031


def reading(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_text(text)
    return read(path, ReadOptions(**options))


def test_each_answer_gives_its_reading(tmp_path):
    text = "0 24.1\n1 23.9\n2 24\n"
    fast = reading(tmp_path, text, format="pensieve").trace
    slow = reading(tmp_path, text, format="oboe").trace
    assert (fast.duration_s, fast.rates_bps[0]) == (3.0, 24.1e6)
    assert (slow.duration_s, slow.rates_bps[0]) == (1.002, 24.1e3)
    named = reading(tmp_path, text, time_unit="seconds", rate_unit="KBps")
    assert named.trace.rates_bps[0] == pytest.approx(24.1 * 8e3)
    assert "kB/s" in named.understood.rate


def test_a_fraction_of_a_millisecond_leaves_seconds_alone(tmp_path):
    """As adaptive-bitrate simulators keep traces: 10 s of 2 to 3 Mbit/s."""
    text = "".join(f"{k / 2:.6f}\t{2 + k % 3 / 2:.3f}\n" for k in range(20))
    found = reading(tmp_path, text)
    assert found.understood.format == "pensieve"
    assert found.trace.duration_s == 10.0
    assert 2e6 < found.trace.mean_bps < 3e6


def test_what_was_inferred_is_said_with_the_other_reading(tmp_path):
    text = "0.5 2.5\n2 2.25\n"
    slow = "(or: --time-unit s --rate-unit kbit/s)"
    assert reading(tmp_path, text).notes == (f"no units are stated: s and Mbit/s are taken {slow}",)
    assert reading(tmp_path, text, format="pensieve").notes == ()
    other = reading(tmp_path, text, time_unit="s", rate_unit="kbit/s")
    assert other.trace.rates_bps.tolist() == [2500, 2250]
    chunks = reading(tmp_path, "0 300\n999 300\n1000 500\n2000 500\n")
    assert any("ms and kbit/s are taken" in note for note in chunks.notes)
    clock = reading(tmp_path, text, rate_unit="kbit/s")
    assert any("no unit of the time is stated: s are taken" in note for note in clock.notes)
    lines = reading(tmp_path, "5,Mbits/sec\n6,Mbits/sec\n")
    assert lines.notes == ("no interval is stated: 1 s a line is taken (or: --interval)",)


def test_many_packets_of_one_ms_are_known_by_their_form(tmp_path):
    text = "".join(f"{k // 3}\n" for k in range(300))
    found = reading(tmp_path, text, "a.txt")
    assert found.understood.format == "mahimahi"
    assert any("the ms of packets" in note for note in found.notes)
    assert not any("of packets" in note for note in reading(tmp_path, text, "a.up").notes)


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 4 5 6\n",
        "1 2 3 4 5 6\n2 3 4 5 6 7\n",
        f"{T} 0 0 0 100 1000\n{T + 1} 5 0 0 100 1000\n",
        f"{T} 0 0 0 100 1000\n5 1000 0 0 100 1000\n",
        f"{T}000000 0 0 0 100 1000\n",
    ],
)
def test_six_columns_that_are_no_log_are_refused(tmp_path, text):
    with pytest.raises(ArtefactError, match="six columns: Unix time") as caught:
        reading(tmp_path, text)
    assert caught.value.line == 1


def test_a_log_that_is_named_may_have_another_clock(tmp_path):
    found = reading(tmp_path, "1 0 0 0 100 1000\n2 1000 0 0 50 1000\n", format="throughput-log")
    assert found.trace.rates_bps.tolist() == [800, 400]
    assert "Unix" not in found.understood.time


def test_rates_below_1_kbit_throughout_leave_mbit_alone(tmp_path):
    found = reading(tmp_path, "0 0.5\n1 0.7\n2 0.6\n")
    assert found.understood.format == "pensieve"
    assert found.trace.rates_bps.tolist() == pytest.approx([0.5e6, 0.7e6, 0.6e6])


def test_chunks_of_whole_milliseconds_are_oboes(tmp_path):
    found = reading(tmp_path, "15.0 300\n400.0 300\n440.0 500\n900.0 500\n", "a.txt")
    assert found.understood.format == "oboe"
