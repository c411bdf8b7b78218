"""Every name that code imports from our rooms is there: also in tests, and in programs in strings.

mypy reads neither tests nor the programs that they start by `python -c`.
"""

import ast
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
PROGRAM = re.compile(r"from ([\w.]+) import (\w+(?:, \w+)*)|(?<![\w.])import ([\w.]+\.\w+)")
FILES = sorted(
    p for folder in ("tests", "examples", *ROOMS) for p in (ROOT / folder).rglob("*.py")
)  # fmt: skip


@cache
def is_there(module, name):
    found = importlib.import_module(module)
    return name is None or hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}")


def ours(module):
    return bool(module) and module.split(".")[0] in ROOMS


def imported(tree):
    """(module, name) of every import from our rooms, also of programs in strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and ours(node.module):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for module, names, whole in PROGRAM.findall(node.value):
                if ours(module):
                    yield from ((module, name) for name in names.split(", "))
                elif ours(whole):
                    yield whole, None


@pytest.mark.slow
def test_what_is_imported_is_there():
    missing = []
    for file in FILES:
        for module, name in imported(ast.parse(file.read_text())):
            try:
                known = is_there(module, name)
            except ImportError:
                known = False
            if not known:
                missing.append(f"{file.relative_to(ROOT)}: from {module} import {name}")
    assert not missing
