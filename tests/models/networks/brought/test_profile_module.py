"""A model that is brought: captured, given exits, judged, profiled, planned over."""

import re
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from artefacts import ArtefactError, UsageError
from coinfer.cli.learning.exit_remarks import weak_exits
from coinfer.cli.learning.scenario_file import suggested_frames
from coinfer.cli.main import app
from controller.scenarios import load_setting, read_scenario
from experiments.learning import training_args
from experiments.learning.explanation import explain_plan
from models.data.own_pictures import read_pictures
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.networks.brought.exits import head_choice
from models.networks.brought.factories import load_factory

FACTORY = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.Conv2d(3, 8, 3, 2, 1)
            self.b = nn.Conv2d(8, 8, 3, 1, 1)
            self.c = nn.Conv2d(8, 12, 3, 2, 1)
            self.end = nn.Linear(12, 2)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = x + torch.relu(self.b(x))
            x = torch.relu(self.c(x)).mean(dim=(2, 3))
            return self.end(x)

    def make():
        return Small()

    def nothing():
        return 3

    def fails():
        return 1 // 0

    class Flat(nn.Module):
        # flattens a map, as AlexNet does, and has what the torch executor does not know
        def __init__(self, classes):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.end = nn.Linear(4 * 3 * 4, classes)

        def forward(self, x):
            x = nn.functional.leaky_relu(self.a(x))
            return self.end(nn.functional.leaky_relu(self.b(x)).flatten(1))

    def wide():
        return Flat(300)

    def single():
        return Flat(1)

    def flat():
        return Flat(2)

    class Maps(nn.Module):
        def forward(self, x):
            return x.mean(dim=3)

    class Double(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)).double()

    def head(shape, classes):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes))

    def flat_head(shape, classes):
        return nn.Flatten()

    class Branches(nn.Module):
        def forward(self, x):
            return x.mean(dim=(1, 2)) if x.sum() > 0 else -x.mean(dim=(1, 2))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "brought.py").write_text(textwrap.dedent(FACTORY))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160)
    x = rng.integers(0, 100, (160, 24, 32, 3)) + 120 * y[:, None, None, None]
    np.savez(tmp_path / "pictures.npz", x=x.astype(np.uint8), y=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "brought", raising=False)
    monkeypatch.setattr(head_choice, "CHOICE_STEPS", 8)  # any head will do
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, list(args))


@pytest.mark.parametrize("placement", ["pareto", "pareto-memory"])
def test_profile_plan_and_compare_a_model_that_is_brought(here, placement):
    result = run(
        "profile", "--model", "brought:make", "--data", "pictures.npz", "--exits", "1",
        "--placement", placement, "--epochs", "40", "--repeats", "3", "--slowdown", "40",
        "--out", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    model = load_model(here / "mine")
    assert model.spec.input_shape == (3, 24, 32)
    assert len(model.spec.exits) == 2
    outcomes = read_outcomes(here / "mine" / "outcomes.npz")
    assert outcomes.samples == 80
    assert outcomes.accuracy(0) > 0.95  # a trained head easily parts bright from dark
    with torch.inference_mode():
        module = load_factory("brought:make")
        pictures = read_pictures(here / "pictures.npz")
        order = np.random.default_rng(0).permutation(160)
        judged = pictures.x[order[80:]]
        whole = module(torch.from_numpy(model.normalise(judged))).argmax(1).numpy()
    assert np.array_equal(outcomes.predicted(1), whole)
    setting = load_setting(read_scenario(here / "mine" / "scenario.toml"))
    assert setting.device.emulation is not None
    assert setting.device.interval_s(1, 0, 1) > setting.profiles["edge"].interval_s(1, 0, 1)
    for more in ((), ("--max-latency", "500ms"), ("--max-device-memory", "1MiB")):
        result = run("plan", "--scenario", "mine/scenario.toml", "--bandwidth", "2", *more)
        assert result.exit_code == 0, (result.output, result.exception)
        assert "the deepest exit that meets" in result.output
    result = run(
        "compare", "--scenario", "mine/scenario.toml", "--controllers", "algorithm1,robust",
        "--frames", "20",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)


def test_another_model_of_the_same_shape_is_not_mistaken_for_the_first(here):
    def bring():
        result = run(
            "profile", "--model", "brought:flat", "--data", "pictures.npz", "--exits", "1",
            "--epochs", "1", "--repeats", "2", "--out", "mine",
        )  # fmt: skip
        return result.exception

    assert bring() is None
    text = (here / "brought.py").read_text()
    (here / "brought.py").write_text(text.replace("manual_seed(0)", "manual_seed(1)"))
    sys.modules.pop("brought")
    assert "use another --out, or remove the folder" in str(bring())


def test_scores_that_are_no_numbers_and_options_that_do_not_fit_are_one_line(here):
    (here / "brought.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.mean(dim=(2, 3)) * float('nan')\n"
        "def odd():\n"
        "    return Odd()\n"
    )
    sys.modules.pop("brought", None)
    args = ["profile", "--model", "brought:odd", "--data", "pictures.npz", "--out", "mine"]
    assert "scores that are not finite numbers" in str(run(*args).exception)
    assert "scores that are not finite" in str(
        run(*args[:3], *args[5:], "--input", "8x8").exception
    )
    assert "--executor: found" in str(run(*args, "--executor", "torch").exception)
    assert "--grid: found" in str(run(*args, "--grid", "8").exception)
    assert "codec: found" in str(run(*args, "--codecs", "zip").exception)


def test_heads_of_ones_own_then_everything(here, monkeypatch):
    for name, value in (("LANES", 16), ("FRAMES", 16), ("JUDGED_FRAMES", 50)):
        monkeypatch.setattr(f"experiments.learning.distillation.{name}", value)
    small = partial(training_args.TrainArgs, lanes=16, batch=512, planning_backlogs=4)
    monkeypatch.setattr(training_args, "TrainArgs", small)
    result = run(
        "profile", "--model", "brought:make", "--data", "pictures.npz", "--exits", "1",
        "--heads", "brought:head", "--epochs", "2", "--joint-epochs", "2", "--repeats", "2",
        "--out", "own",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    model = load_model(here / "own")
    assert model.card.training["joint_epochs"] == 2
    before = load_factory("brought:make").state_dict()["a.weight"].numpy()
    assert not any(w.shape == before.shape and np.allclose(w, before) for w in model.state.values())
    # a learned controller runs on it, too
    result = run(
        "train", "--scenario", "own/scenario.toml", "--frames", "2000",
        "--validation-frames", "100", "--out", "own/policy",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    result = run(
        "compare", "--scenario", "own/scenario.toml", "--policy", "own/policy",
        "--controllers", "learned,device-only", "--frames", "20",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)


def test_exits_stand_where_a_user_says_and_weak_ones_are_named(here):
    result = run(
        "profile", "--model", "brought:make", "--data", "pictures.npz", "--exit-after", "relu_2",
        "--exit-after", "relu", "--epochs", "1", "--repeats", "2", "--slowdown", "20000",
        "--out", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    model = load_model(here / "mine")
    assert model.card.training["exits_at"] == ["relu", "relu_2"]
    assert model.card.training["placement"] == "after relu_2, relu"
    assert len(model.spec.exits) == 3
    outcomes = read_outcomes(here / "mine" / "outcomes.npz")
    for i, name in enumerate(("relu", "relu_2")):
        weak = outcomes.accuracy(i) < outcomes.accuracy(2) - 0.1
        assert (f"exit {i + 1}, after {name}, is weak" in result.output) is weak
    frames = read_scenario(here / "mine" / "scenario.toml").frames
    setting = load_setting(read_scenario(here / "mine" / "scenario.toml"))
    first_s = setting.device.interval_s(0, 0, len(setting.spec.branches[0]))
    assert frames.rate_fps * first_s <= 1.0
    assert frames.deadline_s >= 1.25 * first_s
    both = run(
        "profile", "--model", "brought:make", "--data", "pictures.npz", "--exit-after", "relu",
        "--exits", "1", "--out", "other",
    )  # fmt: skip
    assert "--exits: found it beside --exit-after" in str(both.exception)
    wrong = run(
        "profile", "--model", "brought:make", "--data", "pictures.npz", "--exit-after", "relu_9",
        "--out", "other",
    )  # fmt: skip
    assert "exit after 'relu_9': found no such place in 'other', expected some of" in str(
        wrong.exception
    )


@pytest.mark.parametrize(
    ("first_s", "fps", "deadline_s"),
    [(0.001, 30.0, 0.1), (0.06, 15.0, 0.1), (0.226, 4.0, 0.29), (3.0, 0.33, 3.75)],
)
def test_a_suggested_scenario_suits_a_camera(first_s, fps, deadline_s):
    assert suggested_frames(first_s) == (fps, pytest.approx(deadline_s))


def weak_said(accuracies, probes):
    return weak_exits(("a", "b"), accuracies, probes)


def test_a_weak_exit_is_named_with_a_place_that_does_better():
    probes = {"a": 0.3, "b": 0.5, "c": 0.88, "d": 0.9}
    [one] = weak_said((0.62, 0.93, 0.956), probes)
    assert "exit 1, after a, is weak: 62.0 %, the network 95.6 %" in one
    assert "88.0 % after c (--exit-after c)" in one
    assert weak_said((0.9, 0.93, 0.956), probes) == []
    [untrained] = weak_said((0.62, 0.93, 0.956), probes | {"a": 0.9})
    assert "A linear probe reaches 90.0 % there: more --epochs" in untrained
    assert "Deeper exits" in weak_said((0.62, 0.93, 0.956), {"a": 0.3, "b": 0.5})[0]


def test_more_than_256_classes_are_kept_whole(here):
    result = run(
        "profile", "--model", "brought:wide", "--input", "24x32", "--repeats", "2", "--exits", "0",
        "--out", "wide",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    outcomes = read_outcomes(here / "wide" / "outcomes.npz")
    assert outcomes.labels.dtype == np.uint16
    assert outcomes.predicted(0).dtype == np.uint16
    assert outcomes.labels.max() > 255
    assert outcomes.accuracy(0) == 1.0


def test_an_interrupted_run_keeps_the_points_it_chose(here, monkeypatch):
    """Times measured anew might place the exits elsewhere, and the heads would be lost."""
    args = (
        "profile", "--model", "brought:flat", "--data", "pictures.npz", "--exits", "1",
        "--placement", "front", "--epochs", "2", "--repeats", "2", "--out", "mine",
    )  # fmt: skip

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("models.networks.brought.profile_module.publish", interrupted)
        assert run(*args).exit_code == 130
    with monkeypatch.context() as patched:
        patched.setattr("models.networks.brought.exits.exit_goals.probe_points", interrupted)
        result = run(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "epoch 1/" not in result.output  # the heads were trained already


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model", ":make", "--input", "24x32"), "expected PACKAGE.MODULE:FACTORY"),
        (("--model", "brought:fails", "--input", "24x32"), "'fails()' failed: ZeroDivisionError"),
        (("--model", "brought:make", "--data", "pictures.npz", "--repeats", "0"), "repeats = 0"),
        (("--model", "brought:single", "--data", "pictures.npz"), "found 1 classes"),
        (("--model", "nowhere:make", "--input", "24x32"), "found no module 'nowhere'"),
        (("--model", "brought:Maps", "--input", "24x32"), "found an output of shape (N, 3, 24)"),
        (("--model", "brought:Double", "--input", "24x32"), "(N, 3) in torch.float64, expected"),
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
        (("--model", "brought:make", "--input", "24"), "expected HEIGHTxWIDTH"),
        (("--model", "brought:make", "--data", "none.npz"), "found no such file"),
        (("--model", "brought:make", "--data", "pictures.npz", "--std", "1,0,1"), "above zero"),
        (("--model", "brought:make", "--data", "pictures.npz", "--mean", "1"), "three numbers"),
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


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 8, 8), np.uint8), "y": np.zeros(4, int)}, "field 'x'"),
        ({"x": np.zeros((4, 8, 8, 3), np.float32), "y": np.zeros(4, int)}, "field 'x'"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.zeros(3, int)}, "field 'y'"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.full(4, -1)}, "field 'y'"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8)}, "arrays x and y"),
    ],
)
def test_pictures_that_are_none(tmp_path, arrays, said):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ArtefactError, match=said):
        read_pictures(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--max-latency", "3h"), "expected a number above 0 and one of ms, s"),
        (("--max-device-memory", "MiB"), "expected a number above 0 and one of B"),
        (("--max-device-memory", "16KiB", "--order", "device-first"), None),
    ],
)
def test_limits_of_a_plan(option, said):
    result = run("plan", "--scenario", "edgent", "--bandwidth", "1", *option)
    if said is None:
        # what is offloaded whole takes the picture and what is sent, and nothing more
        assert result.exit_code == 0, result.output
        assert "device memory 0.01 MiB" in result.output
    else:
        assert said in str(result.exception)


def test_memory_limits_exits_on_a_dead_link():
    setting = load_setting(read_scenario("edgent"))
    free = explain_plan(setting, 0.0, None, "any", None)
    tight = explain_plan(setting, 0.0, None, "any", free.device_bytes - 1)
    assert tight.exit < free.exit and tight.device_bytes < free.device_bytes  # noqa: PT018
    assert re.search("exit 5 on the device needs .* MiB of the device", tight.reason)
    with pytest.raises(UsageError, match="latency: found 0 ms"):
        explain_plan(setting, 1e6, 0.0)
