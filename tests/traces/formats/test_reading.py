"""What is understood, what is asked, what is refused: one file each."""

import pytest

from artefacts import ArtefactError, UsageError, data_directory
from traces.formats import ReadOptions, TraceQuestion, read, read_packets, write_csv
from traces.trace import trace_digest

T = 1450274031


def reading(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, ReadOptions(**options))


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("0 24.1\n1 23.9\n2 24\n", ["--format oboe", "--format pensieve"]),
        ("0 500\n400 500\n", ["--format oboe", "--format pensieve"]),
        ("0.5 2300\n1.5 1100\n", ["--format pensieve", "--time-unit s --rate-unit kbit/s"]),
        ("0 0.5\n1000 0.7\n", ["--format pensieve", "--time-unit ms --rate-unit Mbit/s"]),
        ("1575208052000 5\n1575208053000 6\n", ["--format oboe", "--time-unit ms --rate-unit Mb"]),
        ("0.5 50\n1 51\n1.5 49.5\n", ["--format pensieve", "--time-unit s --rate-unit kbit/s"]),
        ("0.5 5\n1 6\n1.5 7\n", ["--format pensieve", "--time-unit s --rate-unit kbit/s"]),
        (
            "1575208052000 2300\n1575208053000 2200\n",
            ["--format oboe", "--time-unit ms --rate-unit Mbit/s"],
        ),
        ("100\n200\n300\n400\n", ["--format mahimahi", "--interval SECONDS", "--rate-unit"]),
        ("5\n5\n6\n6\n6\n7\n" * 1, ["--format mahimahi", "--rate-unit kbit/s"]),
        ("".join(f"{k}\n" for k in range(200)), ["--format mahimahi", "--rate-unit kbit/s"]),
        ("50\n50\n50\n", ["--format mahimahi", "--interval SECONDS", "--rate-unit"]),
        ("5.5\n6\n", ["--interval SECONDS", "--rate-unit kbit/s", "--rate-unit Mbit/s"]),
        ("time,mbps\n0,5\n1,6\n", ["--time-unit s (1 s)", "--time-unit ms (0.001 s)"]),
        ("time_s,throughput\n0,5\n1,6\n", ["--rate-unit kbit/s", "--rate-unit Mbit/s"]),
        ("time_s,MBPS\n0,5\n1,6\n", ["--rate-unit Mbit/s", "--rate-unit MB/s"]),
        ("time_s,rate_mb_s\n0,5\n1,6\n", ["--rate-unit"]),
        ("time_s,throughput_bytes\n0,5\n1,6\n", ["--rate-unit bytes", "--rate-unit B/s"]),
        ("time_s,rx_bytes\n0,5\n1,6\n2,9\n", ["--rate-unit bytes", "--rate-unit total-bytes"]),
        ("time_s,DL_bitrate\n0,5\n1,6\n", ["--rate-unit kbit/s", "--rate-unit Mbit/s"]),
        ("time_s,rate_mbps,goodput_mbps\n0,5,4\n", ["--column 'rate_mbps'", "'goodput_mbps'"]),
        ("time,mbps,min,max\n0,1,0,2\n1,2,0,3\n", ["--time-unit s (1 s)", "--time-unit ms"]),
        ("mbps,min,max\n1,0,2\n2,0,3\n", ["--interval", "--time-column"]),
        (
            "time_s,mbps\n1575208052000,5\n1575208053000,6\n",
            ["--time-unit s (1000 s)", "--time-unit ms (1 s)"],
        ),
        (
            "timestamp_ms,mbps\n1575208052,5\n1575208053,6\n",
            ["--time-unit ms (0.001 s)", "--time-unit s (1 s)"],
        ),
        (
            "time_s,throughput,retx_mbps\n0,5,1\n1,5,1\n",
            ["--rate-unit kbit/s", "--rate-unit Mbit/s"],
        ),
        ("time_s,bandwidth,avg_rate_kbps\n0,5,1\n", ["--column 'bandwidth'", "'avg_rate_kbps'"]),
        ("time_s,max_rate_mbps,rate\n0,5,1\n", ["--column 'max_rate_mbps'", "--column 'rate'"]),
        ("time_s,bytes,max_mbps\n0,5,1\n", ["--column 'bytes'", "--column 'max_mbps'"]),
        (",mbps\n0,5\n1,6\n", ["--interval", "--time-column"]),
        ("Uhr;Mbit/s\n0;5\n1;6\n", ["--interval", "--time-column"]),
    ],
)
def test_what_a_file_leaves_open_is_asked_with_both_answers(tmp_path, text, choices):
    with pytest.raises(TraceQuestion) as caught:
        reading(tmp_path, text)
    for choice in choices:
        assert choice in caught.value.expected
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "time", "rate"),
    [
        ("mbps,min\n1,0\n2,1\n", "column 'min', min", "column 'mbps', Mbit/s"),
        ("ms,max_mbps\n0,1\n900,2\n", "column 'ms', ms", "column 'max_mbps', Mbit/s"),
        ("time_s,bytes,mbps\n0,1,1\n1,2,2\n", "column 'time_s', s", "column 'mbps', Mbit/s"),
        # as Unix times in ms it would last 231 days
        ("time_ns,mbps\n1575208052000,1\n1585208052000,2\n1595208052000,2\n",
         "column 'time_ns', ns", "column 'mbps', Mbit/s"),
    ],
)  # fmt: skip
def test_what_is_clear_is_not_asked(tmp_path, text, time, rate):
    known = reading(tmp_path, text).understood
    assert (known.time, known.rate) == (time, rate)


def test_a_unit_of_time_that_is_not_stated_is_said(tmp_path):
    notes = reading(tmp_path, "time,mbps\n0.5,5\n2,6\n").notes
    assert any("no unit of the time is stated: s are taken" in note for note in notes)
    assert reading(tmp_path, "time,mbps\n0.5,5\n2,6\n", time_unit="s").notes == ()


@pytest.mark.parametrize(
    ("text", "rates", "turned"),
    [
        ("time_s,mbps\n3.5,1\n2,2\n1,3\n", [3e6, 2e6, 1e6], True),
        ("2.5 1.5\n1.5 2\n.5 3\n", [3e6, 2e6, 1.5e6], True),
        (f"{T + 3} 5500 0 0 100 1000\n{T + 2} 4500 0 0 200 1000\n{T + 1} 3500 0 0 0 0\n"
         f"{T} 3500 0 0 300 500\n",
         [4800.0, 1600.0, 800.0], True),
        (f"{T} 5 0 0 100 1000\n{T} 1005 0 0 200 1000\n", [800.0, 1600.0], False),
    ],
)  # fmt: skip
def test_rows_that_stand_newest_first_are_turned(tmp_path, text, rates, turned):
    found = reading(tmp_path, text)
    assert found.trace.rates_bps.tolist() == rates
    assert found.understood.turned == turned
    assert any("newest first" in note for note in found.notes) == turned


def test_a_packet_file_that_falls_is_turned(tmp_path):
    found = reading(tmp_path, "300\n150\n5\n5\n0\n", "a.up")
    assert found.understood.turned
    assert found.trace.total_bytes == pytest.approx(5 * 1500)


def test_the_published_log_that_runs_backwards_is_turned():
    root = data_directory()
    if root is None:
        pytest.skip("the data folder is not here: ../shared/data or COINFER_DATA")
    path = root / "traces/norway_hsdpa/bus.ljansbakken-oslo.report.2010-09-30_1113CEST.log"
    rows = [line.split() for line in path.read_text().splitlines()]
    found = read(path)
    assert found.understood.turned
    first, last = rows[-1], rows[0]
    assert found.trace.rates_bps[0] == pytest.approx(8000 * int(first[4]) / int(first[5]))
    assert found.trace.rates_bps[-1] == pytest.approx(8000 * int(last[4]) / int(last[5]))
    assert found.trace.total_bytes == pytest.approx(sum(int(row[4]) for row in rows))


def test_gaps_repeats_and_missing_rates_are_counted_and_said(tmp_path):
    stamps = [0, 1, 2, 2, 3, 4, 24, 25]
    rates = ["8", "8", "4", "6", "-", "8", "2", "2"]
    rows = zip(stamps, rates, strict=True)
    text = "time_s,mbps\n" + "".join(f"{at},{rate}\n" for at, rate in rows)
    found = reading(tmp_path, text)
    known = found.understood
    assert (known.interval_s, known.gaps, known.gap_s, known.repeats) == (1.0, 1, 20.0, 1)
    said = "; ".join(found.notes)
    for what in ("1 gap, 20 s together", "1 row without a rate", "1 row with the stamp"):
        assert what in said
    assert found.trace.rates_bps.tolist() == [8e6, 8e6, 5e6, 8e6, 2e6, 2e6]
    assert found.trace.times_s.tolist() == [0, 1, 2, 4, 24, 25]
    assert found.trace.duration_s == 26


def test_a_clock_that_is_set_right_is_said(tmp_path):
    stamps = [*range(150), 148, *range(149, 250)]
    text = "time_s,mbps\n" + "".join(f"{at},{4 + (k == 150)}\n" for k, at in enumerate(stamps))
    found = reading(tmp_path, text)
    assert found.trace.duration_s == 250
    # the rows of 148 s and 149 s that come twice join the one of 149 s
    assert found.trace.rates_bps[149] == pytest.approx(13e6 / 3)
    assert any("the clock is set back 1 time" in note for note in found.notes)
    with pytest.raises(ArtefactError, match="line 152"):
        reading(tmp_path, text.replace("\n148,5\n", "\n100,5\n"))


def test_gaps_of_a_log_are_left_out_and_said(tmp_path):
    text = "".join(f"{T + k} {1000 * k} 0 0 100 1000\n" for k in (1, 2, 3, 63, 64, 65))
    found = reading(tmp_path, text, "a.log")
    assert found.trace.duration_s == 6
    assert (found.understood.gaps, found.understood.gap_s) == (1, 59.0)


DRIVE = (
    "Timestamp,CellID,RSRP,DL_bitrate,UL_bitrate\n"
    "2019.12.01_13.47.32,1,-95,9000,500\n2019.12.01_13.47.33,1,-95,7000,300\n"
)


def test_of_both_directions_the_uplink_is_taken_and_said(tmp_path):
    up = reading(tmp_path, DRIVE)
    assert up.understood.direction == "uplink"
    assert up.trace.rates_bps.tolist() == [500e3, 300e3]
    assert any("both directions: the uplink is taken" in note for note in up.notes)
    down = reading(tmp_path, DRIVE, direction="downlink")
    assert down.trace.rates_bps.tolist() == [9e6, 7e6]
    with pytest.raises(UsageError, match="--direction: found uplink"):
        reading(tmp_path, "time_s,dl_mbps\n0,1\n1,2\n", direction="uplink")


def test_a_counter_and_amounts_conserve_bytes(tmp_path):
    amounts = reading(tmp_path, "time_s,bytes\n10,1000\n12,500\n13,2000\n")
    assert amounts.trace.total_bytes == pytest.approx(3500)
    assert amounts.trace.duration_s == pytest.approx(4.5)
    counter = reading(tmp_path, "time_s,total_bytes\n10,1000\n12,1500\n13,3500\n")
    assert counter.trace.total_bytes == pytest.approx(2500)
    assert counter.trace.rates_bps.tolist() == [2000.0, 16000.0]
    with pytest.raises(ArtefactError, match="does not fall"):
        reading(tmp_path, "time_s,total_bytes\n10,1000\n12,500\n")


def test_times_of_day_go_on_after_midnight(tmp_path):
    for text in (
        "time,mbps\n23:59:58,1\n23:59:59,2\n00:00:00,3\n",
        "date,time,mbps\n2019-12-01,23:59:58,1\n2019-12-01,23:59:59,2\n2019-12-02,00:00:00,3\n",
        "date,time (s),mbps\n2019-12-01,0,1\n2019-12-01,1,2\n2019-12-01,2,3\n",
    ):
        assert reading(tmp_path, text).trace.times_s.tolist() == [0, 1, 2]


def test_options_that_contradict_a_header_are_obeyed_and_said(tmp_path):
    found = reading(tmp_path, "time_ms,kbps\n0,5\n1,6\n", time_unit="s", rate_unit="Mbit/s")
    assert found.trace.rates_bps.tolist() == [5e6, 6e6]
    assert found.trace.duration_s == 2
    assert sum("is obeyed" in note for note in found.notes) == 2


def test_what_does_not_print_stays_out_of_messages(tmp_path):
    with pytest.raises(TraceQuestion) as caught:
        reading(tmp_path, "time_s,rate\x1b[31m_mbps,goodput_mbps\n0,5,4\n")
    assert str(caught.value).isprintable()


def test_without_times_no_row_may_be_missing(tmp_path):
    found = reading(tmp_path, "mbps,x\n5,a\n6,b\n", interval_s=0.5)
    assert (found.trace.duration_s, found.trace.mean_bps) == (1.0, 5.5e6)
    amounts = reading(tmp_path, "bytes,x\n500,a\n200,b\n", interval_s=0.5)
    assert amounts.trace.total_bytes == pytest.approx(700)
    for text, wrong in (
        ("mbps,x\n5,a\n-,b\n", "1 row without a rate"),
        ("total_bytes,x\n5,a\n9,b\n", "a counter without times"),
        ("mbps,x\n5,a\n-6,b\n", "-6e"),
    ):
        with pytest.raises(ArtefactError, match=wrong):
            reading(tmp_path, text, interval_s=0.5)


def test_anothers_table_of_our_two_names_is_read_as_a_table(tmp_path):
    text = "time_s,rate_bps\n0,5e6\n1,6e6\n"
    own = reading(tmp_path, text)
    assert own.trace.duration_s == 1
    assert any("--format table" in note for note in own.notes)
    assert reading(tmp_path, text, format="table").trace.rates_bps.tolist() == [5e6, 6e6]
    with pytest.raises(ArtefactError, match="line 2: .*--format table"):
        reading(tmp_path, text.replace("0,5e6", "0.5,5e6"))


def test_columns_are_chosen_by_name(tmp_path):
    text = "Uhr;Wert;rate_mbps\n0,5;7;1\n1,5;8;2\n"
    found = reading(tmp_path, text, column="wert", time_column="Uhr", rate_unit="Mbit/s")
    assert found.trace.rates_bps.tolist() == [7e6, 8e6]
    with pytest.raises(UsageError, match="--column: found 'nope', expected one of 'Uhr'"):
        reading(tmp_path, text, column="nope")


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("time_s,mbps\n0,5\n1,x\n", 3, "'x'"),
        ("time_s,mbps\n0,5\n1,inf\n", 3, "'inf'"),
        ("time_s,mbps\n0,5\nsoon,6\n", 3, "'soon'"),
        ("time_s,mbps\n0,5\n1,-6\n", 3, "1,-6"),
        ("time_s,mbps\n0,5,24,1\n", 2, "4 columns"),
        ("time_s,mbps\n0,5\n2,6\n1,7\n", 4, "1,7"),
        ("t;mbps\n2019-12-01 00:00:00;5\n2019-13-01 00:00:00;6\n", 3, "2019-13-01"),
        ("t;mbps\n2019-12-01 00:00:00;5\n2019-12-01T00:00:01Z;6\n", 3, "00:00:01Z"),
        ('time_s,kbps\n0.5,"1,234"\n', 2, "1,234"),
        ("time_s;kbps\n0,5;1.234,5\n", 2, "1.234,5"),
        ("12.5,Mbits/sec\n13,5,Mbits/sec\n", 2, "13,5"),
        ("1,2,3\n2,3,4\n", 1, "1,2,3"),
    ],
)
def test_a_row_that_cannot_be_meant_is_named(tmp_path, text, line, found):
    with pytest.raises(ArtefactError) as caught:
        reading(tmp_path, text)
    assert caught.value.line == line
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time_s,mbps\n", "no row with a rate"),
        ("time_s,mbps\n0,5\n", "1 row of a single moment"),
        ("time_s,mbps\n0,5\n1e12,5\n", "a trace of"),
        ("time_s,mbps\n0,5\n1,5e9\n", "bit/s"),
        ('{"a": 1}', "a report without intervals"),
        ('{"error": "the server is busy"}', "the error 'the server is busy'"),
        ('{"intervals": [{"sum": {"start": 0}}]}', "end"),
        ("{", "truncated"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, text, found):
    with pytest.raises(ArtefactError) as caught:
        reading(tmp_path, text)
    assert found in caught.value.found


def test_options_that_cannot_be_meant_are_refused():
    for option in (
        {"time_unit": "fortnight"}, {"rate_unit": "MBPS"}, {"interval_s": 0.0},
        {"interval_s": float("nan")}, {"direction": "up"},
    ):  # fmt: skip
        with pytest.raises(UsageError, match="--"):
            ReadOptions(**option)


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(UsageError, match="--format: found 'xyz', expected one of iperf3-json"):
        reading(tmp_path, "1\n2\n", format="xyz")


def test_what_is_odd_is_said(tmp_path):
    notes = reading(tmp_path, "time_ms,kbps\n0,5\n1,5\n").notes
    assert any("it lasts 0.002 s" in note for note in notes)
    assert any("a mean of 5 kbit/s" in note for note in notes)
    notes = reading(tmp_path, "time_s,mbps\n0,20000\n1,20000\n").notes
    assert any("a mean of 20 Gbit/s" in note for note in notes)
    assert reading(tmp_path, "time_s,mbps\n0,20\n1,20\n").notes == ()


def test_lumos_runs_stand_end_to_end(tmp_path):
    text = "run_num,seq_num,x,Throughput\n1,1,a,5\n1,2,a,\n1,4,a,6\n2,1,b,7\n"
    found = reading(tmp_path, text)
    assert found.trace.times_s.tolist() == [0, 3, 4]
    assert found.trace.duration_s == 5
    assert "2 runs stand end to end" in found.notes


def test_packets_of_another_format_are_refused(tmp_path):
    (tmp_path / "a.up").write_text("1 2\n")
    with pytest.raises(ArtefactError, match="a packet-delivery"):
        read_packets(tmp_path / "a.up", 20)


def test_the_direction_stays_in_our_own_csv(tmp_path):
    up = reading(tmp_path, DRIVE)
    for direction in ("uplink", "downlink", "not said"):
        write_csv(tmp_path / "own.csv", up.trace, direction)
        again = read(tmp_path / "own.csv")
        assert (again.understood.format, again.understood.direction) == ("csv", direction)
        assert trace_digest(again.trace) == trace_digest(up.trace)
    write_csv(tmp_path / "own.csv", up.trace)
    assert (tmp_path / "own.csv").read_text().startswith("time_s,rate_bps\n")


def test_a_direction_that_the_named_column_is_not_is_refused(tmp_path):
    path = tmp_path / "drive.csv"
    path.write_text("time_s,DL_bitrate_kbps,UL_bitrate_kbps\n0,9000,50\n1,9100,30\n2,9000,40\n")
    options = ReadOptions(column="DL_bitrate_kbps", direction="uplink")
    with pytest.raises(UsageError, match=r"--direction: found uplink, expected downlink, which"):
        read(path, options)


def test_the_unit_in_a_named_column_counts(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("Zeit (ms);Datenrate (Mbit/s)\n0;5\n1000;6\n2000;5\n")
    options = ReadOptions(time_column="Zeit (ms)", column="Datenrate (Mbit/s)")
    trace = read(path, options).trace
    assert trace.duration_s == 3.0
    assert trace.rates_bps.tolist() == [5e6, 6e6, 5e6]
