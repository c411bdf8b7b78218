"""Results of a study of tiny runs, once a file."""

import json
import shutil

import pytest
from tiny_study import COMMAND, SHORT

from controller.policies import SHIPPED_POLICIES
from experiments.studies import inputs
from experiments.studies.run import run_study
from experiments.studies.study import CellSpec, EvaluationSpec, MatrixSpec, Study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A study of a stream (two seeds), a closed loop, and one tested on the other's traces."""
    folder = tmp_path_factory.mktemp("report") / "results"
    twice = folder.parent / "again"
    shutil.copytree(SHIPPED_POLICIES / "3g-alexnet", twice)
    card = json.loads((twice / "policy.json").read_text())
    card["training"]["seed"] = 1
    (twice / "policy.json").write_text(json.dumps(card))
    stream = EvaluationSpec(
        "stream", "3g-alexnet", controllers=("device-only", "algorithm1-online", "oracle"),
        policies=(str(SHIPPED_POLICIES / "3g-alexnet"), str(twice)), deadlines_ms=(60.0,),
        deadline_controllers=("device-only", "edge-only"), deadline_frames=20, **SHORT,
    )  # fmt: skip
    loop = EvaluationSpec("loop", "edgent", controllers=("device-only", "edge-only"), **SHORT)
    priced = EvaluationSpec(
        "pi4", "lte-mobilenet", controllers=("device-only", "edge-only"), **SHORT
    )
    away = EvaluationSpec(
        "away", "3g-alexnet", traces_of="edgent", controllers=("device-only",), **SHORT
    )
    cells = (CellSpec("Norway", "Norway", "stream"), CellSpec("Norway", "Belgium", "away"))
    study = Study(1, (stream, loop, priced, away), "A <tiny> study",
                  (MatrixSpec("generalisation", cells),))  # fmt: skip
    without = folder.parent / "no-data"
    without.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COINFER_DATA", str(without))
        inputs._family.cache_clear()
        run_study(study, folder, COMMAND)
    return folder
