"""Where graphs are kept, and that a cache which cannot be had is done without."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from artefacts.cache import cache_folder
from models.graphs.graph_cache import cached_graph

pytestmark = pytest.mark.system

NOBODY = ("unshare", "--user", "--map-user=54321", "--map-group=54321", "--")
"""Runs a command as a user that no file knows."""


def others_allowed():
    tried = shutil.which("unshare") and subprocess.run([*NOBODY, "true"], check=False)
    return bool(tried) and tried.returncode == 0


def test_the_cache_s_folder_is_named_or_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("COINFER_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    monkeypatch.setenv("HOME", "/three")
    assert str(cache_folder()) == "/one"
    monkeypatch.delenv("COINFER_CACHE")
    assert str(cache_folder()) == "/two"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert str(cache_folder()) == "/three/.cache"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache_folder()) == "/three/.cache"


def test_a_graph_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return b"graph"

    assert [cached_graph("d" * 64, "n", make) for _ in range(3)] == [b"graph"] * 3
    assert len(made) == 1
    (kept,) = tmp_path.rglob("*.onnx")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert cached_graph("d" * 64, "n", make) == b"graph"
    assert len(made) == 2


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/nowhere", "{}/file", "{}/" + "x" * 300])
def test_a_place_that_cannot_be_written_is_done_without(monkeypatch, tmp_path, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COINFER_CACHE", place.format(tmp_path))
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not others_allowed(), reason="needs a user namespace of its own")
def test_a_user_without_home_and_entry_does_without():
    script = (
        "from artefacts.cache import cache_folder\n"
        "from models.graphs.graph_cache import cached_graph\n"
        "print(cache_folder(), cached_graph('d' * 64, 'n', lambda: b'graph'))"
    )
    done = subprocess.run(
        [*NOBODY, sys.executable, "-c", script], env={"PYTHONPATH": os.getcwd()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "None b'graph'\n", done.stderr


def kept_by(tmp_path, monkeypatch):
    """A cache with one graph; its folder and its file."""
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    cached_graph("d" * 64, "n", lambda: b"graph")
    (kept,) = tmp_path.rglob("*.onnx")
    return kept.parent, kept


def planted(kept):
    """What an attacker would put there: a graph of its own, and the digest that fits it."""
    kept.write_bytes(hashlib.sha256(b"planted").digest() + b"planted")


def test_a_cache_is_its_owner_s_alone_whatever_the_process_s_mask(monkeypatch, tmp_path):
    before = os.umask(0o000)
    try:
        folder, kept = kept_by(tmp_path, monkeypatch)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert not kept.stat().st_mode & 0o022


def test_a_graph_that_others_may_write_is_not_believed(monkeypatch, tmp_path):
    _, kept = kept_by(tmp_path, monkeypatch)
    planted(kept)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"planted"  # its owner may
    kept.chmod(0o666)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
    assert kept.read_bytes()[32:] == b"planted"


def test_a_link_out_of_the_cache_is_not_followed(monkeypatch, tmp_path):
    folder, kept = kept_by(tmp_path, monkeypatch)
    planted(kept)
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
    kept.unlink()
    (tmp_path / "elsewhere").rename(kept)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_graph_or_a_folder_of_somebody_else_is_not_believed(monkeypatch, tmp_path):
    folder, kept = kept_by(tmp_path, monkeypatch)
    planted(kept)
    for path in (kept, folder, folder.parent):
        os.chown(path, 54321, 54321)
        assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
        os.chown(path, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("above", ["here", "here/cache"])
def test_a_cache_below_a_folder_of_somebody_else_is_neither_believed_nor_filled(
    monkeypatch, tmp_path, caplog, above
):
    root = tmp_path / "here" / "cache"
    root.mkdir(parents=True)
    _, kept = kept_by(root, monkeypatch)
    planted(kept)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"planted"
    os.chown(tmp_path / above, 54321, 54321)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
    assert cached_graph("d" * 64, "m", lambda: b"graph") == b"graph"
    assert [p.name for p in root.rglob("*.onnx")] == ["n.onnx"]
    assert [r.message for r in caplog.records if f"'{tmp_path / above}'" in r.message]
    os.chown(tmp_path / above, 0, 0)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"planted"


@pytest.mark.parametrize(("mode", "believed"), [(0o777, False), (0o775, False), (0o1777, True)])
def test_above_a_cache_others_may_write_in_a_sticky_folder_alone(
    monkeypatch, tmp_path, mode, believed
):
    root = tmp_path / "shared" / "cache"
    root.mkdir(parents=True)
    _, kept = kept_by(root, monkeypatch)
    planted(kept)
    (tmp_path / "shared").chmod(mode)
    found = cached_graph("d" * 64, "n", lambda: b"graph")
    assert found == (b"planted" if believed else b"graph")


def test_a_link_on_the_way_to_the_cache_is_followed_to_where_it_leads(monkeypatch, tmp_path):
    root = tmp_path / "shared" / "cache"
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    _, kept = kept_by(tmp_path / "link", monkeypatch)
    assert kept.is_relative_to(tmp_path / "link")
    planted(kept)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"planted"
    (tmp_path / "shared").chmod(0o777)
    assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_of_a_folder_that_was_open_to_others_nothing_is_believed(
    monkeypatch, tmp_path, caplog, mode
):
    folder, kept = kept_by(tmp_path, monkeypatch)
    planted(kept)  # as our own file under another name would be
    for wide in (folder, folder.parent):
        wide.chmod(mode)
        assert cached_graph("d" * 64, "n", lambda: b"graph") == b"graph"
        # and that is kept, in a folder of its own
        assert cached_graph("d" * 64, "n", lambda: b"another") == b"graph"
        assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
        assert f"'{wide}' was open to others" in caplog.text
        planted(kept)


def test_folders_on_the_way_are_made_for_their_owner_alone(monkeypatch, tmp_path):
    before = os.umask(0o000)
    try:
        kept_by(tmp_path / "a" / "b", monkeypatch)
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700] * 2
