"""Whether a network that was cut is the torch module it was made from: samples through both.

Every stretch is run alone, one after the other, and every branch as one graph, on batches of one
and of three. The scores of every exit are held against the module's own. What crosses inside is
held against what torch's exported program computes there: by the tensor's name, which the exporter
keeps, or, where a rewritten graph has moved it, by any value of the same shape that it equals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.capture.comparison import TOLERANCE, difference
from models.capture.modules import answers
from models.capture.reference import Reference
from models.codecs.crossing import first
from models.data.pictures import generated_pictures
from models.facts.branchy import BranchySpec
from models.facts.layers import LayerSpec, Shape
from models.graphs.onnx_graph import State, chain_model, interval_model
from models.graphs.onnx_runtime import onnxruntime

BATCHES = (1, 3)
"""Sizes of the batches that are run: one sample alone, and several."""
ROUNDINGS = 10.0
"""A difference of so many times the module's own (float32 against float64) is rounding, too."""
MOST_ROUNDING = 2e-3
"""That rounding may explain at all: the least true fault that was seen is twice as much. A
module that rounds worse looks like one that was lowered wrongly."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found: differences as shares of each tensor's greatest magnitude."""

    exits: float
    """Greatest of the exits' scores."""
    inside: float
    """Greatest of the tensors that cross and were found in torch's program."""
    matched: int
    """Tensors that cross and were found there."""
    crossings: int
    """Tensors that cross inside the network."""


def sample_batches(
    shape: Shape, real: Tensor | None = None, *, made_up: bool = True
) -> list[Tensor]:
    """Batches of one and of three: made-up pictures, noise, and of `real` (N, ...) the first few.

    Inputs of three channels or one, and two sides, get pictures; others get uniform noise. Without
    `made_up` there are the `real` ones alone.
    """
    if not made_up:
        assert real is not None
        return [real[:size].contiguous() for size in BATCHES if size <= len(real)]
    rng = np.random.default_rng(0)
    count = max(BATCHES)
    noise = rng.normal(0.0, 1.0, (count, *shape)).astype(np.float32)
    smooth = rng.uniform(0.0, 1.0, (count, *shape)).astype(np.float32)
    if len(shape) == 3 and shape[0] in (1, 3):
        side = max(shape[1:])
        made = generated_pictures(count, rng, side)[:, : shape[1], : shape[2], : shape[0]]
        smooth = made.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)
    found = [torch.from_numpy(np.ascontiguousarray(x)) for x in (smooth, noise)]
    if real is not None and len(real):
        found.append(real[:count].contiguous())
    return [x[:size] for x in found for size in BATCHES if size <= len(x)]


def verify(
    spec: BranchySpec,
    state: State,
    reference: Reference,
    batches: Sequence[Tensor],
    tolerance: float = TOLERANCE,
) -> Verified:
    """Refuses, in one line with the first stretch, a network that differs from its module.

    `batches`: inputs (N, ...) float32. A difference above `tolerance` stands only where the
    module's own rounding does not explain it. Raises `UsageError`.

    `spec` and `state` are the network's architecture and weights, `reference` runs the module.
    """
    ran = _Stretches(spec, state)
    values = ran.values([x.numpy() for x in batches])
    exits, inside, matched = 0.0, 0.0, len(ran.layers)
    for x, crossing in zip(batches, values, strict=True):
        near = _Nearest(ran.carried(crossing), {x.name: tensor_of(x) for x in ran.layers})
        reference.inside(x, near.see)
        wanted = reference.exits(x)
        if len(wanted) != len(spec.exits):
            raise UsageError(
                f"model '{spec.name}': found {len(wanted)} outputs, expected {len(spec.exits)}"
            )
        rounding = _Rounding(reference, x, tolerance)
        for branch, right in enumerate(wanted):
            exits = max(exits, _branch(spec, branch, crossing, near, right, rounding))
        same = [found for found in near.best.values() if found <= tolerance]
        inside, matched = max([inside, *same]), min(matched, len(same))
    exits = max(exits, _whole_branches(spec, ran, reference, batches, tolerance))
    return Verified(exits, inside, matched, len(ran.layers))


class _Rounding:
    """How far from torch's values others may lie: computed only where it is asked for."""

    def __init__(self, reference: Reference, x: Tensor, tolerance: float) -> None:
        self._reference, self._x, self.tolerance = reference, x, tolerance

    @cached_property
    def _own(self) -> tuple[list[float], dict[str, float]]:
        return self._reference.rounding(self._x)

    def explains(self, found: float, tensor: str) -> bool:
        """Whether a difference of a tensor inside is one of rounding."""
        return found <= self.tolerance or self._explains(found, self._own[1].get(tensor, 0.0))

    def explains_exit(self, found: float, branch: int) -> bool:
        """The same for an exit's scores."""
        if found <= self.tolerance:
            return True
        own = self._own[0]
        return branch < len(own) and self._explains(found, own[branch])

    @staticmethod
    def _explains(found: float, own: float) -> bool:
        return found <= min(ROUNDINGS * own, MOST_ROUNDING)


def verify_layer(layer: LayerSpec, shape: Shape, state: State, reference: Reference) -> float:
    """The same for a module of one output that is one stretch; gives its greatest difference.

    `layer` takes one sample of `shape`, with its weights in `state`; `reference` runs the module.
    """
    graph = chain_model(layer.name, [layer], (shape, layer.output_shape(shape)), state)
    return _one_graph(graph, shape, reference, f"stretch '{layer.name}'")


def verify_graph(proto: onnx.ModelProto, reference: Reference, name: str) -> float:
    """The same for a whole exported model of one output."""
    sizes = proto.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(int(d.dim_value) for d in sizes[1:])
    return _one_graph(proto.SerializeToString(), shape, reference, f"model '{name}'")


def _one_graph(graph: bytes, shape: Shape, reference: Reference, what: str) -> float:
    worst, run = 0.0, _session(graph, what)
    for x in sample_batches(shape):
        found = difference(run(x.numpy()), reference.exits(x)[0])
        if not _Rounding(reference, x, TOLERANCE).explains_exit(found, 0):
            _refuse(found, TOLERANCE, what)
        worst = max(worst, found)
    return worst


Run = Callable[[Float32s], Float32s]


def _session(graph: bytes, what: str) -> Run:
    """A graph as a function; what ONNX Runtime says of it is said in one line."""

    def said(error: Exception) -> UsageError:
        line = " ".join(str(error).split())[:300]
        return UsageError(f"{what}: ONNX Runtime cannot run it: {line}")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, one for every status, and none in common
        raise said(error) from None

    entry = session.get_inputs()[0].name

    def run(x: Float32s) -> Float32s:
        try:
            found: Float32s = session.run(None, {entry: np.ascontiguousarray(x)})[0]
        except Exception as error:
            raise said(error) from None
        return found

    return run


def tensor_of(layer: LayerSpec) -> str:
    """What a layer's output is called in the program that it was exported from."""
    if layer.segment is None:
        return layer.name
    return str(onnx.GraphProto.FromString(layer.segment.graph).output[0].name)


class _Stretches:
    """Every stretch of a network as a graph of its own."""

    def __init__(self, spec: BranchySpec, state: State) -> None:
        self.spec, self.state = spec, state
        heads = [(i, e.after + k) for i, e in enumerate(spec.exits) for k in range(len(e.head))]
        last = len(spec.exits) - 1
        self._places = [(last, k) for k in range(len(spec.trunk))] + heads
        self.layers = [spec.branches[i][k] for i, k in self._places]

    def values(self, batches: Sequence[Float32s]) -> list[dict[str, Float32s]]:
        """What every stretch gives for every batch, by name: each run alone, on what the one
        before it gave.
        """
        found: list[dict[str, Float32s]] = [{"": x} for x in batches]
        for branch, k in self._places:
            spec, layer = self.spec, self.spec.branches[branch][k]
            shapes = spec.shapes[branch][k : k + 2]
            graph = chain_model(layer.name, [layer], shapes, self.state)
            run = _session(graph, f"model '{spec.name}': stretch '{layer.name}'")
            for values in found:
                values[layer.name] = run(values[spec.crossing(branch, k)])
        return found

    def carried(self, values: Mapping[str, Float32s]) -> dict[str, Float32s]:
        """Of what stretches give the tensors that codecs carry."""
        return {
            layer.name: first(
                () if layer.segment is None else layer.segment.gives, values[layer.name]
            )
            for layer in self.layers
        }


class _Nearest:
    """Of every crossing tensor: how near torch's values come to it."""

    def __init__(self, values: Mapping[str, Float32s], names: Mapping[str, str]) -> None:
        self.best: dict[str, float] = dict.fromkeys(names, float("inf"))
        self.named: dict[str, float] = {}
        """Of those that torch's program has under the same name: the difference from that."""
        self._layers = {tensor: layer for layer, tensor in names.items()}
        self._values = {layer: values[layer] for layer in names}
        self._of_shape: dict[tuple[int, ...], list[str]] = {}
        for layer, value in self._values.items():
            self._of_shape.setdefault(value.shape, []).append(layer)

    def see(self, name: str, value: Tensor) -> None:
        """Hold one value of torch's against the crossing tensors of its shape."""
        right = value.numpy(force=True)
        named = self._layers.get(name)
        if named is not None:
            self.named[named] = difference(self._values[named], right)
        for layer in self._of_shape.get(right.shape, ()):
            self.best[layer] = min(self.best[layer], difference(self._values[layer], right))


def _branch(
    spec: BranchySpec,
    branch: int,
    crossing: Mapping[str, Float32s],
    near: _Nearest,
    right: Tensor,
    rounding: _Rounding,
) -> float:
    """The difference of an exit's scores; refuses the branch's first stretch that differs."""
    layers = spec.branches[branch]
    scores = difference(crossing[layers[-1].name if layers else ""], right)
    since = 0
    for k, layer in enumerate(layers):
        if k == len(layers) - 1:
            found, same = scores, rounding.explains_exit(scores, branch)
        else:
            found = near.named.get(layer.name, 0.0)
            same = near.best[layer.name] <= rounding.tolerance
            if not same and layer.name in near.named:
                same = rounding.explains(found, tensor_of(layer))
        if same:
            since = k + 1
        elif found > rounding.tolerance:
            begun = layers[since].name
            where = f"stretch '{begun}'" if since == k else f"stretch '{begun}' to '{layer.name}'"
            _refuse(found, rounding.tolerance, f"model '{spec.name}': {where}")
    return scores


def _whole_branches(
    spec: BranchySpec,
    ran: _Stretches,
    reference: Reference,
    batches: Sequence[Tensor],
    tolerance: float,
) -> float:
    """The greatest difference of branches that are run as one graph each."""
    worst = 0.0
    wanted = [reference.exits(x) for x in batches]
    for branch, layers in enumerate(spec.branches):
        if not layers:
            continue
        what = f"model '{spec.name}': exit {branch + 1} as one graph"
        run = _session(interval_model(spec, ran.state, branch, 0, len(layers)), what)
        for x, right in zip(batches, wanted, strict=True):
            found = difference(run(x.numpy()), right[branch])
            if not _Rounding(reference, x, tolerance).explains_exit(found, branch):
                _refuse(found, tolerance, what)
            worst = max(worst, found)
    return worst


def _refuse(found: float, tolerance: float, what: str) -> None:
    raise UsageError(
        f"{what} differs from the module by {found:.2g} of the greatest score, expected at most "
        f"{tolerance:g}: what the exporter and ONNX Runtime make of it is not what torch computes "
        "(write it otherwise)"
    )


def allowed(found: Verified) -> float:
    """By how much answers to more pictures may differ: the tolerance, or, where rounding explained
    more, twice what it explained.
    """
    return max(TOLERANCE, 2.0 * found.exits)


def verify_answers(
    spec: BranchySpec,
    state: State,
    module: nn.Module,
    batches: Iterable[Tensor],
    tolerance: float = TOLERANCE,
) -> float:
    """Hold the last exit's scores for many pictures against the module's own last output.

    Gives the greatest difference; refuses the first batch that differs. Raises `UsageError`.

    `spec` and `state` are the network's, `module` the torch module. `batches` are inputs (N, ...)
    float32; `tolerance` is the most that scores may differ by (`difference`).
    """
    branch, done, worst = len(spec.exits) - 1, 0, 0.0
    what = f"model '{spec.name}': exit {branch + 1} as one graph"
    run = _session(interval_model(spec, state, branch, 0, len(spec.trunk)), what)
    for x in batches:
        found = difference(run(x.numpy()), answers(module, x)[-1])
        if found > tolerance:
            _refuse(found, tolerance, f"{what}, pictures {done} to {done + len(x) - 1},")
        done, worst = done + len(x), max(worst, found)
    return worst
