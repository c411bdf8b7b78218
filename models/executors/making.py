"""Executors by name: those that a device and an edge have."""

from __future__ import annotations

import math
from collections.abc import Collection

from artefacts import UsageError, usable_cpus
from models.executors.onnx import MOST_SESSIONS, OnnxExecutor
from models.facts.cards import Model

PRECISION_OF = {"onnx": "float32", "onnx-int8": "int8"}
"""Of the executors, by name."""


def make_executor(
    name: str,
    model: Model,
    threads: int | None = None,
    seams: Collection[int] = (),
    most: int = MOST_SESSIONS,
    most_bytes: float = math.inf,
) -> OnnxExecutor:
    """ONNX Runtime by name: 'onnx' or 'onnx-int8' (`models.networks.torch_executor` has torch too).

    It computes on `threads`, or on half of the processors that this process may use.

    `name` is one of these, `model` what is computed. At `seams` (trunk layers) intervals are run
    piece by piece, and it holds `most` sessions, with `most_bytes` of weights in all. `UsageError`
    for a name that is not known, and for a network whose weights are not there yet.
    """
    if name not in PRECISION_OF:
        raise UsageError(f"executor: found '{name}', expected {' or '.join(PRECISION_OF)}")
    model.require_parameters()  # now, and not when the first frame is computed
    threads = max(1, usable_cpus() // 2) if threads is None else threads
    return OnnxExecutor(model, threads, PRECISION_OF[name], seams, most, most_bytes)
