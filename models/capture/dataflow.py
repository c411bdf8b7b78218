"""An exported ONNX graph as data flow: who makes a tensor, which cross alone, what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from artefacts import UsageError
from models.codecs.tensors import Datatype, NamedTensor
from models.facts.layers import Shape

BATCH, UNKNOWN = "N", "?"
Crossing = tuple[str, ...]
"""Names of the tensors that cross a cut, the one that a codec carries first."""


def _free_size(proto: onnx.ModelProto) -> str:
    """What the exporter calls the input's first size."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim if proto.graph.input else []
    return str(dims[0].dim_param) if dims else ""


def _constant(node: onnx.NodeProto) -> npt.NDArray[Any]:
    """What a Constant node holds: a tensor, or numbers."""
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    whole = node.attribute[0].name.startswith("value_int")
    return np.asarray(value, dtype=np.int64 if whole else np.float32)


def _keep_paddings_apart(
    nodes: list[onnx.NodeProto], constants: dict[str, npt.NDArray[Any]]
) -> None:
    """Zeros padded before a max pooling become the least positive number.

    ONNX Runtime makes one operation of the two, which pads with minus infinity instead of zeros
    (seen in 1.31); it does so only where the number is exactly zero.
    """
    pooled = {node.input[0] for node in nodes if node.op_type == "MaxPool"}
    for node in nodes:
        constant = all(a.name != "mode" or a.s == b"constant" for a in node.attribute)
        if node.op_type != "Pad" or node.output[0] not in pooled or not constant:
            continue
        given = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if given is None or not np.any(given):
            node.input[:] = [*node.input[:2], _LEAST, *node.input[3:]]
            constants[_LEAST] = np.array(np.finfo(np.float32).tiny, dtype=np.float32)


_LEAST = "least_positive_number"
LEAST_RATIO = 8
"""A tensor is carried with others beside it where it is so many times greater than all of them."""
_DATATYPES: dict[int, Datatype] = {
    TensorProto.BOOL: "BOOL", TensorProto.UINT8: "UINT8", TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32", TensorProto.INT64: "INT64", TensorProto.FLOAT: "FP32",
}  # fmt: skip
"""Of tensors that may cross beside the one that a codec carries."""


@dataclass(frozen=True)
class Dataflow:
    """An ONNX graph by tensors: who makes each, its shape; constants apart."""

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    input: str
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[Any, ...]]
    types: Mapping[str, int]

    @classmethod
    def of(cls, proto: onnx.ModelProto, name: str) -> Dataflow:
        """The graph of a model; refuses branches inside it, and more inputs than one."""
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
                constants[node.output[0]] = _constant(node)
            else:
                nodes.append(node)
        _keep_paddings_apart(nodes, constants)
        inputs = [i.name for i in proto.graph.input if i.name not in constants]
        if len(inputs) != 1:
            raise UsageError(f"model '{name}': found {len(inputs)} inputs, expected one tensor")
        outputs = tuple(o.name for o in proto.graph.output)
        return cls(name, tuple(nodes), constants, inputs[0], outputs, shapes, types)

    @cached_property
    def makers(self) -> dict[str, int]:
        """The node that makes each tensor."""
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

    def part(self, tensor: str) -> NamedTensor:
        """A tensor as one of several that cross a cut."""
        return NamedTensor(tensor, _DATATYPES[self.types[tensor]], self.shape(tensor))

    def _can_cross(self, tensor: str) -> bool:
        return self.apart(tensor) and self.types.get(tensor) in _DATATYPES

    def _is_carried(self, tensor: str) -> bool:
        """Whether a codec can carry a tensor."""
        return self.types.get(tensor) == TensorProto.FLOAT and self.apart(tensor)

    def _source(self, tensor: str) -> str:
        """The smallest tensor that this one is made of, and of nothing else of the sample: what
        crosses in its place is made into it behind the cut.
        """
        best, now = tensor, tensor
        while (maker := self.makers.get(now)) is not None:
            read = self.reads(maker)
            if len(set(read)) != 1 or self._uses_weights(maker):
                break
            now = read[0]
            if self._can_cross(now) and (
                not self._can_cross(best)
                or self.part(now).packed_bytes < self.part(best).packed_bytes
            ):
                best = now
        return best

    def _uses_weights(self, node: int) -> bool:
        """Whether a node multiplies by a matrix, or looks something up in one."""
        known = [self.constants[n] for n in self.nodes[node].input if n in self.constants]
        return any(x.ndim > 1 and x.dtype.kind == "f" and x.size > 1 for x in known)

    def crossing(self, live: set[str]) -> tuple[str, ...]:
        """What crosses where these are alive: the greatest, which a codec carries, and before it
        is given on what the small others are made of; nothing where that cannot be.
        """
        carried = max(sorted(live), key=self.sample_bytes)
        others = sorted({self._source(t) for t in live - {carried}} - {carried})
        if not others:
            return (carried,)
        if not self._is_carried(carried) or not all(self._can_cross(t) for t in others):
            return ()
        beside = sum(self.part(t).packed_bytes for t in others)
        return (carried, *others) if beside * LEAST_RATIO <= self.sample_bytes(carried) else ()

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

    def exit_point(self, output: str, trunk: Sequence[int]) -> tuple[str, ...]:
        """What of the trunk an exit takes, as it crosses (`crossing`); refuses what cannot."""
        inside = set(trunk)
        given = {t for k in trunk for t in self.nodes[k].output} | {self.input}
        own = [k for k in self.behind(output, ()) if k not in inside]
        entering = {t for k in own for t in self.reads(k) if t in given} if own else {output}
        found = self.crossing(entering)
        if not found:
            raise UsageError(
                f"model '{self.name}': exit '{output}' takes {len(entering)} tensors of the trunk "
                f"({', '.join(sorted(entering))}), expected one, or small ones beside it"
            )
        return found

    def cuts(
        self,
        nodes: Sequence[int],
        begin: Crossing,
        end: str,
        must: Mapping[str, Crossing],
        most: int,
    ) -> list[Crossing]:
        """What crosses from `begin` to `end`, `must` among it, at most `most` places.

        A crossing is one tensor, or one that a codec carries and small ones beside it. `nodes` are
        operations by their number, in the order in which they run; `end` names a tensor. `must`, by
        the tensor that is carried, are crossings that exits hang at: what they take crosses too.
        """
        last = {t: k for k in nodes for t in self.reads(k)}
        last[end] = len(self.nodes)
        # of what crosses beside, a head may need nothing
        live, found = {t for t in begin if t in last}, [begin]
        for k in nodes:
            live |= {t for t in self.nodes[k].output if t in last}
            live = {t for t in live if last[t] > k}
            crossing = self.crossing(live) if live else ()
            if crossing and crossing[0] in must:
                others = sorted({*crossing[1:], *must[crossing[0]][1:]})
                crossing = (crossing[0], *others)
            if crossing and crossing[0] != found[-1][0]:
                found.append(crossing)
        lost = set(must) - {crossing[0] for crossing in found}
        if lost:
            raise UsageError(
                f"model '{self.name}': found exits at {', '.join(sorted(lost))}, expected them "
                "where one tensor crosses, or small ones beside it"
            )
        inside = [c for c in found[1:] if c[0] != end and self._is_carried(c[0])]
        kept = self._worth_cutting([begin, *inside, (end,)], must)
        while len(kept) - 1 > most:
            free = [c for c in kept[1:-1] if c[0] not in must]
            if not free:
                break
            kept.remove(max(free, key=lambda c: self.sample_bytes(c[0])))
        return kept

    def _worth_cutting(self, cuts: list[Crossing], must: Mapping[str, Crossing]) -> list[Crossing]:
        """Of cuts with no multiplication between them the one of fewest bytes (the last of equals).

        Nothing is won by stopping before an activation or a pooling that shrinks the tensor.
        """
        groups: list[list[Crossing]] = []
        for before, now in zip([None, *cuts], cuts, strict=False):
            if before is None or self._adds_between(before, now[0]) > 0 or len(groups) == 1:
                groups.append([])
            groups[-1].append(now)
        kept = []
        for group in groups:
            wanted = [c for c in group if c[0] in must or c in (cuts[0], cuts[-1])]
            if not wanted:
                wanted = [min(reversed(group), key=lambda c: self.sample_bytes(c[0]))]
            kept.extend(wanted)
        return kept

    def _adds_between(self, begin: Crossing, end: str) -> int:
        return sum(self.multiply_adds(k) for k in self.behind(end, begin))

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

    def peak_bytes(self, nodes: Sequence[int], begin: Crossing, end: Crossing) -> int:
        """Bytes of one sample alive at most while `nodes` run."""
        last = {t: k for k in nodes for t in self.reads(k)}
        last |= dict.fromkeys(end, len(self.nodes))
        live, peak = set(begin), sum(map(self.sample_bytes, begin))
        for k in nodes:
            live |= {t for t in self.nodes[k].output if t in last}
            peak = max(peak, sum(self.sample_bytes(t) for t in live))
            live = {t for t in live if last.get(t, -1) > k}
        return peak
