"""A study takes a controller by MODULE:FACTORY, and runs it anew where its file changes."""

import json
import os
import subprocess
import sys

import pytest

from artefacts import ArtefactError
from experiments.studies.study import read_study

STUDY = """
format_version = 1

[[evaluations]]
name = "mine"
scenario = "3g-alexnet"
controllers = ["device-only", "always:make"]
frames = 3
"""
ALWAYS = """
from controller.planners.fixed import FixedController


def make(inputs):
    return FixedController("always", {plan})
"""


def evaluated(folder, *, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", "evaluate", "study.toml", "--out", "results",
         "--json"],
        capture_output=True, text=True, check=False, cwd=folder, env=dict(os.environ), timeout=150,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.system
@pytest.mark.slow
def test_a_module_s_controller_stands_in_a_study_and_follows_its_file(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    found = []
    for plan in (0, 9):
        (tmp_path / "always.py").write_text(ALWAYS.format(plan=plan))
        (evaluation,) = json.loads(evaluated(tmp_path).stdout)
        found.append(evaluation["controllers"]["always:make"]["plans"])
    assert found[0] != found[1]
    (tmp_path / "always.py").write_text("")
    done = evaluated(tmp_path, code=2)
    assert "found no 'make' in 'always'" in done.stderr


def test_what_is_no_controller_is_refused_as_before(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("always:make", "always"))
    with pytest.raises(ArtefactError, match="found 'always', expected some of .* MODULE:FACTORY"):
        read_study(path)
    path.write_text(STUDY)
    assert read_study(path).evaluations[0].controllers == ("device-only", "always:make")
