"""A device process runs on the pictures on which its network was judged, where they can be had."""

import json
import re
import shutil
import sys
import textwrap

import numpy as np
import pytest
from typer.testing import CliRunner

from artefacts import UsageError, data_directory
from coinfer.cli.main import app
from controller.scenarios import load_setting, read_scenario
from experiments.replay.pictures import RunPictures, run_pictures
from experiments.replay.session import ReplayArgs, replay, replay_rows
from models.executors import make_executor
from models.facts.judges import judge_of
from traces.trace import BandwidthTrace

MODEL = """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )
"""
LITTLE = (
    "--exits",
    "1",
    "--head-kind",
    "linear",
    "--epochs",
    "1",
    "--codecs",
    "int8",
    "--repeats",
    "2",
)
"""How good the network's exits are is no part of this."""


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """A folder with a model brought with pictures of one's own, and the same model without."""
    folder = tmp_path_factory.mktemp("brought")
    (folder / "replayed.py").write_text(textwrap.dedent(MODEL))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (80, 1, 1, 3)) * np.ones((1, 16, 16, 1))
    np.savez(folder / "pictures.npz", x=x.astype(np.uint8), y=rng.integers(0, 3, 80))
    np.savez(folder / "bare.npz", x=x.astype(np.uint8))
    np.savez(folder / "rows.npz", x=x.astype(np.uint8), y=rng.normal(size=(80, 3)))
    (folder / "names.txt").write_text("cat\ndog\nsea lion\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        for name, source in (
            ("mine", ["--data", "pictures.npz", "--classes", "names.txt"]),
            ("plain", ["--input", "16x16"]),
            ("bare", ["--data", "bare.npz"]),
            ("rows", ["--data", "rows.npz", "--answers", "tensors"]),
        ):
            done = CliRunner().invoke(
                app,
                ["profile", "--model", "replayed:make", *source, *LITTLE, "--out", name],
            )
            assert done.exit_code == 0, (done.output, done.exception)
    return folder


def loaded(folder, name):
    setting = load_setting(read_scenario(str(folder / name / "scenario.toml")))
    return setting, make_executor("onnx", setting.model, 1)


def right(setting, executor, pictures):
    """Whether the last exit answers each picture right."""
    last = len(setting.spec.exits) - 1
    x = setting.model.normalise(pictures.x)
    logits = executor.run(last, 0, len(setting.spec.branches[last]), x)
    return logits.argmax(axis=1) == pictures.labels


@pytest.mark.parametrize(("name", "data"), [("mine", "pictures.npz"), ("plain", None)])
def test_answers_are_those_that_were_recorded(brought, name, data):
    setting, executor = loaded(brought, name)
    found = run_pictures(setting, executor, 5, None if data is None else brought / data)
    assert (found.judged, found.what) == (True, setting.outcomes.dataset)
    outcomes = setting.outcomes
    order = np.random.default_rng(5).permutation(outcomes.half("report"))
    recorded = outcomes.quality_of(outcomes.exits - 1)[order]
    assert right(setting, executor, found).tolist() == recorded.tolist()
    assert 0 < len(order) == outcomes.samples // 2


@pytest.mark.parametrize("name", ["bare", "rows"])
def test_pictures_without_a_class_are_known_again(brought, name):
    """Nobody labelled them, or with rows: the same pictures are judged as they were recorded."""
    setting, executor = loaded(brought, name)
    found = run_pictures(setting, executor, 5, brought / f"{name}.npz")
    assert (found.judged, found.what) == (True, setting.outcomes.dataset)
    with np.load(brought / f"{name}.npz") as kept:
        x = kept["x"]
    assert all((x == one).all(axis=(1, 2, 3)).any() for one in found.x)
    model, last = setting.model, setting.outcomes.exits - 1
    rows = executor.run(last, 0, len(setting.spec.branches[last]), model.normalise(found.x))
    measured = judge_of(model.card.judge, model.answers)(rows, found.labels)
    order = np.random.default_rng(5).permutation(setting.outcomes.half("report"))
    recorded = setting.outcomes.quality_of(last)[order]
    assert np.allclose(measured, recorded, atol=0.003)
    assert name == "rows" or measured.all()


def test_pictures_of_somebody_s_without_labels_are_no_generated_ones(brought, tmp_path):
    """They may be as many, and what was recorded of them says nothing of the generated ones."""
    plain = loaded(brought, "plain")[0]
    assert plain.model.card.training["generated"] is True
    assert "of 600 generated pictures; right = agrees" in plain.outcomes.dataset
    assert loaded(brought, "mine")[0].model.card.training["generated"] is False
    shutil.copytree(brought / "plain", tmp_path / "plain")
    path = tmp_path / "plain" / "card.json"
    given = json.loads(path.read_text())
    given["training"]["generated"] = False
    path.write_text(json.dumps(given))
    found = run_pictures(*loaded(tmp_path, "plain"), 5, None)
    assert not found.judged
    assert found.what.startswith("generated pictures, right = agrees")


def test_pictures_that_are_not_those_judged_on_are_refused(brought, tmp_path):
    setting, executor = loaded(brought, "mine")
    with np.load(brought / "pictures.npz") as kept:
        x, y = kept["x"], kept["y"]
    for other, said in (
        ({"x": x[:, :8], "y": y}, "found pictures of 16 x 8"),
        ({"x": x[:-2], "y": y[:-2]}, "found 78 other pictures"),
        ({"x": x, "y": (y + 1) % 3}, "found 80 other pictures"),
    ):
        np.savez(tmp_path / "other.npz", **other)
        with pytest.raises(UsageError, match=said):
            run_pictures(setting, executor, 5, tmp_path / "other.npz")


def test_the_table_says_whether_both_are_of_the_same_pictures(brought):
    setting, _ = loaded(brought, "mine")
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([9e6]), 2.0)
    scenario = str(brought / "mine" / "scenario.toml")
    for data, beside in ((brought / "pictures.npz", "the same"), (None, "others: 40 of 80")):
        args = ReplayArgs(scenario, "device-only", None, "relay", 1, data=data)
        result = replay(setting, trace, args, lambda line: None)
        assert result.same_pictures is (data is not None)
        [row] = [row for row in replay_rows(result) if row[0] == "pictures"]
        assert row[2].startswith(beside)
        # the bound is of the pictures that the network was judged on
        [share] = [row for row in replay_rows(result) if row[0] == "share of the bound"]
        assert (share[1] == "-") is (data is None)
        assert float(share[2]) > 0
        if data is not None:
            assert row[1] == "40 of 80 labelled pictures"


def test_a_replay_says_that_it_is_judged_otherwise_than_its_outcomes(brought, tmp_path):
    folder = tmp_path / "two"
    shutil.copytree(brought / "mine", folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"judge": "top-2"}))
    (tmp_path / "steady.csv").write_text("time_s,rate_bps\n0,9e6\n2,9e6\n")
    given = [
        "replay", "--scenario", str(folder / "scenario.toml"), "--trace",
        str(tmp_path / "steady.csv"), "--controller", "device-only", "--method", "relay",
        "--data", str(brought / "pictures.npz"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, (done.output, done.exception)
    said = " ".join(done.output.split())
    line = "measured answers are judged by top-1, predicted ones by top-2 (an edge answers a class"
    assert line in said
    assert re.search(r"share of the bound\W+-\W+\d", said)


def test_names_of_classes_are_the_card_s(brought):
    assert loaded(brought, "mine")[0].model.card.classes == ("cat", "dog", "sea lion")
    assert loaded(brought, "plain")[0].model.card.classes[0] == "class 0"


def test_a_network_of_texts_runs_on_texts(tmp_path, monkeypatch):
    """The judged sentences where they are here, else made-up ids of the network's own length."""
    setting = load_setting(read_scenario("3g-minilm"))
    executor = make_executor("onnx", setting.model, 1)
    with pytest.raises(UsageError, match="expected none: network 'minilm-sst2' takes tokens"):
        run_pictures(setting, executor, 1, tmp_path)
    root = data_directory()
    if root is not None and (root / "glue" / "SST-2").is_dir():
        known = run_pictures(setting, executor, 1, None)
        assert known.judged
        assert known.x.shape == (len(setting.outcomes.half("report")), 64)
        found = right(setting, executor, RunPictures(known.x[:20], known.labels[:20], "", True))
        assert found.mean() > 0.7
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    monkeypatch.setattr("experiments.replay.pictures.GENERATED", 8)
    made = run_pictures(setting, executor, 1, None)
    assert not made.judged
    assert made.x.shape == (8, 64)
    assert made.what == "generated samples, right = agrees with the whole network"
