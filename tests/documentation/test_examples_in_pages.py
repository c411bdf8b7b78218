"""Python that pages show does what the page says: it is taken from the page and run."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from docstring_rule import public_functions, unnamed_anywhere

from coinfer.documentation.shown import ROOT, blocks
from controller.interface import Controller, Measurement, Situation
from controller.registry import SHIPPED, ControllerEntry
from controller.scenarios import load_setting, read_scenario

DOCS = ROOT / "docs"


def python_of(page: Path, containing: str) -> str:
    """The one block of Python on a page that contains a text."""
    (found,) = [b for lang, b in blocks(page.read_text()) if lang == "python" and containing in b]
    return found


def test_the_first_plans_from_python_print_what_is_shown():
    page = DOCS / "tutorials/first-plan.md"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(python_of(page, "latency_s.argmin"), {})
    shown = [block.strip() for _, block in blocks(page.read_text())]
    assert printed.getvalue().strip() in shown


@pytest.mark.system
def test_the_controller_of_the_page_runs_in_a_comparison(forked, tmp_path):
    source = python_of(DOCS / "how-to/own-controller.md", "class Careful")
    (tmp_path / "careful.py").write_text(source)
    done = forked(
        "coinfer.cli.main", "compare", "--scenario", "lte-mobilenet", "--frames", "40",
        "--controllers", "device-only,careful:make", "--json", cwd=tmp_path,
        env=os.environ | {"COINFER_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["controllers"]["careful:make"]
    assert found["bytes_per_frame"] > 0
    assert 0.5 < found["goodput_accuracy"] < 1.0


def typed_controller(tmp_path: Path) -> Path:
    """The skeleton of a controller inside the repository, as a file."""
    path = tmp_path / "quickest.py"
    path.write_text(python_of(DOCS / "how-to/own-controller.md", "class Quickest"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "tool",
    ["mypy --config-file", "ruff check --config", "ruff format --check --config"],
)
def test_the_typed_controller_of_the_page_passes_the_linters(tmp_path, tool):
    done = subprocess.run(
        [sys.executable, "-m", *tool.split(), str(ROOT / "pyproject.toml"),
         str(typed_controller(tmp_path))],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=170,
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_typed_controller_of_the_page_takes_the_quickest_plan(tmp_path):
    setting = load_setting(read_scenario("lte-mobilenet"))
    space: dict[str, Any] = {"__name__": "quickest"}
    exec(typed_controller(tmp_path).read_text(), space)
    controller: Controller = space["quickest"](SimpleNamespace(setting=setting))
    situation = Situation(0.0, 0, setting.scenario.frames.deadline_s, 0.0, 0, 0.03)
    table = setting.table
    assert table.local[controller.decide(situation)]
    controller.observe(Measurement(0.0, 1_000_000, 0.08))
    assert controller.decide(situation) == np.argmin(table.latency_s(1e8, 0.03))
    assert not table.local[controller.decide(situation)]
    controller.reset()
    assert table.local[controller.decide(situation)]
    runtime_imports = [
        node.module
        for node in ast.parse(typed_controller(tmp_path).read_text()).body
        if isinstance(node, ast.ImportFrom)
    ]
    assert not [name for name in runtime_imports if name and "registry" in name]


def test_the_entry_of_the_page_is_one_that_the_registry_takes():
    source = python_of(DOCS / "how-to/own-controller.md", "ControllerEntry(")
    (entry,) = eval(f"({source})", {"ControllerEntry": ControllerEntry})
    assert re.fullmatch("#[0-9a-f]{6}", entry.colour)
    assert entry.colour not in {other.colour for other in SHIPPED}
    assert entry.name not in {other.name for other in SHIPPED}
    assert entry.factory == "controller.planners.quickest:quickest"


def test_the_codec_of_the_page_names_its_parameters():
    source = python_of(DOCS / "how-to/own-codec.md", "class UpperHalf")
    found = {name: unnamed_anywhere(f) for name, f in public_functions(ast.parse(source).body)}
    assert "UpperHalf.decode" in found
    assert {name: left for name, left in found.items() if left} == {}


def test_the_codec_of_the_page_keeps_what_codecs_promise(tmp_path):
    path = tmp_path / "bfloat.py"
    path.write_text(python_of(DOCS / "how-to/own-codec.md", "class UpperHalf"))
    spec = importlib.util.spec_from_file_location("bfloat", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (family,) = module.FAMILIES
    codec = family.named("bfloat16")
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    encoded = codec.encode(array)
    assert len(encoded.data) == codec.size(array.shape) == 2 * array.size
    back = codec.decode(encoded.meta, encoded.data, array.shape)
    assert back.dtype == np.float32
    assert np.abs(back - array).max() <= np.abs(array).max() / 128
    assert family.named("float32") is None


def test_the_environment_of_the_page_takes_a_step():
    pytest.importorskip("gymnasium")
    space: dict[str, object] = {}
    exec(python_of(DOCS / "how-to/own-policy.md", "gymnasium.make"), space)
    assert np.shape(space["observation"]) == (228,)
    assert 0 <= float(space["reward"]) <= 1  # type: ignore[arg-type]


def test_the_topology_of_the_page_is_a_scenario_of_format_2(tmp_path):
    (text,) = [
        b for lang, b in blocks((DOCS / "how-to/scenario.md").read_text())
        if lang == "toml" and "[[topology.nodes]]" in b
    ]  # fmt: skip
    path = tmp_path / "steady.toml"
    path.write_text(text)
    setting = load_setting(read_scenario(path))
    assert {hop.node for plan in setting.table.plans for hop in plan.hops} == {"server"}
    assert setting.traces("test").source == "a constant rate of 2 Mbit/s"
    assert setting.scenario.device_slowdown == 1.25
