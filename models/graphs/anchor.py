"""MobileNetV2 (1.0, 224 x 224) as an ONNX graph with made-up weights, to see how fast a core is.

It is the network of published benchmarks (Sandler et al., CVPR 2018, table 2), batch normalisation
folded. Only its time counts, so no torch and no trained weights are needed: a device runs it, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, repeats and first stride of every stage (the paper's t, c, n, s)."""
LAST_CHANNELS, CLASSES = 1280, 1000
OPSET, IR_VERSION = 17, 8


class _Graph:
    """Nodes and weights that are added one after the other; `at` is the newest value."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.at, self._rng = "picture", np.random.default_rng(0)
        for name, value in (("low", 0.0), ("high", 6.0)):
            self.weights.append(numpy_helper.from_array(np.array(value, np.float32), name))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> None:
        """A node of a kind; its output is the newest value."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        self.at = output

    def weight(self, *shape: int) -> str:
        """A made-up parameter, small enough that values stay finite."""
        name = f"w{len(self.weights)}"
        made = self._rng.normal(0.0, 1.0 / np.sqrt(np.prod(shape[1:])), shape)
        self.weights.append(numpy_helper.from_array(made.astype(np.float32), name))
        return name

    def conv(self, ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        """A convolution with a bias, padded so that only its stride makes the map smaller."""
        weights = self.weight(outs, ins // groups, kernel, kernel), self.weight(outs)
        self.add(
            "Conv", self.at, *weights, kernel_shape=[kernel, kernel], strides=[stride, stride],
            pads=[kernel // 2] * 4, group=groups,
        )  # fmt: skip

    def relu6(self) -> None:
        """Values from 0 to 6."""
        self.add("Clip", self.at, "low", "high")


def anchor_graph() -> bytes:
    """The graph, serialised: input (1, 3, 224, 224), output scores (1, 1000), both float32."""
    graph = _Graph()
    graph.conv(3, 32, 3, 2)
    graph.relu6()
    channels = 32
    for expansion, outs, repeats, first in BLOCKS:
        for k in range(repeats):
            stride, start, hidden = first if k == 0 else 1, graph.at, expansion * channels
            if expansion > 1:
                graph.conv(channels, hidden, 1)
                graph.relu6()
            graph.conv(hidden, hidden, 3, stride, hidden)
            graph.relu6()
            graph.conv(hidden, outs, 1)
            if stride == 1 and channels == outs:
                graph.add("Add", graph.at, start)
            channels = outs
    graph.conv(channels, LAST_CHANNELS, 1)
    graph.relu6()
    graph.add("GlobalAveragePool", graph.at)
    graph.add("Flatten", graph.at)
    graph.add("Gemm", graph.at, graph.weight(LAST_CHANNELS, CLASSES), graph.weight(CLASSES))
    ends = (("picture", [1, 3, SIDE, SIDE]), (graph.at, [1, CLASSES]))
    given, found = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends)
    made = helper.make_graph(graph.nodes, "mobilenet_v2", [given], [found], graph.weights)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    encoded: bytes = model.SerializeToString()
    return encoded
