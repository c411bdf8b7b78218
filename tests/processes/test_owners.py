"""Names say whose a thing is: what belongs to nobody differs from what somebody uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from artefacts.owners import (
    Owner,
    is_orphan,
    owner_of,
    remove_orphans,
    temporary_folder,
    this_process,
)


def test_this_process_lives_and_its_name_is_read_back():
    own = this_process()
    assert own.pid == os.getpid()
    assert not own.gone
    assert owner_of(own.name("device0")) == own
    assert not is_orphan(own.name("device0"))


def test_a_process_id_that_was_given_again_is_somebody_else():
    own = this_process()
    earlier = Owner(own.boot, own.space, own.pid, own.start_ticks - 1)
    assert earlier.gone
    assert is_orphan(earlier.name("x"))


def test_an_ended_process_is_gone_also_before_its_parent_asks():
    code = "from artefacts.owners import this_process; print(this_process().name('x'), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code + "; input()"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        name = child.stdout.readline().strip()
        assert not is_orphan(name)
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie
        assert is_orphan(name)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert is_orphan(name)


def test_a_folder_that_is_held_stays_whatever_its_name_says(tmp_path):
    """Names of other machines' processes on a shared folder look like those of an ended boot."""
    own = this_process()
    boot = "0" * 8 if own.boot != "0" * 8 else "1" * 8
    elsewhere = tmp_path / Owner(boot, own.space, own.pid, own.start_ticks).name("replay-x")
    with temporary_folder("replay", tmp_path) as made:
        made.rename(elsewhere)
        remove_orphans(tmp_path)
        assert elsewhere.is_dir()
    remove_orphans(tmp_path)
    assert not elsewhere.exists()


def test_a_process_that_hides_is_not_taken_for_an_ended_one(monkeypatch):
    """`/proc` mounted with `hidepid=2` shows no processes of others, and a living one is living."""
    own = this_process()
    monkeypatch.setattr("artefacts.owners._start_ticks", lambda pid: None)
    assert not own.gone
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert Owner(own.boot, own.space, ended.pid, 1).gone


def test_of_another_boot_everything_is_gone_and_of_another_space_nothing_is_known():
    own = this_process()
    boot = "0" * 8 if own.boot != "0" * 8 else "1" * 8
    assert Owner(boot, own.space, own.pid, own.start_ticks).gone
    assert not Owner(own.boot, own.space + 1, 2**22 + 1, 1).gone


@given(st.text(max_size=40))
def test_other_names_are_nobody_s(text):
    assert owner_of(text) is None
    assert not is_orphan(f"coinfer-{text}")


@given(st.integers(0, 2**32), st.integers(1, 2**22), st.integers(0, 2**62))
def test_every_owner_is_read_back(space, pid, start):
    made = Owner("0a1b2c3d", space, pid, start)
    assert owner_of(made.name("device0")) == made
    assert len(made.name("device0")) < 255


def test_orphans_are_removed_and_nothing_else(tmp_path):
    own = this_process()
    gone = Owner(own.boot, own.space, own.pid, own.start_ticks - 1)
    (tmp_path / gone.name("replay-a") / "deep").mkdir(parents=True)
    kept = [own.name("replay-b"), "coinfer-tests-x", "coinfer-1d", "other"]
    for name in kept:
        (tmp_path / name).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    # a link with such a name leads nowhere
    (tmp_path / gone.name("link")).symlink_to(outside)
    remove_orphans(tmp_path)
    assert (outside / "file").exists()
    assert not (tmp_path / gone.name("replay-a")).exists()
    assert all((tmp_path / name).is_dir() for name in kept)


def test_a_folder_goes_with_its_block(tmp_path):
    with pytest.raises(ZeroDivisionError), temporary_folder("x", tmp_path) as folder:
        (folder / "file").write_text("x")
        assert owner_of(folder.name) == this_process()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_where_no_folder_can_be_made_one_line_says_so(tmp_path):
    with pytest.raises(UsageError, match="temporary folder: cannot make one"):
        with temporary_folder("x", tmp_path / "missing"):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="TMPDIR"), temporary_folder("x", tmp_path / "file"):
        pass


def test_without_proc_nothing_is_taken_for_an_orphan():
    assert Path("/proc/self/stat").exists()
    assert not Owner(this_process().boot, 0, 1, 0).gone
