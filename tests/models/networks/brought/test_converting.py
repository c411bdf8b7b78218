"""A model that is brought: captured, given exits, judged, profiled, planned over."""

import re
import sys
from functools import partial

import numpy as np
import pytest
import torch
from brought_modules import bring
from typer.testing import CliRunner

from artefacts import UsageError
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


@pytest.fixture
def here(tmp_path, monkeypatch):
    bring(tmp_path, monkeypatch)
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
        patched.setattr("models.networks.brought.converting.publish", interrupted)
        assert run(*args).exit_code == 130
    with monkeypatch.context() as patched:
        patched.setattr("models.networks.brought.exits.exit_goals.probe_points", interrupted)
        result = run(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "epoch 1/" not in result.output  # the heads were trained already


@pytest.mark.parametrize(("factory", "kind"), [("Maps", "tensors"), ("Double", "")])
def test_what_is_given_is_found_out_and_said(here, factory, kind):
    result = run(
        "profile", "--model", f"brought:{factory}", "--input", "24x32", "--repeats", "2",
        "--exits", "0", "--out", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    said = f"an answer is taken as {kind}, and judged by closeness"
    assert (said in result.output) is bool(kind)
    assert load_model(here / "mine").spec.classes == (72 if kind else 3)
    assert read_outcomes(here / "mine" / "outcomes.npz").accuracy(0) == 1.0


def test_pictures_need_no_labels_and_more_of_them_only_train(here):
    with np.load("pictures.npz") as kept:
        np.savez("bare.npz", x=kept["x"][:100])
        np.savez("more.npz", x=kept["x"][100:])
    args = (
        "profile", "--model", "brought:make", "--data", "bare.npz", "--exits", "1", "--epochs", "1",
        "--repeats", "2", "--out", "mine",
    )  # fmt: skip
    mixed = run(*args, "--train-data", "pictures.npz")
    assert "--train-data: found samples with labels, expected them without" in str(mixed.exception)
    result = run(*args, "--train-data", "more.npz")
    assert result.exit_code == 0, (result.output, result.exception)
    outcomes = read_outcomes(here / "mine" / "outcomes.npz")
    assert outcomes.samples == 50
    assert outcomes.accuracy(1) == 1.0
    assert load_model(here / "mine").card.dataset.startswith(
        "a model that was brought; its exits were trained on 99 of 160 pictures; right = agrees"
    )


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
