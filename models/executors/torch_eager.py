"""torch on the CPU as an executor; torch is imported only when one is made."""

from __future__ import annotations

import numpy as np

from artefacts import DependencyError
from artefacts.arrays import Float32s
from models.executors.interface import CodingExecutor, check_shape
from models.facts.cards import Model
from models.facts.layers import LayerSpec


class TorchExecutor(CodingExecutor):
    """torch on the CPU; imported only when made.

    torch has one number of threads in a process: `threads` sets it (None: leaves it as it is).
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        try:
            import torch

            from models.networks.network import BranchyNetwork
        except ModuleNotFoundError as error:
            raise DependencyError(
                f"executor 'torch': found no package '{error.name}', expected pip install -e "
                "'.[torch]' in coinfer's folder"
            ) from None
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
