"""From a torch module with exits to a `BranchySpec` and its weights: torch is needed only here.

The module is exported to ONNX (batch normalisation folded, constants computed), and the graph is
taken apart: the trunk is what the last output needs, an exit's head what its output needs beyond
it. Both become chains of stretches between places that one tensor crosses, so that whatever plans,
profiles, executes or prices a network of hand-written layers does so for this one too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.dataflow import Crossing, Dataflow
from models.capture.onnx_export import to_onnx
from models.capture.reference import ModuleReference
from models.capture.verification import (
    Verified,
    sample_batches,
    verify,
    verify_graph,
    verify_layer,
)
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec, SegmentSpec

State = dict[str, npt.NDArray[np.float32]]
MOST_CUTS = 24
"""Stretches of a trunk at most: plans grow with their square, gains do not."""
MOST_HEAD_CUTS = 2


def lower(
    module: nn.Module,
    example: Tensor,
    name: str,
    most_cuts: int = MOST_CUTS,
    samples: Tensor | None = None,
) -> tuple[BranchySpec, State]:
    """The architecture and weights of `module` (logits of every exit, or of the only one).

    `example` (N, ...), N >= 2. The result is verified: made-up samples, and the first of `samples`
    (N, ...) where they are given, must get from every stretch what the module gives them. Raises
    `UsageError` naming what cannot be exported or cut, or the first stretch that differs.

    `name` is the network's; in the trunk at most `most_cuts` cuts are kept.
    """
    spec, state, _ = lower_verified(module, example, name, most_cuts, samples)
    return spec, state


def lower_verified(
    module: nn.Module,
    example: Tensor,
    name: str,
    most_cuts: int = MOST_CUTS,
    samples: Tensor | None = None,
    made_up: bool = True,
) -> tuple[BranchySpec, State, Verified]:
    """As `lower`, and what its verification found.

    `module`, `example` (N, ...), `name`, `most_cuts` and `samples` (N, ...) are those of `lower`.
    Without `made_up` only `samples` are tried: of whole numbers few are valid.
    """
    made = to_onnx(module, example, name)
    spec, state = take_apart(made.proto, name, most_cuts)
    reference = ModuleReference(made.module, made.program)
    batches = sample_batches(spec.input_shape, samples, made_up=made_up)
    return spec, state, verify(spec, state, reference, batches)


def lower_stretch(module: nn.Module, example: Tensor, name: str) -> tuple[LayerSpec, State]:
    """A module of one tensor in and one out as one layer called `name`, and its weights; verified
    as in `lower`.
    """
    made = to_onnx(module, example, name)
    graph = Dataflow.of(made.proto, name)
    if len(graph.outputs) != 1:
        raise UsageError(f"module '{name}': found {len(graph.outputs)} outputs, expected one")
    chain = _Chain(graph, name)
    layer = chain.layer((graph.input,), (graph.outputs[0],), name)
    shape = graph.shape(graph.input)
    reference = ModuleReference(made.module, made.program)
    verify_layer(layer, shape, chain.state, reference)
    return layer, chain.state


def export_onnx(module: nn.Module, example: Tensor, name: str) -> onnx.ModelProto:
    """The module, of one output, as one ONNX model with a free batch size; verified as a whole."""
    made = to_onnx(module, example, name)
    verify_graph(made.proto, ModuleReference(made.module, made.program), name)
    return made.proto


def take_apart(
    proto: onnx.ModelProto, name: str, most_cuts: int = MOST_CUTS
) -> tuple[BranchySpec, State]:
    """An ONNX model of one input and an output for every exit as a branchy network."""
    graph = Dataflow.of(proto, name)
    last = graph.outputs[-1]
    trunk = graph.behind(last, ())
    if all(graph.input not in graph.reads(node) for node in trunk):
        raise UsageError(
            f"model '{name}': cannot be captured: found an output that does not depend on the "
            "input, expected scores of the pictures"
        )
    points = [graph.exit_point(output, trunk) for output in graph.outputs[:-1]]
    must = {p[0]: p for p in points if p[0] != graph.input}
    cuts = graph.cuts(trunk, (graph.input,), last, must, most_cuts)
    order = {crossing[0]: k for k, crossing in enumerate(cuts)}
    chain = _Chain(graph, name)
    layers = chain.layers(cuts, "")
    exits = []
    for i, (output, point) in enumerate(zip(graph.outputs[:-1], points, strict=True)):
        point = cuts[order[point[0]]]
        head = graph.behind(output, point)
        found = graph.cuts(head, point, output, {}, MOST_HEAD_CUTS)
        exits.append(ExitSpec(order[point[0]], tuple(chain.layers(found, f"exit{i + 1}."))))
    shapes = [graph.shape(o) for o in graph.outputs]
    if any(len(s) != 1 for s in shapes) or len({s[-1] for s in shapes}) != 1:
        raise UsageError(
            f"model '{name}': found outputs of shapes {shapes}, expected one number for every "
            "class, of the same classes at every exit"
        )
    spec = BranchySpec(
        name,
        graph.shape(graph.input),
        shapes[-1][0],
        tuple(layers),
        (*exits, ExitSpec(len(layers))),
    )
    return spec, chain.state


class _Chain:
    """Makes layers of stretches, and gathers their weights."""

    def __init__(self, graph: Dataflow, name: str) -> None:
        self.state: State = {}
        self._graph, self._name = graph, name
        self._used: set[str] = set()

    def layers(self, cuts: Sequence[Crossing], prefix: str) -> list[LayerSpec]:
        """A layer for every stretch between neighbours of `cuts`."""
        return [self.layer(a, b, None, prefix) for a, b in itertools.pairwise(cuts)]

    def layer(
        self, begin: Crossing, end: Crossing, named: str | None, prefix: str = ""
    ) -> LayerSpec:
        """The stretch from one crossing to another, called `named` or after what it holds."""
        graph = self._graph
        nodes = sorted({k for tensor in end for k in graph.behind(tensor, begin)})
        sizes, constants = self._needs(nodes)
        heavy = [
            c for c in constants
            if graph.constants[c].dtype == np.float32 and graph.constants[c].ndim > 0
        ]  # fmt: skip
        name = named or self._named(prefix, heavy, nodes)
        made = helper.make_graph(
            [_at_own_batch(graph.nodes[k], begin[0]) for k in sorted([*nodes, *sizes])],
            name,
            [self._value(tensor) for tensor in begin],
            [self._value(tensor) for tensor in end],
            [
                numpy_helper.from_array(graph.constants[c], c)
                for c in constants
                if c not in heavy
            ],
        )  # fmt: skip
        for node in made.node:
            # names, places and notes of the exporter are no part of what is computed
            del node.metadata_props[:]
            node.ClearField("doc_string")
            node.ClearField("name")
        for c in heavy:
            self.state[f"{name}.{c}"] = np.ascontiguousarray(graph.constants[c])
        takes, gives = ([graph.part(t) for t in c] if len(c) > 1 else () for c in (begin, end))
        segment = SegmentSpec(
            made.SerializeToString(deterministic=True),
            (sum(part.values for part in gives),) if gives else graph.shape(end[0]),
            tuple((c, tuple(graph.constants[c].shape)) for c in heavy),
            sum(graph.multiply_adds(k) for k in nodes),
            graph.peak_bytes(nodes, begin, end),
            tuple(takes),
            tuple(gives),
        )
        return LayerSpec(name, "segment", segment=segment)

    def _value(self, tensor: str) -> onnx.ValueInfoProto:
        kind = self._graph.types.get(tensor, TensorProto.FLOAT)
        return helper.make_tensor_value_info(tensor, kind, None)

    def _needs(self, nodes: Sequence[int]) -> tuple[list[int], list[str]]:
        """Batch-size arithmetic and constants that these nodes read, directly or through it."""
        graph = self._graph
        sizes: set[int] = set()
        constants: dict[str, None] = {}
        left = list(nodes)
        while left:
            for tensor in graph.nodes[left.pop(0)].input:
                if tensor in graph.constants:
                    constants[tensor] = None
                elif tensor in graph.sizes and graph.makers[tensor] not in sizes:
                    sizes.add(graph.makers[tensor])
                    left.append(graph.makers[tensor])
        return sorted(sizes), sorted(constants)

    def _named(self, prefix: str, weights: Sequence[str], nodes: Sequence[int]) -> str:
        """After the module whose weights it holds, else after its last operation."""
        own = [w for w in weights if re.search("[a-zA-Z]", w.split(".")[0]) and "." in w]
        paths = [w.split(".")[:-1] for w in own]
        same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
        base = ".".join(parts[0] for parts in same)
        base = base or (self._graph.nodes[nodes[-1]].op_type.lower() if nodes else "nothing")
        name, k = prefix + base, 2
        while name in self._used:
            name, k = f"{prefix}{base}_{k}", k + 1
        self._used.add(name)
        return name


def _at_own_batch(node: onnx.NodeProto, begin: str) -> onnx.NodeProto:
    """The node; where it asks the batch's size it asks the stretch's own input."""
    kept = onnx.NodeProto()
    kept.CopyFrom(node)
    span = {a.name: a.i for a in node.attribute}
    if node.op_type == "Shape" and span.get("end") == 1:
        kept.input[0] = begin
    return kept
