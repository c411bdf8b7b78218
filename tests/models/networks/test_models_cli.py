from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.learning import models as commands
from models.facts.alexnet import alexnet
from models.facts.profiles import check_profile, read_profile
from models.networks import recipes

app = typer.Typer()
app.command("train-model")(commands.train_model)
app.command("profile")(commands.profile)


def invoke(*args: str):
    return CliRunner().invoke(app, list(args))


def test_a_reference_profile_is_written_and_explained(tmp_path):
    out = tmp_path / "pi.json"
    result = invoke("profile", "--reference", "edgent-pi3", "--out", str(out))
    assert result.exit_code == 0, result.output
    profile = read_profile(out)
    check_profile(profile, alexnet())
    assert profile.name == "edgent-pi3"
    assert "transcribed, not measured" in result.output
    assert "276.5" in result.output  # device-only by elements
    assert "14,434 bytes" in result.output


def test_json_is_the_profile_and_nothing_else(tmp_path):
    out = tmp_path / "p.json"
    result = invoke("profile", "--reference", "edgent-pc", "--out", str(out), "--json")
    assert json.loads(result.stdout) == json.loads(out.read_text())


def test_a_measured_profile_is_printed_with_its_regression(tiny_folder, tmp_path):
    out = tmp_path / "here.json"
    result = invoke(
        "profile", "--model", str(tiny_folder), "--out", str(out),
        "--repeats", "3", "--grid", "4", "--slowdown", "3",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read_profile(out).name == "here"
    assert "conv2" in result.output
    assert "multiply_adds" in result.output
    assert "this machine made 3 times slower" in result.output


def test_an_interrupt_leaves_nothing_half_written(tiny_folder, tmp_path, monkeypatch):
    from models.networks.measuring import profiling

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "chain_times", interrupted)
    result = invoke("profile", "--model", str(tiny_folder), "--out", str(tmp_path / "x" / "p.json"))
    assert result.exit_code == 130
    assert "nothing was written" in result.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--reference", "pi9"], "reference profile: found 'pi9'"),
        (["--reference", "edgent-pc", "--reading", "operations"], "reading: found 'operations'"),
        (["--executor", "abacus"], "found executor = abacus"),
        (["--model", "nowhere"], "model: found 'nowhere'"),
        (["--repeats", "0"], "found repeats = 0"),
    ],
)
def test_bad_input_to_profile_is_one_error(args, message, tmp_path):
    out = tmp_path / "p.json"
    result = invoke("profile", "--out", str(out), *args)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not out.exists()


def test_training_without_pictures_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    result = invoke("train-model", "--out", str(tmp_path / "run"))
    assert isinstance(result.exception, UsageError)
    assert "CIFAR-10: found no data folder" in str(result.exception)


def test_training_an_unknown_network_is_one_error(tmp_path):
    result = invoke("train-model", "--network", "vgg", "--out", str(tmp_path / "run"))
    assert "network: found 'vgg', expected one of alexnet, mobilenetv2" in str(result.exception)


def test_training_interrupted_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setitem(recipes.RECIPES, "alexnet", interrupted)
    result = invoke("train-model", "--out", str(tmp_path / "run"))
    assert result.exit_code == 130
    assert "interrupted before anything was kept" in result.output
    assert "checkpoint.pt" not in result.output
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").touch()
    result = invoke("train-model", "--out", str(tmp_path / "run"))
    assert result.exit_code == 130
    assert "checkpoint.pt" in "".join(result.output.split())


def test_a_missing_class_file_is_named_before_training(tmp_path, monkeypatch):
    (tmp_path / "imagenette").mkdir()
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    result = invoke("train-model", "--network", "mobilenetv2", "--out", str(tmp_path / "run"))
    assert "classes.json: found no such file" in str(result.exception)
    (tmp_path / "imagenette" / "classes.json").write_text('[{"label": 0}]')
    result = invoke("train-model", "--network", "mobilenetv2", "--out", str(tmp_path / "run"))
    assert "expected a list of ten classes with label and name" in str(result.exception)


def test_training_without_camera_pictures_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    result = invoke("train-model", "--network", "mobilenetv2", "--out", str(tmp_path / "run"))
    assert "Imagenette: found no data folder" in str(result.exception)
