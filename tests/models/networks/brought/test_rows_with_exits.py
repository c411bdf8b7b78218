"""Exits put into networks whose answer is no class: `coinfer profile`, and what it leaves."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.app import app
from controller.scenarios import load_setting, read_scenario
from models.data.shapes import drawn_shapes
from models.executors import OnnxExecutor
from models.facts.answers import BoxesAnswer, VectorAnswer
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes

pytestmark = pytest.mark.slow
MODULES = '''
import torch
from torch import nn


class Finder(nn.Module):
    """A box and two scores for each of sixteen cells of a picture of 32 pixels."""

    classes = ("dark", "light", "other")

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 4, 4), nn.Conv2d(12, 16, 2, 2)
        self.three, self.out = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 7, 1)
        cells = (torch.arange(4) + 0.5) / 4
        rows, columns = torch.meshgrid(cells, cells, indexing="ij")
        self.register_buffer("centres", torch.stack([columns, rows], -1).reshape(1, 16, 2))

    def forward(self, x):
        x = torch.relu(self.two(torch.relu(self.one(x))))
        found = self.out(torch.relu(self.three(x))).flatten(2).transpose(1, 2)
        centres = self.centres + 0.1 * torch.tanh(found[..., :2])
        boxes = torch.cat([centres, 0.3 + 0.0 * found[..., 2:4]], -1)
        scores = found[..., 4:]
        return {"boxes": boxes, "scores": 30.0 * (scores - scores.mean((1, 2), True))}


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(20, 24), nn.Linear(24, 24)
        self.last = nn.Linear(24, 8)

    def forward(self, x):
        return 5 * self.last(torch.relu(self.two(torch.relu(self.one(x))))) + 3


def finder():
    torch.manual_seed(0)
    return Finder()


def embedding():
    torch.manual_seed(0)
    return Embedding()


def surest(rows):
    """Of sixteen boxes with three scores: the greatest."""
    return rows[:, 64:].sigmoid().amax(1)


def length(rows):
    return rows.norm(dim=1) / 40
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "row_modules.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("row_modules", None)
    return tmp_path


def profile(*more: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["profile", *more, "--repeats", "3", "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def test_a_vector_with_exits_and_a_confidence_of_ones_own(folder):
    rng = np.random.default_rng(1)
    np.savez(folder / "x.npz", x=rng.normal(size=(240, 20)).astype(np.float32))
    found = profile(
        "--model", "row_modules:embedding", "--input", "tensors:x=FP32[20]", "--answers", "vector",
        "--data", "x.npz", "--exits", "2", "--head-kind", "linear", "--out", "e", "--epochs", "20",
        "--confidence", "row_modules:length",
    )  # fmt: skip
    model, outcomes = load_model("e"), read_outcomes("e/outcomes.npz")
    assert model.answers == VectorAnswer(own_confidence=True)
    assert len(model.spec.exits) == 3
    assert model.spec.returns_row
    accuracies = found["accuracies"]
    assert accuracies[-1] == pytest.approx(1.0)
    assert min(accuracies) > 0.8
    # what runs without torch says how sure it is, by the author's function
    x = np.load("x.npz")["x"][:5]
    executor = OnnxExecutor(model)
    for k, branch in enumerate(model.spec.branches):
        row = executor.run(k, 0, len(branch), model.normalise(x))
        assert row.shape == (5, 9)
        wanted = np.clip(np.linalg.norm(row[:, :8], axis=1) / 40, 0, 1)
        assert np.allclose(model.answers.confidence(row), wanted, atol=1e-5)
    assert 0 < outcomes.confidence(0).mean() < 1
    assert len(model.card.training["exits_why"]) == 2


def test_a_detector_with_exits_plans_and_answers_with_boxes(folder):
    drawn = drawn_shapes(160, np.random.default_rng(2), 32)
    np.savez(folder / "things.npz", x=drawn.x)
    found = profile(
        "--model", "row_modules:finder", "--data", "things.npz", "--answers",
        "boxes:16:overlap0.5=boxes,scores", "--judge", "map", "--exits", "1", "--head-kind", "grid",
        "--out", "d", "--epochs", "12", "--codecs", "int8,jpeg75", "--confidence",
        "row_modules:surest",
    )  # fmt: skip
    model = load_model("d")
    assert model.answers == BoxesAnswer(16, overlap=0.5, own_confidence=True)
    assert model.card.classes == ("dark", "light", "other")
    accuracies = found["accuracies"]
    assert accuracies[-1] == pytest.approx(1.0)
    assert 0.3 < accuracies[0] <= 1.0
    assert "head grid" in model.card.training["exits_why"][0]
    assert load_setting(read_scenario("d/scenario.toml")).table.plans


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--joint-epochs", "1"], "--joint-epochs: found 1, expected 0: exits of answers that are"),
        (["--head-kind", "deep"], "--head-kind: found 'deep' for"),
        (["--head-kind", "wide"], "--head-kind: found 'wide', expected auto, linear"),
        (["--confidence", "row_modules:none"], "found no 'none' in 'row_modules'"),
        (["--confidence", "row_modules:finder"], "--confidence: failed on rows"),
    ],
)
def test_what_means_nothing_is_said_in_one_line(folder, more, line):
    drawn = drawn_shapes(60, np.random.default_rng(2), 32)
    np.savez(folder / "things.npz", x=drawn.x, y=drawn.y)
    done = CliRunner().invoke(
        app,
        ["profile", "--model", "row_modules:finder", "--data", "things.npz", "--answers",
         "boxes:16=boxes,scores", "--exits", "1", "--out", "d", *more],
    )  # fmt: skip
    assert done.exit_code != 0
    assert line in " ".join((done.output + str(done.exception)).split())


def test_labels_that_are_no_boxes_are_refused(folder):
    drawn = drawn_shapes(60, np.random.default_rng(2), 32)
    np.savez(folder / "things.npz", x=drawn.x, y=drawn.y[..., :4])
    done = CliRunner().invoke(
        app,
        ["profile", "--model", "row_modules:finder", "--data", "things.npz", "--answers",
         "boxes:16=boxes,scores", "--out", "d"],
    )  # fmt: skip
    said = " ".join((done.output + str(done.exception)).split())
    wanted = "field 'y': found float32 (60, 4, 4), expected boxes (N, boxes, 5) of a class"
    assert wanted in said
