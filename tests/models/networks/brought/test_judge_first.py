"""`coinfer profile` tries a judge and checks labels before it trains or writes anything."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.app import app

pytestmark = pytest.mark.slow
MODULES = """
import torch
from torch import nn


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.end = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, x):
        return self.end(torch.relu(self.two(torch.relu(self.one(x)))))


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.end = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 10)

    def forward(self, x):
        return self.end(torch.relu(self.one(x)).mean((2, 3)))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.end = nn.Linear(8, 4)

    def forward(self, x):
        x = self.end(x)
        return {"a": x, "b": 2 * x}


def scores():
    torch.manual_seed(0)
    return Scores()


def pictures():
    torch.manual_seed(0)
    return Pictures()


def failing(rows, labels):
    raise RuntimeError("no such class" + chr(10) + "and more")


def leaving(rows, labels):
    raise SystemExit(0)


def unknown(rows, labels):
    return rows[:, 0] * float("nan")


def short(rows, labels):
    return [1.0]


def many(rows, labels):
    return (rows.argmax(1) == labels)[: max(len(rows), 2)].astype(float) if len(rows) > 1 else 0.5


def lost(rows):
    raise SystemExit("gone")
"""
TENSORS = ("judge_modules:scores", "--input", "tensors:x=FP32[8]")
PICTURES = ("judge_modules:pictures", "--input", "16x16")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "judge_modules.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("judge_modules", None)
    return tmp_path


def refused(folder, *options):
    """The line of a refusal, of which nothing is left."""
    given = ["profile", "--model", *options, "--out", "out", "--exits", "1"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code != 0
    assert "exit 1 " not in done.output  # nothing was trained
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert not left
    return " ".join((done.output + str(done.exception)).split())


@pytest.mark.parametrize(
    ("judge", "line"),
    [
        ("failing", "failed on rows (4, 10) and labels uint8 (4,): RuntimeError: no such class"),
        ("leaving", "failed on rows (4, 10) and labels uint8 (4,): SystemExit: 0"),
        ("unknown", "found nan for row 0 of 4, expected a quality of 0 to 1 for each sample"),
        ("short", "found float64 (1,), expected numbers (4,)"),
        ("many", "found float64 (), expected numbers (1,)"),
    ],
)
def test_a_judge_that_fails_is_named_before_anything_is_trained(folder, judge, line):
    model = PICTURES if judge in ("failing", "unknown") else TENSORS
    said = refused(folder, *model, "--answers", "class", "--judge", f"judge_modules:{judge}")
    assert f"judge 'judge_modules:{judge}': {line}" in said


@pytest.mark.parametrize(
    ("judge", "line"),
    [
        ("top-50", "judge: found 'top-50' of 10 classes, expected top-1 to top-9"),
        ("top-10", "judge: found 'top-10' of 10 classes, expected top-1 to top-9"),
    ],
)
def test_a_judge_that_any_answer_satisfies_is_refused(folder, judge, line):
    assert line in refused(folder, *TENSORS, "--judge", judge)


def test_a_judge_of_classes_does_not_judge_what_turns_out_to_be_tensors(folder):
    given = ("judge_modules:Two", "--input", "tensors:x=FP32[8]", "--judge", "top-2")
    assert "judge: found 'top-2', expected top-K, f1, map," in refused(folder, *given)


@pytest.mark.parametrize(
    ("answers", "y", "line"),
    [
        ("labels", np.full((60, 10), 3), "field 'y, row 0': found 3, expected 0 or 1 for every"),
        ("vector", np.full((60, 10), np.nan), "field 'y, row 0': found nan, expected finite"),
        ("class", np.arange(60) % 11, "field 'y, row 10': found 10, expected classes 0 to 9"),
    ],
)
def test_labels_that_mean_nothing_are_named_by_file_and_row(folder, answers, y, line):
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    np.savez(folder / "mine.npz", x=x, y=y)
    said = refused(folder, *TENSORS, "--answers", answers, "--data", "mine.npz")
    assert f"mine.npz, {line}" in said


def test_a_confidence_that_leaves_is_said_in_a_line(folder):
    given = (*TENSORS, "--answers", "vector", "--confidence", "judge_modules:lost")
    assert "--confidence: failed on rows (4, 10): SystemExit: gone" in refused(folder, *given)
