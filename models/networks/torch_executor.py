"""torch on the CPU as an executor, and executors by name with torch among them.

torch is imported only when its executor is made.
"""

from __future__ import annotations

import numpy as np

from artefacts import UsageError, usable_cpus, without_package
from artefacts.arrays import Float32s
from models.executors import Executor, PacedExecutor, make_executor
from models.executors.interface import CodingExecutor, check_shape
from models.executors.making import PRECISION_OF
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.facts.profiles import Profile


class TorchExecutor(CodingExecutor):
    """torch on the CPU; imported only when made.

    torch has one number of threads in a process: `threads` sets it (None: leaves it as it is).
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        try:
            import torch

            from models.networks.network import BranchyNetwork
        except ModuleNotFoundError as error:
            raise without_package("executor 'torch'", error.name, "torch") from None
        super().__init__(model)
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._network = BranchyNetwork(model.spec)
        self._network.load_folded(model.parameters)
        self._network.eval()

    def warm(self, branch: int, start: int, stop: int) -> None:
        """Run an interval once."""
        shape = self.model.spec.shapes[branch][start]
        self.run(branch, start, stop, np.zeros((1, *shape), dtype=np.float32))

    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer alone."""
        with self._torch.inference_mode():
            y = self._network.layer(layer.name)(self._torch.from_numpy(np.array(x)))
        return np.asarray(y.numpy(), dtype=np.float32)

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute the interval. See `Executor.run`."""
        check_shape(self.model, branch, start, x)
        with self._torch.inference_mode():
            y = self._network.run_interval(self._torch.from_numpy(x), branch, start, stop)
        return np.asarray(y.numpy(), dtype=np.float32)


def any_executor(
    name: str, model: Model, threads: int | None = None, pace: Profile | None = None
) -> Executor:
    """An executor by name: 'torch', or one of `make_executor`'s.

    `name` is one of these, `model` what is computed, on `threads` (None: half of the processors
    that this process may use). With `pace` it takes as long as that profile says.
    """
    made: Executor
    if name == "torch":
        made = TorchExecutor(model, max(1, usable_cpus() // 2) if threads is None else threads)
    elif name in PRECISION_OF:
        made = make_executor(name, model, threads)
    else:
        raise UsageError(f"executor: found '{name}', expected {', '.join(PRECISION_OF)} or torch")
    return made if pace is None else PacedExecutor(made, pace)
