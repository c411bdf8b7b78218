"""ONNX Runtime is imported in one place, with its telemetry off."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[3]
ROOMS = ("artefacts", "coinfer", "controller", "envs", "experiments", "models", "tests", "traces")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_every_import_goes_through_one_module():
    found = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if any(name.split(".")[0] == "onnxruntime" for name in imported(path))
    }
    assert found == {"models/graphs/onnx_runtime.py"}


def test_an_import_and_a_run_leave_no_file_behind(tmp_path):
    run = (
        "from models.graphs.onnx_runtime import onnxruntime, quantization\n"
        "from onnx import TensorProto, helper\n"
        "info = helper.make_tensor_value_info\n"
        "node = helper.make_node('Relu', ['x'], ['y'])\n"
        "io = [info(n, TensorProto.FLOAT, [2]) for n in 'xy']\n"
        "made = helper.make_model(helper.make_graph([node], 'g', io[:1], io[1:]), ir_version=10,\n"
        "  opset_imports=[helper.make_opsetid('', 20)])\n"
        "session = onnxruntime.InferenceSession(made.SerializeToString())\n"
        "import numpy; print(session.run(None, {'x': numpy.ones(2, dtype='f')})[0].sum())\n"
        "quantization()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    # whoever asks for telemetry gets none either: SECURITY.md holds for every start
    environment |= {"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0", "CI": ""}
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, env=environment, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
