"""Executors side by side on one branch: latency as ratios of a baseline timed in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import onnxruntime

from controller.runtime.executors import OnnxExecutor, TorchExecutor
from models.cards import Model
from models.onnx_graph import interval_model
from models.outcomes import QUANTISED, Outcomes

WARMUP = 10


class ExecutorRow(msgspec.Struct, frozen=True):
    """One way to compute a whole branch on one thread; `ratio` to ONNX Runtime's plain session."""

    value: float
    unit: str
    baseline: str
    ratio: float
    accuracy: float | None


def executor_rows(
    model: Model,
    outcomes: Outcomes,
    branch: int,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, ExecutorRow]:
    """Median milliseconds of the executors, taking turns so that all meet the same machine."""
    import torch

    torch.set_num_threads(1)
    stop = len(model.spec.branches[branch])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    plain = onnxruntime.InferenceSession(
        interval_model(model.spec, model.state, branch, 0, stop), options
    )
    onnx, quantised = OnnxExecutor(model), OnnxExecutor(model, precision="int8")
    eager = TorchExecutor(model)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, *model.spec.input_shape[1:], 3)).astype(np.uint8)
    x = model.normalise(pictures)
    runs: dict[str, Callable[[], object]] = {
        "session": lambda: plain.run(None, {"x": x}),
        "onnx": lambda: onnx.run(branch, 0, stop, x),
        "onnx-int8": lambda: quantised.run(branch, 0, stop, x),
        "torch": lambda: eager.run(branch, 0, stop, x),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-WARMUP, repeats):
        for name, run in runs.items():
            begun = clock()
            run()
            if turn >= 0:
                times[name].append(clock() - begun)
    median = {name: float(np.median(seen)) for name, seen in times.items()}
    exact = outcomes.accuracy(branch, half="report")
    small = outcomes.accuracy(branch, QUANTISED, 0, "report")
    accuracy = {"session": exact, "onnx": exact, "onnx-int8": small, "torch": exact}
    return {
        name: ExecutorRow(1e3 * m, "ms", "session", m / median["session"], accuracy[name])
        for name, m in median.items()
    }
