"""Models and pictures that cannot be brought are named in one line."""

import numpy as np
import pytest
from brought_modules import bring
from typer.testing import CliRunner

from artefacts import ArtefactError, UsageError
from coinfer.cli.main import app
from models.data.datasets import Samples
from models.data.own_pictures import read_pictures
from models.networks.brought.brought_module import SampleUses
from models.networks.brought.exits import head_choice


@pytest.fixture
def here(tmp_path, monkeypatch):
    bring(tmp_path, monkeypatch)
    monkeypatch.setattr(head_choice, "CHOICE_STEPS", 8)  # any head will do
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, list(args))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model", ":make", "--input", "24x32"), "expected PACKAGE.MODULE:FACTORY"),
        (("--model", "brought:fails", "--input", "24x32"), "'fails()' failed: ZeroDivisionError"),
        (("--model", "brought:make", "--data", "pictures.npz", "--repeats", "0"), "repeats = 0"),
        (
            ("--model", "brought:single", "--data", "pictures.npz"),
            "found an output of 1 values for each sample, and classes as labels",
        ),
        (
            ("--model", "brought:Maps", "--data", "pictures.npz"),
            "found an output of 72 values for each sample, and classes as labels",
        ),
        (
            ("--model", "brought:make", "--input", "tokens:8:9", "--std", "1,2,1"),
            "--std: found it given for --input tokens, expected none (it is of pictures)",
        ),
        (
            ("--model", "brought:make", "--input", "24x32", "--train-data", "pictures.npz"),
            "--train-data: found it without --data",
        ),
        (
            (
                "--model",
                "brought:make",
                "--data",
                "pictures.npz",
                "--train-data",
                "./pictures.npz",
            ),
            "--train-data: found 'pictures.npz', which is --data, expected other samples",
        ),
        (("--model", "nowhere:make", "--input", "24x32"), "found no module 'nowhere'"),
        (
            ("--model", "brought:make", "--input", "24x32", "--heads", "brought:none"),
            "heads 'brought:none': found no 'none'",
        ),
        (
            (
                "--model",
                "brought:make",
                "--data",
                "pictures.npz",
                "--exits",
                "1",
                "--heads",
                "brought:flat_head",
            ),
            "expected (2, 2) for a batch of two",
        ),
        (("--model", "models.mine:make", "--input", "24x32"), "expected a module of another name"),
        (("--model", "brought:made", "--input", "24x32"), "found no 'made' in 'brought'"),
        (("--model", "brought:nothing", "--input", "24x32"), "found a int, expected a torch"),
        (("--model", "brought:Branches", "--input", "24x32"), "cannot be captured"),
        (
            ("--model", "brought:Ends", "--input", "24x32"),
            "found a forward that ends the process (SystemExit: 0), expected an answer",
        ),
        (("--model", "brought:make", "--input", "24"), "expected HEIGHTxWIDTH"),
        (("--model", "brought:make", "--data", "none.npz"), "found no such file"),
        (("--model", "brought:make", "--data", "pictures.npz", "--std", "1,0,1"), "above zero"),
        (("--model", "brought:make", "--data", "pictures.npz", "--mean", "1,2"), "three numbers"),
        (
            ("--model", "brought:make", "--data", "pictures.npz", "--input", "64x64"),
            "--input: found it given for a model that is brought, expected none (an npz's pictures "
            "have their size",
        ),
        (
            ("--model", "brought:make", "--input", "24x32", "--grid", "3"),
            "expected none (its layers are of no kind that a regression knows)",
        ),
        (("--model", "brought:make", "--data", "pictures.npz", "--mean", "nan,1,1"), "'nan,1,1'"),
        (
            ("--model", "brought:make", "--input", "24x32", "--placement", "best"),
            "expected linear, pareto-marks",
        ),
    ],
)
def test_what_cannot_be_brought_is_named(here, args, said):
    result = run("profile", *args, "--out", "mine")
    assert isinstance(result.exception, UsageError | ArtefactError), result.output
    assert said in str(result.exception)
    assert not (here / "mine" / "card.json").exists()


@pytest.mark.parametrize("shapes", [((4,), (2,)), ((2, 3), (3, 3)), ((), (1,))])
def test_labels_of_more_samples_have_the_shape_of_the_others(shapes):
    mine, more = (Samples(np.zeros((60, 3)), np.zeros((60, *shape))) for shape in shapes)
    with pytest.raises(UsageError, match="--train-data: found samples or labels of shape"):
        SampleUses.of(mine, 0, True, more)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 8, 8), np.uint8), "y": np.zeros(4, int)}, "field 'x'"),
        ({"x": np.zeros((4, 8, 8, 3), np.float32), "y": np.zeros(4, int)}, "field 'x'"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.zeros(3, int)}, "field 'y'"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.array(["cat"] * 4)}, "field 'y'"),
        ({"y": np.zeros(4, int)}, "found arrays y, expected an npz with arrays x and y"),
    ],
)
def test_pictures_that_are_none(tmp_path, arrays, said):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ArtefactError, match=said):
        read_pictures(tmp_path / "p.npz")
