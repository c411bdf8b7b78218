"""Exits by a wished accuracy; and the pixels that a model which is brought is given."""

import sys
import textwrap

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.main import app
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.networks.brought.exit_placement import read_probes

FACTORY = """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
        )

    class Bright(nn.Module):
        def __init__(self, middle):
            super().__init__()
            self.middle = middle

        def forward(self, x):
            over = torch.relu(x).mean(dim=(1, 2, 3)) - self.middle
            return torch.stack([-over, over], dim=1)

    def of_shares():
        return Bright(0.5)

    def of_bytes():
        return Bright(127.5)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "wished.py").write_text(textwrap.dedent(FACTORY))
    y = np.random.default_rng(0).integers(0, 2, 160)
    x = np.full((160, 24, 32, 3), 100) + 60 * y[:, None, None, None]
    np.savez(tmp_path / "pictures.npz", x=x.astype(np.uint8), y=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "wished", raising=False)
    # which kind of head does best is no matter here: test_head_choice.py
    monkeypatch.setattr("models.networks.brought.exits.head_choice.CHOICE_STEPS", 8)
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_exits_stand_where_probes_first_reach_an_accuracy(here):
    labelled = np.load("pictures.npz")
    drawn = np.random.default_rng(7).random(len(labelled["y"])) < 0.25
    y = np.where(drawn, 1 - labelled["y"], labelled["y"])  # nobody can know
    np.savez("hard.npz", x=labelled["x"], y=y)

    def profiled(wished, out):
        return run(
            "profile", "--model", "wished:make", "--data", "hard.npz", "--exit-accuracy",
            wished, "--epochs", "1", "--repeats", "2", "--out", out,
        )  # fmt: skip

    none = profiled("0.999999", "none")
    assert "found no place where a linear probe reaches 0.999999" in str(none.exception)
    result = profiled("0.2,0.999999", "mine")
    assert result.exit_code == 0, (result.output, result.exception)
    probes = read_probes(here / "mine")
    first = next(place for place, share in probes.items() if share >= 0.2)
    assert load_model(here / "mine").card.training["exits_at"] == [first]
    best = max(probes.values())
    said = " ".join(result.output.split())
    assert f"no exit for 99.9999 %: the best linear probe reaches {100 * best:.1f} %" in said
    assert "--exit-accuracy: found '90'" in str(profiled("90", "other").exception)


@pytest.mark.parametrize(
    ("factory", "options", "right"),
    [
        ("of_shares", (), True),
        ("of_bytes", (), False),
        ("of_bytes", ("--std", "0.00392157,0.00392157,0.00392157"), True),
    ],
)
def test_pixels_are_from_0_to_1_before_mean_and_std(here, factory, options, right):
    result = run(
        "profile", "--model", f"wished:{factory}", "--data", "pictures.npz", "--repeats", "1",
        "--exits", "0", "--out", "mine", *options,
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    assert (read_outcomes(here / "mine" / "outcomes.npz").accuracy(0) == 1.0) is right
