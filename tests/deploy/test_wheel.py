"""A built wheel holds what the rooms hold: code, models, scenarios, policies, studies."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
LEFT_OUT = {".sh"}
"""Commands for a clone of the repository."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names in a wheel that was built of a copy of what git tracks."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip(f"setuptools: found {version('setuptools')}, expected 77 or later")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("git: found no repository here, expected one that names the files")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    tracked = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    wanted = [n for n in tracked if n.split("/")[0] in ROOMS or "/" not in n]
    for name in wanted:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, copy],
        check=True, capture_output=True, timeout=170,
    )  # fmt: skip
    (made,) = out.glob("coinfer-*.whl")
    with zipfile.ZipFile(made) as archive:
        return set(archive.namelist()), [n for n in wanted if "/" in n]


def test_every_file_of_the_rooms_is_in_it(wheel):
    names, wanted = wheel
    missing = {n for n in wanted if n not in names and Path(n).suffix not in LEFT_OUT}
    assert missing == set()


def test_the_studies_that_claims_rest_on_are_in_it(wheel):
    names, _ = wheel
    studies = {n for n in names if n.startswith("experiments/studies/") and n.endswith(".toml")}
    assert {Path(n).stem for n in studies} >= {"headline", "breadth", "whole", "unseen"}


def test_nothing_else_is_in_it(wheel):
    names, wanted = wheel
    rooms = {n for n in names if ".dist-info/" not in n and ".data/" not in n}
    assert rooms <= set(wanted)
    shared = {n.partition(".data/data/share/coinfer/")[2] for n in names if ".data/" in n}
    # what a machine is set up by; the constraints lie at the top of the repository
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").rglob("*")}
    assert shared - {"deploy/constraints.txt"} <= tracked
