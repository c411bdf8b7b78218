"""`coinfer profile` of networks of other signatures: from a module to plans and answers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.app import app
from controller.scenarios import load_setting, read_scenario
from models.executors import OnnxExecutor
from models.facts.answers import BoxesAnswer, ClassAnswer, TensorsAnswer
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.facts.preprocessing import TensorInput, TokenInput

pytestmark = pytest.mark.slow
MODULES = '''
import torch
from torch import nn


class Texts(nn.Module):
    """Two exits on the mean of the words that are no padding."""

    exit_count = 2

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.early, self.late = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, ids, attention_mask):
        kept = attention_mask[:, :, None].float()
        x = torch.tanh(self.one(self.words(ids)))
        first = self.early((x * kept).sum(1) / kept.sum(1))
        x = torch.tanh(self.two(x))
        return [first, self.late((x * kept).sum(1) / kept.sum(1))]


class Finder(nn.Module):
    """Four boxes of two classes, of a picture and of what to look for."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(24, 32), nn.Linear(32, 4 * 6)
        self.kinds = nn.Embedding(3, 32)

    def forward(self, image, kind):
        x = torch.relu(self.one(image.flatten(1)) + self.kinds(kind[:, 0]))
        found = self.two(x).reshape(-1, 4, 6)
        return {"scores": 4 * found[..., 4:], "boxes": found[..., :4].sigmoid(), "more": x}


def texts():
    torch.manual_seed(0)
    return Texts()


def finder():
    torch.manual_seed(0)
    return Finder()


def halves(rows, labels):
    return [0.5] * len(rows)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "signed_modules.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("signed_modules", None)
    return tmp_path


def profile(*more: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["profile", *more, "--repeats", "3", "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def test_more_samples_only_train_whatever_they_are(folder):
    rng = np.random.default_rng(1)
    for name, count in (("mine", 60), ("more", 40)):
        np.savez(
            folder / f"{name}.npz", image=rng.normal(size=(count, 2, 12)).astype(np.float32),
            kind=rng.integers(0, 3, (count, 1)),
            y=np.tile(np.float32([[0, 0.1, 0.1, 0.5, 0.5]]), (count, 1 + (name == "more"), 1)),
        )  # fmt: skip
    profile(
        "--model", "signed_modules:finder", "--input", "tensors:image=FP32[2x12],kind=INT64[1]",
        "--answers", "boxes:4=boxes,scores", "--judge", "signed_modules:halves", "--data",
        "mine.npz", "--train-data", "more.npz", "--exits", "1", "--epochs", "1", "--out", "d",
    )  # fmt: skip
    card = load_model("d").card
    assert card.dataset.endswith("trained on 63 of 100 labelled samples")
    assert read_outcomes("d/outcomes.npz").samples == 30


def test_texts_with_exits_of_their_own(folder):
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 50, (80, 9))
    ids[np.arange(9) >= rng.integers(2, 10, 80)[:, None]] = 0
    np.savez(folder / "texts.npz", x=ids.astype(np.int64), y=rng.integers(0, 3, 80))
    found = profile(
        "--model", "signed_modules:texts", "--input", "tokens:12:50", "--data", "texts.npz",
        "--out", "texts",
    )  # fmt: skip
    model, outcomes = load_model("texts"), read_outcomes("texts/outcomes.npz")
    assert isinstance(model.preprocessing, TokenInput)
    assert isinstance(model.answers, ClassAnswer)
    assert len(model.spec.exits) == 2
    assert len(found["accuracies"]) == 2
    # ids cross as they are, two bytes each and no padding
    assert outcomes.mean_bytes(1, "ids16", 0) < 2 * 12
    executor, ends = OnnxExecutor(model), [len(b) for b in model.spec.branches]
    raw = np.zeros(12, dtype=np.int32)
    raw[:9] = ids[3]
    sent = executor.encode("ids16", 1, 0, raw)
    whole = executor.run(1, 0, ends[1], model.normalise(raw[None]))
    far = executor.run(1, 0, ends[1], executor.decode("ids16", 1, 0, sent.meta, sent.data))
    assert np.array_equal(whole, far)
    setting = load_setting(read_scenario("texts/scenario.toml"))
    assert any("ids16" in str(plan) for plan in setting.table.plans)


def test_boxes_of_several_tensors_are_judged_by_the_modules_own(folder):
    rng = np.random.default_rng(2)
    np.savez(
        folder / "things.npz",
        image=rng.normal(size=(60, 2, 12)).astype(np.float32),
        kind=rng.integers(0, 3, (60, 1)),
    )
    found = profile(
        "--model", "signed_modules:finder", "--input", "tensors:image=FP32[2x12],kind=INT64[1]",
        "--answers", "boxes:4=boxes,scores", "--data", "things.npz", "--exits", "0",
        "--out", "finder",
    )  # fmt: skip
    model, outcomes = load_model("finder"), read_outcomes("finder/outcomes.npz")
    assert isinstance(model.preprocessing, TensorInput)
    assert model.answers == BoxesAnswer(4)
    assert model.spec.returns_row
    assert found["accuracies"] == [pytest.approx(1.0)]
    rough = outcomes.quality_of(0, "int4c", 1) if (0, "int4c", 1) in outcomes.keys else None
    assert rough is None or 0.0 < rough.mean() <= 1.0
    assert outcomes.chosen is None
    assert load_setting(read_scenario("finder/scenario.toml")).table.plans


def test_a_judge_of_ones_own_and_tensors_without_a_name(folder):
    rng = np.random.default_rng(3)
    np.savez(
        folder / "things.npz", image=rng.normal(size=(60, 2, 12)).astype(np.float32),
        kind=rng.integers(0, 3, (60, 1)),
    )  # fmt: skip
    found = profile(
        "--model", "signed_modules:finder", "--input", "tensors:image=FP32[2x12],kind=INT64[1]",
        "--judge", "signed_modules:halves", "--data", "things.npz", "--exits", "0", "--out", "own",
    )  # fmt: skip
    assert found["accuracies"] == [pytest.approx(0.5)]
    answers = load_model("own").answers
    assert isinstance(answers, TensorsAnswer)
    assert [t.name for t in answers.outputs] == ["scores", "boxes", "more"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--input", "tokens:12"], "--input: found 'tokens:12', expected HEIGHTxWIDTH"),
        (["--input", "tensors:a=FP99[3]"], "--input: found 'a=FP99[3]', expected NAME=DATATYPE"),
        (["--input", "tokens:12:50", "--answers", "boxes"], "--answers: found 'boxes', expected"),
        (["--input", "tokens:12:50", "--judge", "map"], "judge: found 'map', expected top-K"),
        (["--input", "tokens:12:50", "--exits", "2"], "found model 'out' with 2 exits of its own"),
    ],
)
def test_what_means_nothing_is_said_in_one_line(folder, more, line):
    done = CliRunner().invoke(
        app, ["profile", "--model", "signed_modules:texts", "--out", "out", *more]
    )
    assert done.exit_code != 0
    said = " ".join((done.output + str(done.exception)).split())
    assert line in said
    assert not (folder / "out").exists() or not list((folder / "out").glob("card.json"))


def test_samples_that_do_not_fit_are_named(folder):
    np.savez(folder / "texts.npz", x=np.full((50, 9), 77), y=np.zeros(50, dtype=int))
    done = CliRunner().invoke(
        app,
        ["profile", "--model", "signed_modules:texts", "--input", "tokens:12:50", "--data",
         "texts.npz", "--out", "out"],
    )  # fmt: skip
    said = done.output + str(done.exception)
    assert "field 'x': found ids from 77 to 77, expected 0 to 49" in " ".join(said.split())
