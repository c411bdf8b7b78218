"""What is missing is named with a command that can be followed where coinfer lies."""

import json

import pytest

from artefacts import errors, installing, without_package
from artefacts.errors import ROOT, extra_of


def test_a_checkout_names_its_folder(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    assert installing("train", tmp_path) == f"pip install -e '.[train]' in {tmp_path}"


def test_an_installed_wheel_names_the_wheel(tmp_path):
    said = installing("train", tmp_path)
    assert "pip install 'WHEEL[train]'" in said
    assert "-e" not in said.split()


def test_what_pip_noted_is_named_where_it_is_still_there(tmp_path, monkeypatch):
    """As `pip install ./a` leaves it, of a folder whose name has a space."""
    checkout = tmp_path / "a b"
    checkout.mkdir()

    class Installed:
        noted: str | None = json.dumps({"url": f"{tmp_path.as_uri()}/a%20b", "dir_info": {}})

        def read_text(self, name):
            return self.noted if name == "direct_url.json" else None

    root = tmp_path / "site-packages"
    monkeypatch.setattr(errors, "ROOT", root)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    assert installing("train", root) == f"pip install '{checkout}[train]'"
    for noted in (None, "no json", "[]", json.dumps({"url": f"{tmp_path.as_uri()}/gone.whl"})):
        Installed.noted = noted
        assert "WHEEL[train]" in installing("train", root)


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
