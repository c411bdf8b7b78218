"""Commands on traces from outside: one line where they are not clear, what was understood."""

import json
import os
import subprocess
import sys

import pytest


def coinfer(*argv):
    return subprocess.run(
        [sys.executable, "-m", "coinfer.cli.main", *map(str, argv)],
        capture_output=True, text=True, check=False, env=dict(os.environ), timeout=120,
    )  # fmt: skip


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
def test_what_is_not_clear_is_refused_with_both_readings(tmp_path, unclear, command):
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


def test_a_converted_file_is_read_by_everybody(tmp_path, unclear):
    done = coinfer("traces", "convert", unclear, tmp_path / "t.csv", "--format", "pensieve")
    assert done.returncode == 0
    assert "pensieve; time: column 1, s; rate: column 2, Mbit/s" in done.stderr
    (found,) = json.loads(coinfer("traces", "info", tmp_path / "t.csv", "--json").stdout)
    assert (found["format"], found["duration_s"], found["mean_mbps"]) == ("csv", 30.0, 3.0)


def test_info_says_what_was_understood(drive):
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


def test_compare_says_that_the_uplink_is_used(drive):
    done = coinfer(
        "compare", "--scenario", "lte-mobilenet", "--controllers", "device-only", "--frames", "5",
        "--traces", drive, "--json",
    )  # fmt: skip
    assert done.returncode == 0
    assert "both directions: the uplink is taken" in done.stderr
    assert "recorded: 1 uplink; used as the uplink" in json.loads(done.stdout)["source"]


def test_a_source_is_not_written_over(drive):
    before = drive.read_bytes()
    done = coinfer("traces", "convert", drive, drive)
    assert done.returncode == 2
    assert f"target: found '{drive}', which is the source, expected another file" in done.stderr
    assert drive.read_bytes() == before
