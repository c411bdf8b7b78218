"""One cell of a sweep: it trains as it says, and a failure is one line."""

import json
import shutil

import msgspec
import pytest
import stable_baselines3
from made_sweeps import made
from sweep_processes import finished, rows_of

from artefacts import ArtefactError
from experiments.sweeps import cell as cell_module
from experiments.sweeps.cell import run_cell
from experiments.sweeps.grid import expand
from experiments.sweeps.results import Store
from experiments.sweeps.runners import Done


@pytest.mark.parametrize(("algorithm", "frames"), [("ppo", 0), ("dqn", 256)])
def test_a_cell_trains_by_its_algorithm_as_far_as_it_says(algorithm, frames, here, monkeypatch):
    learned = []

    def noted(model, frames, **options):
        learned.append((type(model).__name__.lower(), frames))
        return learn(model, frames, **options)

    learn = getattr(stable_baselines3, algorithm.upper()).learn
    monkeypatch.setattr(f"stable_baselines3.{algorithm.upper()}.learn", noted)
    sweep = msgspec.structs.replace(made(frames=(frames,)), algorithms=(algorithm,))
    (cell,) = expand(sweep)
    assert cell.label == f"3g-alexnet, {algorithm}, seed 0 ({cell.id})"
    answer = run_cell(msgspec.json.encode(cell))
    assert set(answer) == {"measured", "files"}, answer
    training = json.loads(answer["files"]["policy.json"])["training"]
    assert {name: training[name] for name in cell.args} == cell.args
    assert training["algorithm"] == algorithm
    assert learned == ([(algorithm, frames)] if frames else [])


def test_a_cell_s_error_is_one_line(here, monkeypatch):
    def broken(*_):
        raise RuntimeError("first\n  second")

    monkeypatch.setattr("experiments.learning.training.train_policy", broken)
    (cell,) = expand(made())
    encoded = msgspec.json.encode(cell)
    assert run_cell(encoded) == {"error": "RuntimeError: first second"}


def test_a_cell_refuses_other_logs_than_the_sweep_began_with(here, monkeypatch, tmp_path):
    (cell,) = expand(made())
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    monkeypatch.setattr(cell_module.platform, "node", lambda: "pi")
    assert run_cell(msgspec.json.encode(cell)) == {
        "error": f"cell {cell.id} of scenario '3g-alexnet' on pi: found other profiles, outcomes, "
        "weights or traces, expected those the sweep began with"
    }


def test_a_failure_goes_when_the_cell_succeeds(whole, here, tmp_path):
    (cell,) = expand(made())
    store = Store(tmp_path, [cell])
    store.add(Done(cell, {"error": "no"}, 2))
    assert rows_of(tmp_path)[0]["error"] == "no"
    assert store.load() == Store(tmp_path, [cell]).load() == (cell,)
    kept = finished(whole.out)[0]
    measured = msgspec.json.encode(json.loads(kept.read_text())["measured"])
    store.add(Done(cell, {"measured": measured, "files": {"policy.json": b"{}"}}, 1))
    assert {p.name for p in (tmp_path / "cells" / cell.id).iterdir()} == {
        "policy.json", "result.json"
    }  # fmt: skip
    assert Store(tmp_path, [cell]).load() == ()
    with pytest.raises(ArtefactError, match=r"field 'cell.id': found"):
        shutil.move(tmp_path / "cells" / cell.id, tmp_path / "cells" / "x")
        Store(tmp_path, [msgspec.structs.replace(cell, id="x")]).load()
