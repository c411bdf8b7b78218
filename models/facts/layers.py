"""What a layer is, without torch: its kind, its sizes, the shape it gives.

Facts only. A `LayerSpec` becomes ONNX nodes in `models.graphs.onnx_graph`, whatever its kind; this
module knows nothing of that. Shapes are per sample, channels first, no batch.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from artefacts import UsageError
from models.codecs.tensors import NamedTensor

LayerKind = Literal["conv", "relu", "pool", "lrn", "flatten", "fc", "dropout", "segment"]
Shape = tuple[int, ...]


class SegmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a captured stretch of a network is: its operations, and what it gives and costs.

    `graph`: the operations, a serialised ONNX `GraphProto` whose float weights are left out
    (`weights`: their names and shapes). It has one input and one output, or those that `takes` and
    `gives` list. `multiply_adds` and `peak_bytes` (activations alive at once, in and out included)
    are of one sample.
    """

    graph: bytes
    """A serialised ONNX GraphProto without its float weights."""
    output: Shape
    """Shape of what one sample gives."""
    weights: tuple[tuple[str, Shape], ...]
    """Name and shape of each weight that was left out."""
    multiply_adds: int
    """Of one sample."""
    peak_bytes: int
    """Of activations alive at once, of one sample."""
    takes: tuple[NamedTensor, ...] = ()
    """The tensors that cross before it, where they are several: the greatest first."""
    gives: tuple[NamedTensor, ...] = ()
    """The tensors that cross behind it, where they are several; `output` is then how many values
    they have together, laid end to end."""


class LayerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named layer; only the sizes its kind needs are set.

    `channels` is a conv's filters or a fc's outputs; `kernel`, `stride`, `padding` serve conv and
    pool; `pool_mode` is 'max' or 'avg'; lrn uses `size`, `alpha`, `beta`, `k` (Krizhevsky 2012,
    section 3.3, with alpha divided by the window as torch and ONNX do).
    """

    name: str
    """Unique in the network."""
    kind: LayerKind
    """What it computes."""
    channels: int = 0
    """Filters of a conv, outputs of a fc."""
    kernel: int = 0
    """Side of the window of conv and pool."""
    stride: int = 1
    """Step of the window."""
    padding: int = 0
    """Zeros around."""
    pool_mode: Literal["max", "avg"] = "max"
    """Of a pool."""
    size: int = 3
    """Window of a lrn."""
    alpha: float = 5e-5
    """Of a lrn."""
    beta: float = 0.75
    """Of a lrn."""
    k: float = 1.0
    """Of a lrn."""
    rate: float = 0.5
    """Of a dropout."""
    segment: SegmentSpec | None = None
    """Of a captured stretch."""

    def __post_init__(self) -> None:
        """A captured stretch has its operations, and nothing else has."""
        if (self.kind == "segment") != (self.segment is not None):
            raise UsageError(f"layer '{self.name}': found kind '{self.kind}' and its segment apart")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample after this layer, given the shape before it."""
        if self.segment is not None:
            return self.segment.output
        if self.kind == "conv":
            _, height, width = _image(self, shape)
            return (self.channels, self._windows(height), self._windows(width))
        if self.kind == "pool":
            channels, height, width = _image(self, shape)
            return (channels, self._windows(height), self._windows(width))
        if self.kind == "fc":
            return (self.channels,)
        if self.kind == "flatten":
            return (math.prod(shape),)
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Shapes of the parameters by name for an input of `shape`; empty where there are none."""
        if self.segment is not None:
            return dict(self.segment.weights)
        if self.kind == "conv":
            weight = (self.channels, _image(self, shape)[0], self.kernel, self.kernel)
            return {"weight": weight, "bias": (self.channels,)}
        if self.kind == "fc":
            return {"weight": (self.channels, math.prod(shape)), "bias": (self.channels,)}
        return {}

    def parameter_bytes(self, shape: Shape) -> int:
        """Bytes of this layer's float32 parameters."""
        return 4 * sum(math.prod(s) for s in self.parameter_shapes(shape).values())

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-accumulate operations of one sample (conv and fc; others count as 0)."""
        if self.segment is not None:
            return self.segment.multiply_adds
        weight = self.parameter_shapes(shape).get("weight")
        if weight is None:
            return 0
        output = self.output_shape(shape)
        return math.prod(weight) * math.prod(output[1:])

    def peak_bytes(self, shape: Shape) -> int:
        """Activation bytes of one float32 sample alive while this layer runs, in and out."""
        if self.segment is not None:
            return self.segment.peak_bytes
        return 4 * (math.prod(shape) + math.prod(self.output_shape(shape)))

    def _windows(self, extent: int) -> int:
        if self.kernel < 1 or self.stride < 1 or extent + 2 * self.padding < self.kernel:
            raise UsageError(
                f"layer '{self.name}' ({self.kind}): found a window of {self.kernel} at stride "
                f"{self.stride} over {extent} + 2 x {self.padding}, expected one that fits"
            )
        return (extent + 2 * self.padding - self.kernel) // self.stride + 1


def _image(layer: LayerSpec, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(
            f"layer '{layer.name}' ({layer.kind}): found an input of shape {shape}, "
            "expected (channels, height, width)"
        )
    return shape[0], shape[1], shape[2]
