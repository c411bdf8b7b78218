"""Python that pages show does what the page says: it is taken from the page and run."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from docstring_rule import public_functions, unnamed_anywhere

from coinfer.documentation.shown import ROOT, blocks
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
def test_the_controller_of_the_page_runs_in_a_comparison(tmp_path):
    source = python_of(DOCS / "how-to/own-controller.md", "class Careful")
    (tmp_path / "careful.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.main", "compare", "--scenario", "lte-mobilenet",
         "--frames", "40", "--controllers", "device-only,careful:make", "--json"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=150,
        env=os.environ | {"COINFER_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["controllers"]["careful:make"]
    assert found["bytes_per_frame"] > 0
    assert 0.5 < found["goodput_accuracy"] < 1.0


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
    assert np.shape(space["observation"]) == (222,)
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
