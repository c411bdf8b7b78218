"""`from coinfer import Client` beside files of a user's own that bear the names of our rooms."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import coinfer

ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments")
SCRIPT = """{before}
import coinfer
from coinfer import AsyncClient, Client, CoinferError, DeviceError, Inference, UsageError
from coinfer import ArtefactError, DependencyError

assert issubclass(DeviceError, CoinferError) and issubclass(UsageError, CoinferError)
try:
    Client("nonsense")
except UsageError as error:
    print(error)
with Client("http://127.0.0.1:1") as client:
    try:
        client.infer(b"")
    except CoinferError as error:
        print(type(error).__name__, error.status)
{more}
"""
SAID = "address: found 'nonsense', expected http://HOST:PORT or unix:PATH\nDeviceError 0\n"


def ran(folder, more, before=""):
    (folder / "script.py").write_text(SCRIPT.format(more=more, before=before))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, folder / "script.py"], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_of_all_our_names_are_the_user_s_and_break_nothing(tmp_path):
    """The user's are imported before, behind, or not at all."""
    for room in ROOMS:
        (tmp_path / f"{room}.py").write_text(f"print('my {room}')\nVALUE = '{room}'\n")
    assert ran(tmp_path, "import sys; assert 'artefacts' not in sys.modules") == SAID
    mine = "".join(f"my {room}\n" for room in ROOMS)
    more = "".join(f"import {room}; assert {room}.VALUE\n" for room in ROOMS)
    assert ran(tmp_path, more) == SAID + mine
    before = "".join(f"import {room}\n" for room in ROOMS)
    assert ran(tmp_path, "", before) == mine + SAID


@pytest.mark.parametrize("room", ROOMS)
def test_one_of_them_or_a_folder_breaks_nothing_either(tmp_path, room):
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").write_text("raise SystemExit('not mine to import')")
    assert ran(tmp_path, "") == SAID


ENVIRONMENTS = """
import gymnasium as gym

env = gym.make("coinfer.gym:coinfer/FrameStream-v0", scenario="3g-alexnet")
env.reset(seed=0)
print(env.step(0)[1] >= 0)
many = gym.make_vec("coinfer/ClosedLoop-v0", 2, vectorization_mode="vector_entry_point")
print(many.reset(seed=0)[0] is not None)
from coinfer.gym import FrameStreamEnv
assert isinstance(env.unwrapped, FrameStreamEnv)
"""


def test_the_environments_work_beside_files_of_all_our_names(tmp_path):
    for room in ROOMS:
        (tmp_path / f"{room}.py").write_text(f"print('my {room}')\nVALUE = '{room}'\n")
    more = ENVIRONMENTS + "import models; assert models.VALUE == 'models'\n"
    assert ran(tmp_path, more) == SAID + "True\nTrue\nmy models\n"


def test_a_policy_s_export_is_found_beside_them(tmp_path):
    (tmp_path / "models.py").write_text("VALUE = 1\n")
    assert ran(tmp_path, "from coinfer import export_policy; print(export_policy.__name__)") == (
        SAID + "export_policy\n"
    )


@pytest.mark.parametrize(
    ("theirs", "named"),
    [("models", "controller.plans"), ("controller", "envs.single"), ("envs", "experiments.demo")],
)
def test_an_import_from_our_rooms_names_the_file_that_hides_one(tmp_path, theirs, named):
    (tmp_path / f"{theirs}.py").write_text("")
    (tmp_path / "script.py").write_text(f"import {named}\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert f"the name '{theirs}': found {tmp_path / theirs}.py first, expected coinfer's" in last


def test_the_command_names_the_file_that_hides_a_room(tmp_path):
    (tmp_path / "models.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", "plan", "--scenario", "3g-alexnet",
         "--bandwidth", "2"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"coinfer: the name 'models': found {tmp_path / 'models.py'} first" in done.stderr


@pytest.mark.parametrize(
    "more", ["", "import coinfer.gym\n", "import artefacts, controller.plans\n"]
)
def test_an_installation_is_used_through_a_link_to_it(tmp_path, more):
    version = tmp_path / "coinfer-0.1.0"
    version.mkdir()
    for name in ("coinfer", *ROOMS):
        (version / name).symlink_to(ROOT / name)
    (tmp_path / "copy").symlink_to(ROOT)
    (tmp_path / "served").symlink_to(version.name)
    for reached in ("served", "copy"):
        done = subprocess.run(
            [sys.executable, "-c", f"import coinfer.rooms\n{more}from coinfer import Client\n"
             "from coinfer.rooms import room_module\n"
             "print(room_module('artefacts.errors').__name__)"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / reached)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "artefacts.errors\n"


def test_without_such_files_there_is_one_class_of_each_error(tmp_path):
    more = (
        "import artefacts, controller.daemon.client\n"
        "assert artefacts.CoinferError is CoinferError\n"
        "assert controller.daemon.client.DeviceError is DeviceError\n"
    )
    assert ran(tmp_path, more) == SAID


def test_the_page_of_python_has_an_entry_of_every_public_name():
    page = (ROOT / "docs/reference/python.md").read_text()
    lines = re.findall(r"members: \[(.*)\]", page)
    shown = {name.strip() for line in lines for name in line.split(",")}
    assert set(coinfer.__all__) - {"__version__"} <= shown
