"""`BranchyNetwork`: a `BranchySpec` as torch modules, runnable by branch and layer interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.modules import answers, evaluated
from models.capture.reference import Seen
from models.capture.verification import sample_batches, tensor_of, verify
from models.facts.branchy import BranchySpec
from models.facts.layers import LayerSpec, Shape
from models.networks.segments import Segment


class ChannelNorm(nn.Module):
    """Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).

    Equal to `torch.nn.LocalResponseNorm`, written as a sum of shifted squares because torch's
    own goes through a padded 3-D pooling that dominated the training step (measured).
    """

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = layer.size, layer.alpha, layer.beta, layer.k

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...) over a window of `size` channels."""
        before = self.size // 2
        padding = [0] * (2 * (x.dim() - 2)) + [before, self.size - 1 - before]
        squares = nn.functional.pad(x * x, padding)
        channels = x.shape[1]
        total = squares[:, :channels]
        for shift in range(1, self.size):
            total = total + squares[:, shift : shift + channels]
        return x / (self.k + self.alpha / self.size * total) ** self.beta


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x.flatten(1))
        return result


def layer_module(layer: LayerSpec, shape: Shape, *, batch_norm: bool = False) -> nn.Module:
    """The torch module of one layer for inputs of `shape` (one sample, no batch).

    With `batch_norm` a conv is followed by a batch normalisation that `folded_state` removes: the
    layer list stays the published one, and training is faster (Jacob et al. 2018, section 3.2).
    """
    if layer.segment is not None:
        return Segment(layer.name, layer.segment)
    if layer.kind == "conv":
        conv = nn.Conv2d(
            shape[0], layer.channels, layer.kernel, layer.stride, layer.padding, bias=not batch_norm
        )
        return nn.Sequential(conv, nn.BatchNorm2d(layer.channels)) if batch_norm else conv
    if layer.kind == "relu":
        return nn.ReLU()
    if layer.kind == "pool":
        pool = nn.MaxPool2d if layer.pool_mode == "max" else nn.AvgPool2d
        return pool(layer.kernel, layer.stride, layer.padding)
    if layer.kind == "lrn":
        return ChannelNorm(layer)
    if layer.kind == "flatten":
        return nn.Flatten()
    if layer.kind == "dropout":
        return nn.Dropout(layer.rate)
    inputs = layer.parameter_shapes(shape)["weight"][1]
    return _Dense(inputs, layer.channels)


class BranchyNetwork(nn.Module):
    """A branchy network whose every branch and layer interval can be run on its own."""

    def __init__(self, spec: BranchySpec, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.batch_norm = batch_norm
        self.exit_count, self.identity = len(spec.exits), spec.digest
        modules: dict[str, nn.Module] = {}
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True):
            for layer, shape in zip(branch, shapes, strict=False):
                if layer.name not in modules:
                    modules[layer.name] = layer_module(layer, shape, batch_norm=batch_norm)
        for b in spec.bottlenecks:
            modules |= {x.name: layer_module(x, ()) for x in (b.encoder, b.decoder)}
        self._names = {name: name.replace(".", "_") for name in modules}
        self.layers = nn.ModuleDict({self._names[name]: m for name, m in modules.items()})

    def layer(self, name: str) -> nn.Module:
        """The module of the layer called `name`."""
        return self.layers[self._names[name]]

    def run_interval(self, x: Tensor, branch: int, start: int, stop: int) -> Tensor:
        """Layers [start, stop) of a branch on a batch `x` (N, *shape before layer `start`).

        `branch` is the exit, from 0; `stop` is not included.
        """
        layers = self.spec.interval(branch, start, stop)
        expected = self.spec.shapes[branch][start]
        if tuple(x.shape[1:]) != expected:
            raise UsageError(
                f"network '{self.spec.name}', exit {branch + 1}, layer {start}: found a batch of "
                f"shape {tuple(x.shape)}, expected (N, {', '.join(map(str, expected))})"
            )
        for layer in layers:
            x = self.layer(layer.name)(x)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (N, classes) of every exit; the trunk is computed once."""
        logits: list[Tensor] = []
        done = 0
        for exit_spec in self.spec.exits:
            for layer in self.spec.trunk[done : exit_spec.after]:
                x = self.layer(layer.name)(x)
            done = exit_spec.after
            branch = x
            for layer in exit_spec.head:
                branch = self.layer(layer.name)(branch)
            logits.append(branch)
        return logits

    def folded_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Parameters as `{layer.weight, layer.bias}`, any batch normalisation folded into convs."""
        state: dict[str, npt.NDArray[np.float32]] = {}
        for name in self._names:
            module = self.layer(name)
            for key, tensor in _parameters_of(module).items():
                state[f"{name}.{key}"] = tensor.detach().float().cpu().contiguous().numpy()
        return state

    def load_folded(self, state: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Set the parameters from `folded_state`'s form (the network must have no batch norm)."""
        with torch.no_grad():
            for name in self._names:
                for key, tensor in _parameters_of(self.layer(name)).items():
                    tensor.copy_(torch.from_numpy(np.array(state[f"{name}.{key}"])))


def _parameters_of(module: nn.Module) -> dict[str, Tensor]:
    if isinstance(module, Segment):
        return {key: module.parameter(key) for key in module.keys}
    if isinstance(module, nn.Sequential):
        conv, norm = module
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * scale[:, None, None, None]
        return {"weight": weight, "bias": norm.bias - norm.running_mean * scale}
    if isinstance(module, _Dense):
        module = module.linear
    if isinstance(module, nn.Conv2d | nn.Linear):
        assert module.bias is not None
        return {"weight": module.weight, "bias": module.bias}
    return {}


@dataclass(frozen=True, eq=False)
class LayersReference:
    """What a network of layers computes in torch, layer by layer: the other side of its graphs.

    Batch normalisation is computed here; the graphs have it folded into the convolutions.
    """

    network: BranchyNetwork

    def exits(self, x: Tensor) -> list[Tensor]:
        """Scores of every exit."""
        return answers(self.network, x)

    def inside(self, x: Tensor, seen: Seen) -> None:
        """What every layer gives, by the layer's name."""
        spec, network = self.network.spec, self.network
        with evaluated(network), torch.inference_mode():
            trunk = [x]
            for layer in spec.trunk:
                trunk.append(network.layer(layer.name)(trunk[-1]))
                seen(tensor_of(layer), trunk[-1])
            for exit_spec in spec.exits:
                head = trunk[exit_spec.after]
                for layer in exit_spec.head:
                    head = network.layer(layer.name)(head)
                    seen(tensor_of(layer), head)

    def rounding(self, x: Tensor) -> tuple[list[float], dict[str, float]]:
        """Not measured: a few layers stay within the tolerance."""
        return [], {}


def folded_network(
    network: BranchyNetwork, samples: Tensor | None = None
) -> tuple[BranchySpec, dict[str, npt.NDArray[np.float32]]]:
    """A trained network's layers and folded weights, verified layer by layer against itself.

    With made-up samples, and the first of `samples` (N, ...) where they are given. Raises
    `UsageError` with the first layer whose graph does not compute what torch computes.
    """
    spec, state = network.spec, network.folded_state()
    verify(spec, state, LayersReference(network), sample_batches(spec.input_shape, samples))
    return spec, state
