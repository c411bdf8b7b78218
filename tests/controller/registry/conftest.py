"""Packages of others, installed for one test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HERMIT = '''
"""A controller for ever on the device."""

from controller.planners.fixed import device_only_plan
from controller.registry import ControllerEntry


class Hermit:
    name = "hermit"
    initial_probe_bytes = 0

    def __init__(self, plan):
        self.plan = plan

    def reset(self):
        pass

    def observe(self, measurement):
        pass

    def record(self, result):
        pass

    def decide(self, situation):
        return self.plan


def make(inputs):
    """Never leaves the device."""
    return Hermit(device_only_plan(inputs.setting))


def nothing(inputs):
    return object()


def broken(inputs):
    raise KeyError("no such thing")


def lost(inputs):
    return Hermit(10**6)


def vague(inputs):
    return Hermit(0.5)


def does(method, error):
    def call(*args):
        raise error

    def make(inputs):
        made = make_hermit(inputs)
        setattr(made, method, call)
        return made

    return make


make_hermit = make
undecided = does("decide", ValueError("two\\nlines"))
leaving = does("decide", SystemExit(7))
unready = does("reset", OSError("no state"))
deaf = does("record", KeyError("frame"))

def checks(setting):
    raise ZeroDivisionError("in a check")


unchecked = ControllerEntry("unchecked", "alone:make", check="alone:checks")

LIST = ["make"]
'''


@pytest.fixture
def hermit():
    """The text of a module with good factories and bad ones."""
    return HERMIT


@pytest.fixture
def installed(tmp_path):
    """`installed(package, module text, {controller: value}, ...)`: the folder it lies in."""

    def install(package, text, points):
        site = tmp_path / "site"
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text(text)
        about = site / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        listed = "".join(f"{name} = {value}\n" for name, value in points.items())
        (about / "entry_points.txt").write_text(f"[coinfer.controllers]\n{listed}")
        return site

    return install


def environment(site):
    """Of a process that sees the packages of a folder."""
    places = [str(p) for p in (site, ROOT) if p is not None]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places)}


@pytest.fixture
def coinfer(forked):
    """`coinfer(site, *argv)`: a command of a process that sees the packages of a folder."""

    def run(site, *argv, cwd=None):
        return forked("coinfer.cli.main", *argv, cwd=cwd, env=environment(site))

    return run


@pytest.fixture
def started():
    """The same by an interpreter of its own, which does not look into its folder by itself."""

    def run(site, *argv, cwd=None):
        return subprocess.run(
            [sys.executable, "-P", "-m", "coinfer.cli.main", *map(str, argv)],
            capture_output=True, text=True, check=False, env=environment(site), cwd=cwd,
            timeout=170,
        )  # fmt: skip

    return run
