"""What is missing is named with a command that can be followed where coinfer lies."""

import pytest

from artefacts import installing, without_package
from artefacts.errors import ROOT, extra_of


def test_a_checkout_names_its_folder(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    assert installing("train", tmp_path) == f"pip install -e '.[train]' in {tmp_path}"


def test_an_installed_wheel_names_the_wheel(tmp_path):
    said = installing("train", tmp_path)
    assert "pip install 'WHEEL[train]'" in said
    assert "-e" not in said.split()


def test_the_page_that_is_named_says_so_too():
    page = (ROOT / "docs/reference/installation.md").read_text()
    assert "pip install 'WHEEL[train]'" in page


def test_what_is_missing_is_one_line():
    said = str(without_package("plot", "matplotlib", "train"))
    assert said.startswith("plot: found no package 'matplotlib', expected pip install")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("module", "extra"),
    [("stable_baselines3", "train"), ("gymnasium.spaces", "train"), ("torch", "torch"),
     ("onnxscript", "torch"), ("ray", "ray"), ("no_package_of_ours", "all"), (None, "all")],
)  # fmt: skip
def test_the_extra_is_the_one_that_brings_the_package(module, extra):
    assert extra_of(module) == extra
