"""Figures are kept within bounds, whole, for their owner alone; and no frame waits for a disk."""

import logging
import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from artefacts import UsageError
from controller.daemon.records.entries import (
    FORMAT_VERSION,
    KeptFrame,
    KeptMeasurement,
    RecordSettings,
    RecordsHeader,
    decoded,
)
from controller.daemon.records.keeping import AGAIN_S, MOST_WAITING, RecordsKeeper
from controller.daemon.records.segments import Segments, segment_files
from controller.device.frame import FrameRecord
from controller.interface import Measurement


def header(stream, number):
    return RecordsHeader(FORMAT_VERSION, stream, number, 1e9, "s", "a", "b", "c", "d")


def frame(k):
    return FrameRecord(
        k, 3, 0.1 * k, 0.05, 1, True, "edge", 7, 0.123456789, 2000, 0.01, "HOST:1 refused",
        {"receive": 0.01}, {"handed": 0.02}, False, 1.1,
    )  # fmt: skip


def measurement(k):
    return Measurement(0.1 * k, 2000, 0.0123456789, k % 2 == 0)


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now_s):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


@pytest.fixture
def keeping():
    made = []

    def make(settings, **options):
        made.append(RecordsKeeper(header, **options))
        made[-1].change(settings)
        return made[-1]

    yield make
    for keeper in made:
        keeper.close()


def settings(folder, **options):
    return RecordSettings(str(folder), **options)


def entries(path):
    return [decoded(line) for line in path.read_bytes().splitlines()]


def test_what_is_kept_are_figures_for_their_owner_alone(tmp_path, keeping):
    keeper = keeping(settings(tmp_path / "records"))
    keeper.keep(frame(0))
    keeper.keep(measurement(1))
    assert keeper.flush()
    (path,) = segment_files(tmp_path / "records")
    assert path.name.endswith(".part")
    first, one, two = entries(path)
    assert (first.scenario, first.number, first.format_version) == ("s", 0, FORMAT_VERSION)
    assert isinstance(one, KeptFrame)
    assert (one.plan, one.latency_s, one.confidence, one.size) == (3, 0.05, 0.123457, 1.1)
    assert (one.stages_s, one.moments_s) == ({"receive": 0.01}, {"handed": 0.02})
    assert two == KeptMeasurement(0.1, 2000, 0.012346, complete=False)
    # neither what was seen nor what somebody has sent
    assert b"label" not in path.read_bytes()
    assert b"refused" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keeper.bytes == path.stat().st_size
    keeper.close()
    (ended,) = segment_files(tmp_path / "records")
    assert ended.name == path.stem


def test_without_settings_nothing_is_kept_and_nothing_runs(tmp_path):
    keeper, threads = RecordsKeeper(header), threading.active_count()
    keeper.change(None)
    keeper.keep(frame(0))
    assert keeper.flush()
    keeper.close()
    assert (keeper.dropped, keeper.bytes, threading.active_count()) == (0, 0, threads)


def test_the_bytes_have_a_bound_and_the_oldest_go_first(tmp_path, keeping):
    keeper = keeping(settings(tmp_path, most_bytes=65_536))
    for batch in range(10):
        for k in range(100):
            keeper.keep(frame(100 * batch + k))
        assert keeper.flush()
        kept = segment_files(tmp_path)
        assert sum(path.stat().st_size for path in kept) <= 65_536
    assert keeper.dropped == 0
    assert keeper.bytes == sum(path.stat().st_size for path in kept)
    numbers = [entries(path)[0].number for path in sorted(kept, key=lambda p: p.name[-25:])]
    frames = [one.frame for path in kept for one in entries(path)[1:]]
    assert numbers[0] > 0
    assert sorted(frames) == list(range(min(frames), 1000))  # the newest, without a hole
    assert len(frames) > 100


def test_old_segments_go_also_where_nothing_comes(tmp_path, keeping):
    wall = Hand(2e9)
    ahead = tmp_path / "records-2000003700000-0123abcd-000000.jsonl"
    ahead.touch()  # of a clock that was wrong
    keeper = keeping(settings(tmp_path, hours=1.0), wall=wall)
    keeper.keep(frame(0))
    keeper.flush()
    (path,) = segment_files(tmp_path)
    wall.now_s = 2e9 + 3599
    keeper.flush()
    assert segment_files(tmp_path) == [path.with_suffix("")]
    wall.now_s = 2e9 + 3601
    keeper.flush()
    assert segment_files(tmp_path) == []
    assert keeper.bytes == 0


def test_a_segment_ends_when_it_is_old(tmp_path, keeping):
    wall = Hand(2e9)
    keeper = keeping(settings(tmp_path, hours=8.0), wall=wall)
    for hours in (0.0, 0.5, 1.1):
        wall.now_s = 2e9 + 3600 * hours
        keeper.keep(frame(0))
        keeper.flush()
    assert len(segment_files(tmp_path)) == 2


def test_a_disk_that_hangs_holds_nobody_up_and_what_finds_no_room_is_counted(tmp_path):
    going = threading.Event()

    def slow(stream, number):
        assert going.wait(60)
        return header(stream, number)

    keeper = RecordsKeeper(slow)
    keeper.change(settings(tmp_path))
    keeper.keep(frame(0))
    assert not keeper.flush(0.05)  # the thread has it, and hangs
    for k in range(MOST_WAITING + 10):
        keeper.keep(frame(k))
    assert keeper.dropped == 10
    keeper.close(0.05)
    going.set()
    assert keeper.flush(30)
    keeper.close(30)


def test_a_folder_that_vanishes_costs_one_line_until_it_is_written_again(tmp_path, keeping, caplog):
    clock, folder = Hand(0.0), tmp_path / "records"
    keeper = keeping(settings(folder), clock=clock)
    keeper.flush()
    with caplog.at_level(logging.INFO, "coinfer.device"):
        keeper.keep(frame(0))
        keeper.flush()
        shutil.rmtree(folder)
        folder.write_text("in its place")
        for second in range(3):
            clock.now_s = second
            keeper.keep(frame(1))
            keeper.flush()
        (record,) = caplog.records
        assert record.getMessage().startswith(f"records are not kept: {folder}")
        assert "expected a folder that can be written into" in record.getMessage()
        assert keeper.dropped == 3
        folder.unlink()
        clock.now_s = 3 + AGAIN_S
        keeper.keep(frame(2))
        keeper.flush()
        assert [r.getMessage() for r in caplog.records[1:]] == ["records are kept again"]
    (path,) = segment_files(folder)
    assert [one.frame for one in entries(path)[1:]] == [2]
    assert keeper.dropped == 3


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from test_keeping import frame, header, settings
from controller.daemon.records.keeping import RecordsKeeper
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
keeper = RecordsKeeper(header)
keeper.change(settings(sys.argv[1]))
for k in range(3):
    keeper.keep(frame(k))
assert keeper.flush(30)
for k in range(100):
    keeper.keep(frame(k))
assert keeper.flush(30)
print(keeper.dropped)
keeper.close(30)
"""


def test_a_disk_that_is_full_keeps_whole_lines(tmp_path):
    """The system takes a part of a write: that part is taken back."""
    here = os.path.dirname(__file__)
    found = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), here], capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["100"]
    (path,) = segment_files(tmp_path)
    assert path.suffix == ".jsonl"
    assert [one.frame for one in entries(path)[1:]] == [0, 1, 2]


def test_what_a_killed_daemon_has_left_gets_its_name_and_a_living_one_s_is_its_own(
    tmp_path, keeping
):
    alive = keeping(settings(tmp_path), wall=Hand(1e9))
    alive.keep(frame(0))
    alive.flush()
    (own,) = segment_files(tmp_path)
    dead = tmp_path / "records-0999999999998-0123abcd-000000.jsonl.part"
    dead.write_bytes(b"{")
    empty = tmp_path / "records-0999999999999-0123abcd-000001.jsonl.part"
    empty.touch()
    other = tmp_path / "mine.part"
    other.touch()
    Segments(settings(tmp_path)).ready(1e9)
    assert own.exists()
    assert segment_files(tmp_path) == [dead.with_suffix(""), own]
    assert other.exists()


def test_what_was_written_before_the_trouble_is_not_counted_as_dropped(tmp_path):
    def once(stream, number):
        if number:
            raise UsageError("no second segment")
        return header(stream, number)

    keeper = RecordsKeeper(once)
    keeper.change(settings(tmp_path, most_bytes=65_536))
    for k in range(100):
        keeper.keep(frame(k))
    keeper.close(30)
    (path,) = segment_files(tmp_path)
    kept = len(entries(path)) - 1
    assert 10 < kept < 100
    assert keeper.dropped == 100 - kept


def test_others_settings_are_taken_over_and_none_end_it(tmp_path, keeping):
    keeper = keeping(settings(tmp_path / "a"))
    keeper.keep(frame(0))
    keeper.flush()
    keeper.change(settings(tmp_path / "b"))
    keeper.flush()
    keeper.keep(frame(1))
    keeper.change(None)
    keeper.flush()
    keeper.keep(frame(2))
    keeper.flush()
    for folder, number in (("a", 0), ("b", 1)):
        (path,) = segment_files(tmp_path / folder)
        assert path.suffix == ".jsonl"
        assert [one.frame for one in entries(path)[1:]] == [number]
    assert (keeper.dropped, keeper.bytes) == (0, 0)
