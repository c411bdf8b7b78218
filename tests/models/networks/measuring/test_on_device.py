"""`coinfer profile --on-device` and `coinfer machines`: a folder measured where it will run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coinfer.cli.app import app
from models.facts.cards import load_model
from models.facts.profiles import read_profile

ROOT = Path(__file__).parents[4]
WITHOUT_TORCH = """
import sys
for name in ("torch", "gymnasium", "pandas", "matplotlib"):
    sys.modules[name] = None
sys.argv = ["coinfer", *sys.argv[1:]]
from coinfer.cli.entry import run
run()
"""


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(load_model("alexnet").folder, tmp_path / "mine")
    return tmp_path / "mine"


def device(*args):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, args)], capture_output=True, text=True,
        timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.mark.system
def test_a_folder_is_measured_without_torch_and_taken_in_elsewhere(folder, tmp_path):
    asked = ("profile", "--on-device", "--model", folder, "--repeats", "2", "--codecs", "int8")
    done = device(*asked, "--out", tmp_path / "pi.json")
    assert done.returncode == 0, done.stderr
    assert "coinfer machines --model mine --merge pi.json" in done.stderr
    measured = read_profile(tmp_path / "pi.json")
    assert (measured.executor, measured.transcribed) == ("onnxruntime", None)
    assert {c.codec for c in measured.codecs} == {"int8"}
    result = run("machines", "--model", folder, "--merge", tmp_path / "pi.json")
    assert result.exit_code == 0, (result.output, result.exception)
    assert read_profile(folder / "profiles" / "device.json").branches == measured.branches
    done = device(*asked, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert read_profile(folder / "profiles" / "device-before.json").branches == measured.branches
    result = run("machines", "--model", folder, "--merge", tmp_path / "pi.json", "--json")
    assert '"device_s"' in result.output


def test_what_cannot_be_meant_is_one_line(folder, tmp_path):
    for args, said in (
        (("--model", "mine:make"), "--on-device: found 'mine:make', expected the folder"),
        (("--model", folder), f"--out: found the folder '{tmp_path}', expected a file, or"),
    ):
        result = run("profile", "--on-device", *args, "--out", tmp_path)
        assert said in str(result.exception)
    assert "--merge: found it alone" in str(run("machines", "--merge", "x.json").exception)


def test_machines_are_listed():
    result = run("machines")
    assert result.exit_code == 0
    assert "published, not measured" in result.output
    for name in ("pi3", "pi4", "pi5", "jetson-nano", "phone"):
        assert name in result.output
