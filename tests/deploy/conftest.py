"""What is deployed, as files: the Dockerfile's stages, the compose file."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def instructions(text):
    """(name, rest) of every instruction: comments are left out, continued lines are joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="session")
def stages():
    """By name: what a stage is built from, and its own instructions."""
    found, now = {}, None
    for name, rest in instructions((DEPLOY / "Dockerfile").read_text()):
        if name == "FROM":
            base, _, named = rest.split()
            now = found[named] = SimpleNamespace(base=base, own=[])
        elif now is not None:
            now.own.append((name, rest))
    return found


@pytest.fixture(scope="session")
def inherited(stages):
    """All instructions of a stage and of those it is built from, as the image has them."""

    def collect(name):
        stage = stages[name]
        return [*(collect(stage.base) if stage.base in stages else []), *stage.own]

    return collect


@pytest.fixture(scope="session")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def words():
    return shlex.split
