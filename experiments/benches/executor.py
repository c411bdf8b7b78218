"""Executors side by side on one branch: latency as ratios of a baseline timed in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from models.executors import OnnxExecutor
from models.facts.cards import Model
from models.facts.outcomes import QUANTISED, Outcomes
from models.graphs.onnx_runtime import onnxruntime
from models.networks.torch_executor import TorchExecutor

WARMUP = 10


class ExecutorRow(msgspec.Struct, frozen=True):
    """One way to compute a whole branch on one thread; `ratio` to a plain session of ONNX Runtime
    over the branch as torch's own exporter writes it, uncut.
    """

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
    """Median milliseconds of the executors, taking turns so that all meet the same machine.

    `model` is run to exit `branch`, from 0, `repeats` times; accuracies are those of `outcomes`;
    `clock` gives seconds.
    """
    import torch

    torch.set_num_threads(1)
    stop = len(model.spec.branches[branch])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    plain = onnxruntime.InferenceSession(_uncut(model, branch), options)
    (given,) = (i.name for i in plain.get_inputs())
    onnx, quantised = OnnxExecutor(model), OnnxExecutor(model, precision="int8")
    eager = TorchExecutor(model)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, *model.spec.input_shape[1:], 3)).astype(np.uint8)
    x = model.normalise(pictures)
    runs: dict[str, Callable[[], object]] = {
        "session": lambda: plain.run(None, {given: x}),
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


def _uncut(model: Model, branch: int) -> bytes:
    """A branch as torch exports it: none of our graphs, none of our cuts."""
    import torch

    from models.capture.lower import export_onnx
    from models.networks.network import BranchyNetwork

    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    stop = len(model.spec.branches[branch])

    class Branch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network.run_interval(x, branch, 0, stop)

    example = torch.zeros(2, *model.spec.input_shape)
    graph: bytes = export_onnx(Branch(), example, model.spec.name).SerializeToString()
    return graph
