"""Commands on traces from outside: one line where they are not clear, what was understood."""

import functools
import json

import pytest


@pytest.fixture
def coinfer(forked):
    return functools.partial(forked, "coinfer.cli.main")


@pytest.fixture
def unclear(tmp_path):
    path = tmp_path / "unclear.txt"
    path.write_text("".join(f"{k} {2 + k % 3}\n" for k in range(30)))
    return path


@pytest.fixture
def drive(tmp_path):
    path = tmp_path / "drive.csv"
    rows = [f"2019.12.01_13.47.{k:02d},1,-95,9000,{3000 + k}\n" for k in range(30)]
    path.write_text("Timestamp,CellID,RSRP,DL_bitrate,UL_bitrate\n" + "".join(rows))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["traces", "info"],
        ["traces", "convert"],
        ["traces", "plot"],
        ["compare", "--scenario", "lte-mobilenet", "--controllers", "device-only", "--traces"],
        ["train", "--scenario", "lte-mobilenet", "--out", "out", "--traces"],
        ["replay", "--scenario", "lte-mobilenet", "--trace"],
    ],
)
def test_what_is_not_clear_is_refused_with_both_readings(coinfer, tmp_path, unclear, command):
    command = [(c == "out" and str(tmp_path / "out")) or c for c in command]
    target = [tmp_path / "t.csv"] if "convert" in command else []
    done = coinfer(*command, unclear, *target)
    assert done.returncode == 2
    line = done.stderr.strip()
    assert "\n" not in line
    for what in (
        str(unclear),
        "ms and kbit/s",
        "s and Mbit/s",
        "--format oboe",
        "--format pensieve",
    ):
        assert what in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["unclear.txt"]


def test_a_converted_file_is_read_by_everybody(coinfer, tmp_path, unclear):
    done = coinfer("traces", "convert", unclear, tmp_path / "t.csv", "--format", "pensieve")
    assert done.returncode == 0
    assert "pensieve; time: column 1, s; rate: column 2, Mbit/s" in done.stderr
    (found,) = json.loads(coinfer("traces", "info", tmp_path / "t.csv", "--json").stdout)
    assert (found["format"], found["duration_s"], found["mean_mbps"]) == ("csv", 30.0, 3.0)


def test_info_says_what_was_understood(coinfer, drive):
    (found,) = json.loads(coinfer("traces", "info", drive, "--json").stdout)
    assert found["format"] == "drive-test"
    assert found["time"] == "column 'Timestamp', date"
    assert found["rate"] == "column 'UL_bitrate', kbit/s"
    assert (found["direction"], found["interval_s"]) == ("uplink", 1.0)
    assert (found["gaps"], found["repeats"], found["turned"]) == (0, 0, False)
    assert found["warnings"] == []
    assert any("the uplink is taken" in remark for remark in found["remarks"])
    (down,) = json.loads(
        coinfer("traces", "info", drive, "--direction", "downlink", "--json").stdout
    )
    assert down["mean_mbps"] == 9.0
    table = coinfer("traces", "info", drive)
    assert "what was understood" in table.stdout
    assert "the uplink is taken" in table.stderr


def test_compare_says_that_the_uplink_is_used(coinfer, drive):
    done = coinfer(
        "compare", "--scenario", "lte-mobilenet", "--controllers", "device-only", "--frames", "5",
        "--traces", drive, "--json",
    )  # fmt: skip
    assert done.returncode == 0
    assert "both directions: the uplink is taken" in done.stderr
    assert "recorded: 1 uplink; used as the uplink" in json.loads(done.stdout)["source"]


def test_a_source_is_not_written_over(coinfer, drive):
    before = drive.read_bytes()
    done = coinfer("traces", "convert", drive, drive)
    assert done.returncode == 2
    assert f"target: found '{drive}', which is the source, expected another file" in done.stderr
    assert drive.read_bytes() == before


def test_a_bad_file_of_a_folder_is_named_and_the_others_count(coinfer, tmp_path):
    (tmp_path / "good").write_text("time_s,mbps\n0,5\n1,6\n")
    (tmp_path / "bad.log").write_text("hello\n")
    done = coinfer("traces", "info", tmp_path, "--json")
    assert done.returncode == 2
    assert [row["trace"] for row in json.loads(done.stdout)] == ["good"]
    assert "bad.log, line 1: found 'hello'" in done.stderr
    (tmp_path / "bad.log").unlink()
    assert coinfer("traces", "info", tmp_path, "--json").returncode == 0


def test_the_last_row_of_our_own_table_is_said_to_be_the_end(coinfer, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time_s,rate_bps\n0,1000000\n1,3000000\n2.5,0\n")
    [row] = json.loads(coinfer("traces", "info", path, "--json").stdout)
    assert (row["duration_s"], row["mean_mbps"]) == (2.5, 2.2)
    assert "the last row is the end (2.5 s)" in row["time"]


def compared(coinfer, path, *options):
    done = coinfer(
        "compare", "--scenario", "lte-mobilenet", "--traces", path, "--controllers", "device-only",
        "--frames", "20", "--json", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["bound"], done.stderr


def test_own_traces_are_compared_at_their_own_rates_where_asked(coinfer, tmp_path):
    path = tmp_path / "bus.csv"
    path.write_text("time_s,rate_bps\n0,3000000\n60,0\n")
    (tmp_path / "slow.csv").write_text("time_s,rate_bps\n0,300000\n60,0\n")
    by_scenario, said = compared(coinfer, path)
    assert "rates x 0.1, the factor of scenario 'lte-mobilenet' (--scale 1: as they are)" in said
    as_they_are, silent = compared(coinfer, path, "--scale", "1")
    assert "rates x" not in silent
    assert by_scenario < as_they_are
    assert compared(coinfer, tmp_path / "slow.csv", "--scale", "1")[0] == by_scenario
    alone = coinfer("compare", "--scenario", "lte-mobilenet", "--scale", "1")
    assert (alone.returncode, "expected --traces with it" in alone.stderr) == (2, True)


@pytest.fixture
def folder(tmp_path, drive):
    made = tmp_path / "logs"
    made.mkdir()
    drive.rename(made / "drive.csv")
    (made / "notes").write_text("Taken on the tram.\nThe phone lay in the bag.\n")
    return made


def test_a_note_among_traces_is_passed_over_and_said(coinfer, folder):
    done = coinfer("traces", "info", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert [row["trace"] for row in json.loads(done.stdout)] == ["drive"]
    assert f"{folder / 'notes'}: passed over, it holds words" in done.stderr


def test_numbers_that_nobody_can_read_are_left_out_with_exit_code_2(coinfer, folder):
    (folder / "notes").write_text("Taken on the tram.\n17 of us, 3 of them late, 4 a m\n")
    done = coinfer("traces", "info", folder)
    assert done.returncode == 2
    assert "1 file was left out" in done.stderr
    (folder / "notes").rename(folder / "notes.txt")
    (folder / "notes.txt").write_text("words alone\n")
    assert coinfer("traces", "info", folder).returncode == 2


def test_one_trace_is_no_folder(coinfer, folder):
    (folder / "bad.csv").write_text("no trace\n")
    done = coinfer("replay", "--scenario", "lte-mobilenet", "--trace", folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"trace: found the folder '{folder}', expected one file" in done.stderr
