"""From a torch module with exits to a `BranchySpec` and its weights: torch is needed only here.

The module is exported to ONNX (batch normalisation folded, constants computed), and the graph is
taken apart: the trunk is what the last output needs, an exit's head what its output needs beyond
it. Both become chains of stretches between places that one tensor crosses, so that whatever plans,
profiles, executes or prices a network of hand-written layers does so for this one too.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from torch import Tensor, nn
from torch.export import Dim

from artefacts import UsageError
from models.branchy import BranchySpec, ExitSpec
from models.capture.export import construct_of, quiet_exporters
from models.layers import LayerSpec, SegmentSpec, Shape
from models.onnx_graph import OPSET

State = dict[str, npt.NDArray[np.float32]]
MOST_CUTS = 24
"""Stretches of a trunk at most: plans grow with their square, gains do not."""
MOST_HEAD_CUTS = 2
BATCH, UNKNOWN = "N", "?"


def lower(
    module: nn.Module, example: Tensor, name: str, most_cuts: int = MOST_CUTS
) -> tuple[BranchySpec, State]:
    """The architecture and weights of `module` (logits of every exit, or of the only one).

    `example` (N, ...), N >= 2. Raises `UsageError` naming what cannot be exported or cut.
    """
    return take_apart(export_onnx(module, example, name), name, most_cuts)


def lower_stretch(module: nn.Module, example: Tensor, name: str) -> tuple[LayerSpec, State]:
    """A module of one tensor in and one out as one layer called `name`, and its weights."""
    graph = _Graph.of(export_onnx(module, example, name), name)
    if len(graph.outputs) != 1:
        raise UsageError(f"module '{name}': found {len(graph.outputs)} outputs, expected one")
    chain = _Chain(graph, name)
    return chain.layer(graph.input, graph.outputs[0], name), chain.state


def export_onnx(module: nn.Module, example: Tensor, name: str) -> onnx.ModelProto:
    """The module in evaluation mode as one ONNX model with a free batch size."""
    was_training = module.training
    # weights that lie channels last (training does that) are exported as other operations
    module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        with quiet_exporters():
            program = torch.export.export(module, (example,), dynamic_shapes=({0: Dim.AUTO},))
            made: Any = torch.onnx.export(
                program.run_decompositions({}), (example,), dynamo=True, optimize=True,
                verbose=False, opset_version=OPSET,
            )  # fmt: skip
    except Exception as error:  # the exporters raise some thirty kinds
        raise UsageError(f"model '{name}': cannot be captured: {construct_of(error)}") from None
    finally:
        module.train(was_training)
    proto: onnx.ModelProto = made.model_proto
    return proto


def take_apart(
    proto: onnx.ModelProto, name: str, most_cuts: int = MOST_CUTS
) -> tuple[BranchySpec, State]:
    """An ONNX model of one input and an output for every exit as a branchy network."""
    graph = _Graph.of(proto, name)
    last = graph.outputs[-1]
    trunk = graph.behind(last, ())
    points = [graph.exit_point(output, trunk) for output in graph.outputs[:-1]]
    must = {p for p in points if p != graph.input}
    cuts = graph.cuts(trunk, graph.input, last, must, most_cuts)
    order = {tensor: k for k, tensor in enumerate(cuts)}
    chain = _Chain(graph, name)
    layers = chain.layers(cuts, "")
    exits = []
    for i, (output, point) in enumerate(zip(graph.outputs[:-1], points, strict=True)):
        head = graph.behind(output, (point,))
        found = graph.cuts(head, point, output, set(), MOST_HEAD_CUTS)
        exits.append(ExitSpec(order[point], tuple(chain.layers(found, f"exit{i + 1}."))))
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


def _free_size(proto: onnx.ModelProto) -> str:
    """What the exporter calls the input's first size."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim if proto.graph.input else []
    return str(dims[0].dim_param) if dims else ""


@dataclass(frozen=True)
class _Graph:
    """An ONNX graph by tensors: who makes each, its shape; constants apart."""

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    input: str
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[Any, ...]]
    types: Mapping[str, int]

    @classmethod
    def of(cls, proto: onnx.ModelProto, name: str) -> _Graph:
        inferred = shape_inference.infer_shapes(proto).graph
        shapes, types = {}, {}
        free = _free_size(proto)
        for info in [*inferred.value_info, *inferred.input, *inferred.output]:
            kind = info.type.tensor_type
            types[info.name] = kind.elem_type
            shapes[info.name] = tuple(
                d.dim_value
                if d.HasField("dim_value")
                else (BATCH if d.dim_param == free else d.dim_param or UNKNOWN)
                for d in kind.shape.dim
            )
        constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        nodes = []
        for node in proto.graph.node:
            if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
                raise UsageError(
                    f"model '{name}': cannot be captured: found '{node.op_type}' with branches of "
                    "its own, expected one path through the model"
                )
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                nodes.append(node)
        inputs = [i.name for i in proto.graph.input if i.name not in constants]
        if len(inputs) != 1:
            raise UsageError(f"model '{name}': found {len(inputs)} inputs, expected one tensor")
        outputs = tuple(o.name for o in proto.graph.output)
        return cls(name, tuple(nodes), constants, inputs[0], outputs, shapes, types)

    @cached_property
    def makers(self) -> dict[str, int]:
        return {out: k for k, node in enumerate(self.nodes) for out in node.output if out}

    @cached_property
    def sizes(self) -> frozenset[str]:
        """Tensors that only say how large the batch is: either end of a cut computes its own."""
        found: set[str] = set()
        for node in self.nodes:
            made = [n for n in node.input if n and n not in self.constants]
            span = {a.name: a.i for a in node.attribute}
            batch = node.op_type == "Shape" and span.get("start", 0) == 0 and span.get("end") == 1
            if batch or (made and all(n in found for n in made)):
                found.update(node.output)
        return frozenset(found)

    def shape(self, tensor: str) -> Shape:
        """One sample's shape; refuses a tensor that does not keep samples apart."""
        shape = self.shapes.get(tensor, ())
        if not self.apart(tensor):
            raise UsageError(
                f"model '{self.name}': cannot be captured: tensor '{tensor}' has shape "
                f"{list(shape)}, expected the samples first and every other size fixed"
            )
        return tuple(int(s) for s in shape[1:])

    def apart(self, tensor: str) -> bool:
        """Whether a tensor keeps samples apart: they come first, every other size is fixed."""
        shape = self.shapes.get(tensor, ())
        return bool(shape) and shape[0] == BATCH and all(isinstance(s, int) for s in shape[1:])

    def sample_bytes(self, tensor: str) -> int:
        """Bytes of one sample (float32); what has no sample shape weighs as one number."""
        try:
            return 4 * math.prod(self.shape(tensor))
        except UsageError:
            return 4

    def reads(self, node: int) -> list[str]:
        """Tensors that depend on the sample and that a node reads."""
        return [
            n
            for n in self.nodes[node].input
            if n and n not in self.constants and n not in self.sizes
        ]

    def behind(self, tensor: str, stop: Sequence[str]) -> list[int]:
        """Nodes that `tensor` needs, in order, not going past `stop`."""
        found: set[int] = set()
        left = [tensor]
        while left:
            now = left.pop()
            at = self.makers.get(now)
            if now in stop or now == self.input or at is None or at in found:
                continue
            found.add(at)
            left.extend(self.reads(at))
        return sorted(found)

    def exit_point(self, output: str, trunk: Sequence[int]) -> str:
        """The trunk's tensor that an exit hangs at; refuses an exit that needs several."""
        inside = set(trunk)
        given = {t for k in trunk for t in self.nodes[k].output} | {self.input}
        own = [k for k in self.behind(output, ()) if k not in inside]
        entering = sorted({t for k in own for t in self.reads(k) if t in given})
        if not own:
            entering = [output]
        if len(entering) != 1:
            raise UsageError(
                f"model '{self.name}': exit '{output}' takes {len(entering)} tensors of the trunk "
                f"({', '.join(entering)}), expected one"
            )
        return entering[0]

    def cuts(
        self, nodes: Sequence[int], begin: str, end: str, must: set[str], most: int
    ) -> list[str]:
        """Tensors that cross alone, from `begin` to `end`, `must` among them, at most `most`."""
        last = {t: k for k in nodes for t in self.reads(k)}
        last[end] = len(self.nodes)
        live, single = {begin}, [begin]
        for k in nodes:
            live |= {t for t in self.nodes[k].output if t in last}
            live = {t for t in live if last[t] > k}
            if len(live) == 1 and (alone := next(iter(live))) != single[-1]:
                single.append(alone)
        lost = must - set(single)
        if lost:
            raise UsageError(
                f"model '{self.name}': found exits at {', '.join(sorted(lost))}, expected them "
                "where one tensor crosses"
            )
        floats = [
            t for t in single[1:-1] if self.types.get(t) == TensorProto.FLOAT and self.apart(t)
        ]
        kept = self._worth_cutting([begin, *floats, end], must)
        while len(kept) - 1 > most:
            free = [t for t in kept[1:-1] if t not in must]
            if not free:
                break
            kept.remove(max(free, key=self.sample_bytes))
        return kept

    def _worth_cutting(self, cuts: list[str], must: set[str]) -> list[str]:
        """Of cuts with no multiplication between them the one of fewest bytes (the last of equals).

        Nothing is won by stopping before an activation or a pooling that shrinks the tensor.
        """
        groups: list[list[str]] = []
        for before, tensor in zip([None, *cuts], cuts, strict=False):
            if before is None or self._adds_between(before, tensor) > 0 or len(groups) == 1:
                groups.append([])
            groups[-1].append(tensor)
        kept = []
        for group in groups:
            wanted = [t for t in group if t in must or t in (cuts[0], cuts[-1])]
            if not wanted:
                wanted = [min(reversed(group), key=self.sample_bytes)]
            kept.extend(wanted)
        return kept

    def _adds_between(self, begin: str, end: str) -> int:
        return sum(self.multiply_adds(k) for k in self.behind(end, (begin,)))

    def multiply_adds(self, node: int) -> int:
        """Multiply-adds of one sample: convolutions and matrix products."""
        op, inputs = self.nodes[node].op_type, self.nodes[node].input
        out = self.shapes.get(self.nodes[node].output[0], ())
        numbers = math.prod(s for s in out[1:] if isinstance(s, int))
        if op in ("Conv", "ConvTranspose") and inputs[1] in self.constants:
            return numbers * math.prod(self.constants[inputs[1]].shape[1:])
        if op == "Gemm" and inputs[1] in self.constants:
            return int(self.constants[inputs[1]].size)
        if op == "MatMul":
            inner = self.constants[inputs[1]].shape if inputs[1] in self.constants else None
            depth = inner[-2] if inner is not None else self.shapes.get(inputs[0], (1,))[-1]
            return numbers * (depth if isinstance(depth, int) else 1)
        return 0

    def peak_bytes(self, nodes: Sequence[int], begin: str, end: str) -> int:
        """Bytes of one sample alive at most while `nodes` run."""
        last = {t: k for k in nodes for t in self.reads(k)}
        last[end] = len(self.nodes)
        live, peak = {begin}, self.sample_bytes(begin)
        for k in nodes:
            live |= {t for t in self.nodes[k].output if t in last}
            peak = max(peak, sum(self.sample_bytes(t) for t in live))
            live = {t for t in live if last[t] > k}
        return peak


class _Chain:
    """Makes layers of stretches, and gathers their weights."""

    def __init__(self, graph: _Graph, name: str) -> None:
        self.state: State = {}
        self._graph, self._name = graph, name
        self._used: set[str] = set()

    def layers(self, cuts: Sequence[str], prefix: str) -> list[LayerSpec]:
        """A layer for every stretch between neighbours of `cuts`."""
        return [self.layer(a, b, None, prefix) for a, b in itertools.pairwise(cuts)]

    def layer(self, begin: str, end: str, named: str | None, prefix: str = "") -> LayerSpec:
        """The stretch from one tensor to another, called `named` or after what it holds."""
        graph = self._graph
        nodes = graph.behind(end, (begin,))
        sizes, constants = self._needs(nodes)
        heavy = [
            c for c in constants
            if graph.constants[c].dtype == np.float32 and graph.constants[c].ndim > 0
        ]  # fmt: skip
        name = named or self._named(prefix, heavy, nodes)
        made = helper.make_graph(
            [_at_own_batch(graph.nodes[k], begin) for k in sorted([*nodes, *sizes])],
            name,
            [helper.make_tensor_value_info(begin, TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, None)],
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
        segment = SegmentSpec(
            made.SerializeToString(deterministic=True),
            graph.shape(end),
            tuple((c, tuple(graph.constants[c].shape)) for c in heavy),
            sum(graph.multiply_adds(k) for k in nodes),
            graph.peak_bytes(nodes, begin, end),
        )
        return LayerSpec(name, "segment", segment=segment)

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
