"""Earlier names of commands: each is run as `python -m experiments.NAME`, and answers."""

import subprocess
import sys

import pytest

from experiments.aliases import ALIASES, ROOT

pytestmark = pytest.mark.system


def answers(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert "__" not in done.stdout.partition("\n")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIASES)
def test_an_earlier_name_answers(training_server, name, tmp_path):
    answers(training_server.run(f"experiments.{name}", "--help", cwd=ROOT.parent, folder=tmp_path))


def test_an_earlier_name_answers_an_interpreter_of_its_own():
    name = next(iter(ALIASES))
    answers(
        subprocess.run(
            [sys.executable, "-m", f"experiments.{name}", "--help"],
            capture_output=True, text=True, check=False, timeout=120, cwd=ROOT.parent,
        )
    )  # fmt: skip


def test_an_unknown_name_is_no_alias():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.no_such", "--help"],
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT.parent,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No module named experiments.no_such" in done.stderr
