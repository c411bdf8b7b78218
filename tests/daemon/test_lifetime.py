"""What a daemon counts over all its runs: it adds up, and no disk stops a daemon."""

import json
import logging
import os

import pytest

from controller.daemon.lifetime import Lifetime


def kept(path):
    return json.loads(path.read_text())


def test_counts_of_runs_add_up(tmp_path):
    path = tmp_path / "state.json"
    first = Lifetime(str(path))
    first.save(10, 2)
    first.save(15, 3)
    assert kept(path) == {"format_version": 1, "starts": 1, "frames": 15, "late": 3}
    second = Lifetime(str(path))
    second.save(0, 0)
    assert kept(path) == {"format_version": 1, "starts": 2, "frames": 15, "late": 3}
    second.save(5, 1)
    assert kept(path) == {"format_version": 1, "starts": 2, "frames": 20, "late": 4}


def test_nothing_is_written_where_nothing_has_come(tmp_path):
    path = tmp_path / "state.json"
    lifetime = Lifetime(str(path))
    lifetime.save(10, 2)
    before = path.stat()
    lifetime.save(10, 2)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lifetime = Lifetime("")
    lifetime.sweep()
    lifetime.save(10, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\x00", b'{"format_version": 9}', b'{"format_version": 1, "frames": "many"}',
     b'{"format_version": 1, "other": 1}'],
)  # fmt: skip
def test_a_broken_file_begins_anew_and_says_so(tmp_path, caplog, content):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "coinfer.device"):
        lifetime = Lifetime(str(path))
    (record,) = caplog.records
    assert record.getMessage().startswith("counters begin anew: ")
    assert str(path) in record.getMessage()
    lifetime.save(1, 0)
    assert kept(path) == {"format_version": 1, "starts": 1, "frames": 1, "late": 0}


def test_a_file_that_cannot_be_written_is_a_line_in_the_log_and_tried_again(tmp_path, caplog):
    folder = tmp_path / "state"
    folder.write_text("no folder")
    lifetime = Lifetime(str(folder / "counts.json"))
    with caplog.at_level(logging.WARNING, "coinfer.device"):
        lifetime.save(1, 0)
    (record,) = caplog.records
    assert record.getMessage().startswith("counters not saved: ")
    folder.unlink()
    folder.mkdir()
    lifetime.save(1, 0)
    assert kept(folder / "counts.json")["frames"] == 1


def test_what_an_interrupted_writing_has_left_goes(tmp_path):
    path = tmp_path / "state.json"
    Lifetime(str(path)).save(3, 0)
    part, young = (tmp_path / f".state.json.{name}.part" for name in ("abcd1234", "wxyz5678"))
    part.write_bytes(b"half")
    young.write_bytes(b"another process writes it")
    os.utime(part, (1e9, 1e9))
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    Lifetime(str(path)).sweep()
    assert (part.exists(), young.exists()) == (False, True)
    assert kept(path)["frames"] == 3
    assert other.exists()
