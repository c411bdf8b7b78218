"""What is written of a model that is brought answers as the module does, or nothing is written."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.main import app
from models.data.datasets import Pictures
from models.data.own_pictures import read_pictures
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.facts.preprocessing import PictureInput
from models.networks.brought.brought_module import Listener, ProfileArgs
from models.networks.brought.converting import convert
from models.networks.brought.factories import load_factory
from models.networks.brought.signatures import Taken

FACTORY = """
    import torch
    from torch import nn
    from torch.nn import functional

    class Net(nn.Module):
        def __init__(self, function=torch.relu):
            super().__init__()
            torch.manual_seed(5)
            self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
            self.end, self.function = nn.Linear(8, 3), function

        def forward(self, x):
            x = self.function(self.a(x))
            return self.end(torch.relu(self.b(x)).mean(dim=(2, 3)))

    def plain():
        return Net()

    def wrong():
        return Net(lambda x: functional.avg_pool2d(x, 3, 2, 1, True, divisor_override=4))

    def pooled():
        return Net(lambda x: functional.avg_pool2d(x, 3, 2, divisor_override=4))

    class Cast(Net):
        def forward(self, x):
            x = torch.relu(self.a(x))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.b(x)
            return self.end(x.float().mean(dim=(2, 3)))

    def half():
        return Net().half()

    def parallel():
        return nn.DataParallel(Net())

    class Rare(Net):
        # right on everything that is dark, as the samples are that it is verified with
        def divided(self, scores):
            x = scores[:, None, None]
            return functional.avg_pool2d(x, 1, 1, 0, True, divisor_override=7)[:, 0, 0]

        def forward(self, x):
            scores, bright = super().forward(x), (x.mean(dim=(1, 2, 3)) > 0.9)[:, None]
            return torch.where(bright, self.divided(scores), scores)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "handed.py").write_text(textwrap.dedent(FACTORY))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = rng.integers(0, 100, (120, 24, 32, 3)) + 120 * y[:, None, None, None]
    np.savez(tmp_path / "pictures.npz", x=x.astype(np.uint8), y=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "handed", raising=False)
    # which kind of head does best is no matter here: test_head_choice.py
    monkeypatch.setattr("models.networks.brought.exits.head_choice.CHOICE_STEPS", 8)
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, list(args))


SOURCES = {"labelled": ("--data", "pictures.npz"), "generated": ("--input", "24x32")}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("exits", ["0", "1"])
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("wrong", "model 'mine': stretch 'a' differs from the module by "),
        ("Cast", "model 'mine': found torch.bfloat16 inside (operation 'conv2d_1'"),
        ("half", "model 'mine': found parameter 'a.weight' in torch.float16, expected"),
    ],
)
def test_what_would_be_another_model_is_refused_before_anything(here, source, exits, factory, said):
    result = run(
        "profile", "--model", f"handed:{factory}", *source, "--exits", exits, "--epochs", "1",
        "--out", "mine",
    )  # fmt: skip
    assert isinstance(result.exception, UsageError), (result.output, result.exception)
    assert str(result.exception).startswith(said)
    assert "\n" not in str(result.exception)
    assert "epoch" not in result.output
    assert not (here / "mine").exists()


def test_the_command_ends_with_two_and_one_line(here):
    done = subprocess.run(
        [sys.executable, "-c", "from coinfer.cli.main import run; run()", "profile", "--model",
         "handed:wrong", "--input", "24x32", "--out", "mine"],
        cwd=here, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("coinfer: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert "stretch 'a' differs from the module" in lines[0]


@pytest.mark.parametrize("factory", ["plain", "pooled", "parallel"])
def test_without_labels_the_last_exit_says_what_the_module_says(here, factory):
    result = run(
        "profile", "--model", f"handed:{factory}", "--input", "24x32", "--repeats", "1",
        "--exits", "0", "--out", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    outcomes, model = read_outcomes(here / "mine" / "outcomes.npz"), load_model(here / "mine")
    assert outcomes.accuracy(0) == 1.0
    assert "agrees with the model as it was brought" in outcomes.dataset
    assert len({*outcomes.labels.tolist()}) > 1, "a model that always says the same shows nothing"
    assert model.card.training["labelled"] is False


QUIET = Listener(lambda stage: None, lambda done, total: None, lambda report: None)


def taken(folder, module, pictures, **args):
    given = Taken(PictureInput(), (3, 24, 32))
    return convert(
        folder, module, "mine", pictures, given, ProfileArgs(**args), QUIET, codecs=("int8",)
    )


def test_joint_training_is_held_against_what_was_trained_and_labelled_by_what_was_brought(here):
    module = load_factory("handed:plain")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    alone = taken(here / "alone", module, None, exits=1, epochs=1)
    joint = taken(here / "joint", module, None, exits=1, epochs=1, joint_epochs=3)
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "it is trained as a copy"
    assert np.array_equal(alone.labels, joint.labels), "labels are what the module says"
    assert alone.accuracy(1) == 1.0
    assert not np.array_equal(alone.logits[1], joint.logits[1])
    weights = load_model(here / "joint").state
    kept = load_model(here / "alone").state
    first = next(k for k in kept if np.array_equal(kept[k], before["a.weight"].numpy()))
    assert not np.allclose(weights[first], kept[first])


def test_every_picture_that_judges_is_held_against_the_module(here):
    """What goes wrong on few pictures only, none of them among the first, is found all the same."""
    pictures = read_pictures(here / "pictures.npz")
    order = np.random.default_rng(0).permutation(len(pictures))
    x = np.minimum(pictures.x, 200)
    x[order[-3:]] = 255  # of those that judge the last
    module = load_factory("handed:Rare")
    with pytest.raises(UsageError, match=r"exit 1 as one graph, pictures 50 to 59, differs from"):
        taken(here / "mine", module, Pictures(x, pictures.y))
    assert not (here / "mine").exists()
    rest = Pictures(np.minimum(pictures.x, 200), pictures.y)
    assert taken(here / "rest", module, rest).samples == 60
