"""Half-written files of killed processes are removed, others' and young ones are not."""

import os
import signal
import subprocess
import sys

import pytest

from artefacts.leftovers import YOUNG_S, sweep_parts

pytestmark = pytest.mark.system

WRITER = (
    "import sys, time; from artefacts import atomic_write\n"
    "with atomic_write(sys.argv[1]) as stream:\n"
    "    stream.write('half'); stream.flush(); print('writing', flush=True); time.sleep(60)\n"
)


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path):
    command = [sys.executable, "-c", WRITER, tmp_path / ("state" * 20 + ".json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    (part,) = tmp_path.iterdir()
    written_s = part.stat().st_mtime
    assert sweep_parts(tmp_path, written_s + YOUNG_S - 1.0) == 0
    assert sweep_parts(tmp_path, written_s + YOUNG_S + 1.0) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_else_is_removed(tmp_path):
    names = ("a.part", ".a.part", ".a.12345678.parts", ".a.ABCDEFGH.part", "state.json")
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / ".folder.12345678.part").mkdir()
    (tmp_path / ".link.12345678.part").symlink_to("state.json")
    assert sweep_parts(tmp_path, 0.0) == 0  # 1970: a clock that is not set yet
    assert len(os.listdir(tmp_path)) == len(names) + 2
    (tmp_path / ".a.1234567_.part").write_text("")
    assert sweep_parts(tmp_path, 0.0) == 1
    assert sweep_parts(tmp_path / "nowhere") == 0
