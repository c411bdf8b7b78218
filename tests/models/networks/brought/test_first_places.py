"""A network that begins with padding: an exit behind nothing but that is put in only by name."""

import json
import textwrap

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.main import app
from models.facts.cards import load_model

MODEL = """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )
"""
LITTLE = ("--head-kind", "linear", "--epochs", "1", "--codecs", "int8", "--repeats", "2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "padded.py").write_text(textwrap.dedent(MODEL))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    np.savez(tmp_path / "pictures.npz", x=x, y=rng.integers(0, 3, 60))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def profiled(*options):
    given = ["profile", "--model", "padded:make", "--data", "pictures.npz", *LITTLE, *options]
    done = CliRunner().invoke(app, [*given, "--out", "mine"])
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.parametrize("placement", ["front", "linear"])
def test_no_rule_puts_an_exit_behind_padding_alone(here, placement):
    profiled("--placement", placement, "--exits", "3")
    spec = load_model(here / "mine").spec
    assert all(exit_.after > 0 for exit_ in spec.exits)
    assert (
        "pad" not in json.loads((here / "mine" / "card.json").read_text())["training"]["exits_at"]
    )


def test_one_that_is_named_there_answers_from_the_input(here):
    profiled("--exit-after", "pad")
    spec = load_model(here / "mine").spec
    assert spec.exits[0].after == 0
