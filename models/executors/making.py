"""Executors by name."""

from __future__ import annotations

from collections.abc import Collection

from artefacts import UsageError, usable_cpus
from models.executors.onnx import MOST_SESSIONS, OnnxExecutor
from models.executors.torch_eager import TorchExecutor
from models.facts.cards import Model


def make_executor(
    name: str,
    model: Model,
    threads: int | None = None,
    seams: Collection[int] = (),
    most: int = MOST_SESSIONS,
) -> OnnxExecutor | TorchExecutor:
    """An executor by name: 'onnx', 'onnx-int8' or 'torch'.

    It computes on `threads`, or on half of the processors that this process may use.

    `name` is one of these, `model` what is computed. At `seams` (trunk layers) ONNX Runtime's
    intervals are run piece by piece, and it holds `most` sessions.
    """
    threads = max(1, usable_cpus() // 2) if threads is None else threads
    if name in ("onnx", "onnx-int8"):
        precision = "int8" if name == "onnx-int8" else "float32"
        return OnnxExecutor(model, threads, precision, seams, most)
    if name == "torch":
        return TorchExecutor(model, threads)
    raise UsageError(f"executor: found '{name}', expected onnx, onnx-int8 or torch")
