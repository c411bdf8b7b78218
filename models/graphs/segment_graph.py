"""A captured stretch's operations as a card holds them: read, and refused where no capture made
them.

A card may come from anybody. Its operations compute tensors and nothing else: a loop could run
without end in a call that no signal ends, and a constant that lies in a file of its own would be
read from whatever file the card names.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, SparseTensorProto, TensorProto

from artefacts import UsageError
from models.facts.layers import SegmentSpec

DOMAINS = ("", "ai.onnx")
"""Of operations: the standard's own."""
_BRANCHES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def read_segment(layer: str, segment: SegmentSpec) -> onnx.GraphProto:
    """The operations of the stretch that is the layer called `layer`.

    Raises `UsageError` for bytes that are none, for other inputs and outputs than the stretch has,
    for operations that are not ONNX's own or have operations inside, and for constants that are not
    in it.
    """
    try:
        graph: onnx.GraphProto = onnx.GraphProto.FromString(segment.graph)
    except DecodeError:
        raise UsageError(
            f"layer '{layer}': found {len(segment.graph)} bytes that are no operations, expected "
            "an ONNX GraphProto"
        ) from None
    ends = (len(graph.input), len(graph.output))
    expected = (max(len(segment.takes), 1), max(len(segment.gives), 1))
    if ends != expected:
        raise UsageError(
            f"layer '{layer}': found operations of {ends[0]} inputs and {ends[1]} outputs, "
            f"expected {expected[0]} and {expected[1]}"
        )
    _check_constants(layer, graph.initializer)
    _check_sparse(layer, graph.sparse_initializer)
    for node in graph.node:
        if node.domain not in DOMAINS or any(a.type in _BRANCHES for a in node.attribute):
            raise UsageError(
                f"layer '{layer}': found '{node.domain}{'.' * bool(node.domain)}{node.op_type}', "
                "expected operations of ONNX's own that have none inside"
            )
        for attribute in node.attribute:
            _check_constants(layer, [attribute.t, *attribute.tensors])
            _check_sparse(layer, [attribute.sparse_tensor, *attribute.sparse_tensors])
    return graph


def _check_sparse(layer: str, constants: Iterable[SparseTensorProto]) -> None:
    """The same of constants that are written by values and places."""
    _check_constants(layer, (part for one in constants for part in (one.values, one.indices)))


def _check_constants(layer: str, constants: Iterable[TensorProto]) -> None:
    for constant in constants:
        if constant.data_location == TensorProto.EXTERNAL:
            raise UsageError(
                f"layer '{layer}': found constant '{constant.name}' in a file of its own, expected "
                "it in the card"
            )
