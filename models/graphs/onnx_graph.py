"""Layer intervals as ONNX graphs, built from layer facts and weights: no torch anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.codecs.tensors import NUMPY_TYPES, NamedTensor
from models.facts.branchy import BranchySpec
from models.facts.layers import LayerSpec, SegmentSpec, Shape
from models.graphs.segment_graph import read_segment

OPSET = 20
IR_VERSION = 10
APART = "apart/"
"""Begins the names of operations that lay several tensors end to end, or take them apart."""
State = Mapping[str, npt.NDArray[np.float32]]


def interval_model(spec: BranchySpec, state: State, branch: int, start: int, stop: int) -> bytes:
    """Layers [start, stop) of a branch as a serialised ONNX model.

    Input `x` (N, *shape before layer start) and output `y` (N, *shape after the last), float32,
    with a free batch size. An empty interval is the identity.

    `spec` and `state` are the network's architecture and weights; `branch` is the exit, from 0, and
    the layers are those from `start` to before `stop`.
    """
    layers = spec.interval(branch, start, stop)
    return chain_model(
        f"{spec.name}_{branch}_{start}_{stop}", layers, spec.shapes[branch][start : stop + 1], state
    )


def chain_model(
    name: str, layers: Sequence[LayerSpec], shapes: Sequence[Shape], state: State
) -> bytes:
    """Layers one after the other as a serialised ONNX model; `shapes` before, between and after.

    `name` is the graph's; `layers` find their weights in `state`. Where several tensors cross at
    its ends they are taken from `x` and laid into `y` end to end; inside they stay apart.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    at: str | list[str] = "x"
    if layers and layers[0].segment is not None and layers[0].segment.takes:
        at = taken_apart(layers[0].segment.takes, "x", nodes, weights)
    for k, layer in enumerate(layers):
        shape, made = shapes[k], layer.name
        if layer.segment is not None:
            at = _segment(layer.name, layer.segment, state, at, nodes, weights)
            continue
        assert isinstance(at, str)  # only a captured stretch gives several tensors
        if layer.kind == "fc" and len(shape) > 1:
            nodes.append(helper.make_node("Flatten", [at], [f"{made}_flat"], axis=1))
            at = f"{made}_flat"
        inputs = [at]
        for key in layer.parameter_shapes(shape):
            full = f"{layer.name}.{key}"
            weights.append(numpy_helper.from_array(np.ascontiguousarray(state[full]), full))
            inputs.append(full)
        if layer.kind == "lrn" and len(shape) == 1:
            at = _flat_lrn(layer, at, made, nodes, weights)
            continue
        nodes.append(_node(layer, inputs, made))
        at = made
    if isinstance(at, str):
        nodes.append(helper.make_node("Identity", [at], ["y"]))
    else:
        lay_end_to_end(at, "y", nodes, weights)
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shapes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shapes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def output_name(layer: LayerSpec) -> str:
    """What a layer's output, the first of several, is called inside every graph with it."""
    if layer.segment is None:
        return layer.name
    graph = read_segment(layer.name, layer.segment)
    return f"{layer.name}/{graph.output[0].name}"


def _segment(
    layer: str,
    segment: SegmentSpec,
    state: State,
    x: str | list[str],
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
) -> str | list[str]:
    """A captured stretch's operations, its names made its own; gives the name of its output, or of
    its several ones.
    """
    graph = read_segment(layer, segment)
    given = [x] if isinstance(x, str) else x
    named = {"": ""} | dict(zip((i.name for i in graph.input), given, strict=True))

    def own(name: str) -> str:
        return named.get(name, f"{layer}/{name}")

    for constant in graph.initializer:
        kept = onnx.TensorProto()
        kept.CopyFrom(constant)
        kept.name = own(constant.name)
        weights.append(kept)
    for key, _ in segment.weights:
        full = np.ascontiguousarray(state[f"{layer}.{key}"])
        weights.append(numpy_helper.from_array(full, own(key)))
    for node in graph.node:
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = f"{layer}/{len(nodes)}"
        renamed.input[:] = [own(n) for n in node.input]
        renamed.output[:] = [own(n) for n in node.output]
        nodes.append(renamed)
    found = [own(o.name) for o in graph.output]
    return found if segment.gives else found[0]


def taken_apart(
    parts: Sequence[NamedTensor],
    x: str,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
) -> list[str]:
    """Names of the tensors that rows `x` (N, values) hold end to end, each of its own type.

    `parts` say what they are; the operations are added to `nodes`, their constants to `weights`.
    """
    lengths = np.array([part.values for part in parts], dtype=np.int64)
    weights.append(numpy_helper.from_array(lengths, f"{x}/lengths"))
    rows = [f"{x}/row{k}" for k in range(len(parts))]
    nodes.append(helper.make_node("Split", [x, f"{x}/lengths"], rows, f"{APART}{x}", axis=1))
    found = []
    for k, part in enumerate(parts):
        shape = np.array([-1, *part.shape], dtype=np.int64)
        weights.append(numpy_helper.from_array(shape, f"{x}/shape{k}"))
        made = f"{x}/part{k}"
        nodes.append(
            helper.make_node("Reshape", [rows[k], f"{x}/shape{k}"], [made], f"{APART}{made}")
        )
        if part.datatype != "FP32":
            kind = helper.np_dtype_to_tensor_dtype(NUMPY_TYPES[part.datatype])
            nodes.append(
                helper.make_node("Cast", [made], [f"{made}/own"], f"{APART}{made}/own", to=kind)
            )
            made = f"{made}/own"
        found.append(made)
    return found


def lay_end_to_end(
    tensors: Sequence[str],
    y: str,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
) -> None:
    """Names of `tensors` (N, ...) of any type: they become rows `y` (N, values) of float32.

    The operations are added to `nodes`, their constants to `weights`.
    """
    rows = []
    for k, tensor in enumerate(tensors):
        cast, row = f"{y}/float{k}", f"{y}/row{k}"
        nodes.append(
            helper.make_node("Cast", [tensor], [cast], f"{APART}{cast}", to=TensorProto.FLOAT)
        )
        nodes.append(helper.make_node("Flatten", [cast], [row], f"{APART}{row}", axis=1))
        rows.append(row)
    nodes.append(helper.make_node("Concat", rows, [y], f"{APART}{y}", axis=1))


def _flat_lrn(
    layer: LayerSpec,
    x: str,
    name: str,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
) -> str:
    """LRN after a fc layer: ONNX Runtime wants an image, so the vector becomes one of 1 x 1."""
    axes = f"{name}_axes"
    weights.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), axes))
    nodes.append(helper.make_node("Unsqueeze", [x, axes], [f"{name}_image"]))
    nodes.append(_node(layer, [f"{name}_image"], f"{name}_normed"))
    nodes.append(helper.make_node("Squeeze", [f"{name}_normed", axes], [name]))
    return name


def _node(layer: LayerSpec, inputs: list[str], output: str) -> onnx.NodeProto:
    window: dict[str, Any] = {
        "kernel_shape": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
    }
    if layer.kind == "conv":
        return helper.make_node("Conv", inputs, [output], **window)
    if layer.kind == "pool" and layer.pool_mode == "max":
        return helper.make_node("MaxPool", inputs, [output], **window)
    if layer.kind == "pool":
        # torch's average counts the padding
        return helper.make_node("AveragePool", inputs, [output], count_include_pad=1, **window)
    if layer.kind == "relu":
        return helper.make_node("Relu", inputs, [output])
    if layer.kind == "lrn":
        return helper.make_node(
            "LRN",
            inputs,
            [output],
            size=layer.size,
            alpha=layer.alpha,
            beta=layer.beta,
            bias=layer.k,
        )
    if layer.kind == "flatten":
        return helper.make_node("Flatten", inputs, [output], axis=1)
    if layer.kind == "fc":
        return helper.make_node("Gemm", inputs, [output], transB=1)
    return helper.make_node("Identity", inputs, [output])
