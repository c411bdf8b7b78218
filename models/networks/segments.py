"""A captured stretch of operations as a torch module: ONNX operators computed by torch.

Only what torch's exporter gives for inference of vision networks and encoders; any other operator
is refused by name (ONNX Runtime runs them all). Operators mean what the ONNX specification says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from artefacts import UsageError
from models.codecs.tensors import NUMPY_TYPES, NamedTensor
from models.facts.layers import SegmentSpec
from models.graphs.segment_graph import read_segment

Attributes = Mapping[str, Any]
Operator = Callable[[list[Any], Attributes], Any]


class Segment(nn.Module):
    """The operations of a `SegmentSpec` in their order; parameters by the segment's own names."""

    def __init__(self, name: str, spec: SegmentSpec) -> None:
        super().__init__()
        graph = read_segment(name, spec)
        self._name, self.keys = name, [key for key, _ in spec.weights]
        # a module's parameter may not have a dot in its name
        for key, shape in spec.weights:
            self.register_parameter(_plain(key), nn.Parameter(torch.zeros(shape)))
        self._constants = {
            t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in graph.initializer
        }
        self._takes, self._gives = spec.takes, spec.gives
        self._entries = [given.name for given in graph.input]
        self._results = [made.name for made in graph.output]
        self._steps = [self._step(node) for node in graph.node]

    def _step(self, node: onnx.NodeProto) -> tuple[Operator, list[str], list[str], Attributes]:
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise UsageError(
                f"layer '{self._name}' on torch: found operator '{node.op_type}', expected one of "
                f"{', '.join(sorted(OPERATORS))} (the executor 'onnx' runs them all)"
            )
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return operator, list(node.input), list(node.output), attributes

    def parameter(self, key: str) -> Tensor:
        """The parameter that the segment calls `key`."""
        return self.get_parameter(_plain(key))

    def forward(self, x: Tensor) -> Tensor:
        """The stretch's output for a batch of inputs (N, ...); several tensors as rows (N, V)."""
        given = _taken_apart(self._takes, x) if self._takes else [x]
        values: dict[str, Any] = dict(zip(self._entries, given, strict=True))
        own = {key: self.parameter(key) for key in self.keys}

        def value(name: str) -> Any:
            if not name:
                return None
            if name in values:
                return values[name]
            return own[name] if name in own else self._constants[name]

        for operator, inputs, outputs, attributes in self._steps:
            found = operator([value(n) for n in inputs], attributes)
            if len(outputs) == 1:
                values[outputs[0]] = found
            else:
                values.update(zip(outputs, found, strict=False))
        found = [values[name] for name in self._results]
        if self._gives:
            return torch.cat([made.float().flatten(1) for made in found], dim=1)
        result: Tensor = found[0]
        return result


def _taken_apart(parts: Sequence[NamedTensor], rows: Tensor) -> list[Tensor]:
    """The tensors that rows (N, V) hold end to end, each of its own type."""
    found = []
    for part, row in zip(parts, torch.split(rows, [p.values for p in parts], dim=1), strict=True):
        kind = torch.from_numpy(np.zeros(0, dtype=NUMPY_TYPES[part.datatype])).dtype
        found.append(row.reshape(-1, *part.shape).to(kind))
    return found


def _plain(key: str) -> str:
    return "w_" + key.replace(".", "_")


def _numbers(value: Any) -> list[int]:
    return [int(n) for n in value.tolist()]


def _get(inputs: list[Any], k: int) -> Any:
    return inputs[k] if len(inputs) > k else None


def _windows(x: Tensor, a: Attributes) -> tuple[Tensor, dict[str, Any]]:
    """The input, padded where the two sides differ, and torch's arguments of a window."""
    spatial = x.dim() - 2
    pads = list(a.get("pads", [0] * 2 * spatial))
    if pads[:spatial] != pads[spatial:]:
        around = [p for k in reversed(range(spatial)) for p in (pads[k], pads[spatial + k])]
        x, pads = functional.pad(x, around), [0] * 2 * spatial
    return x, {
        "stride": tuple(a.get("strides", [1] * spatial)),
        "padding": tuple(pads[:spatial]),
    }


def _conv(i: list[Any], a: Attributes) -> Tensor:
    x, window = _windows(i[0], a)
    dilation = tuple(a.get("dilations", [1] * (x.dim() - 2)))
    conv = {3: functional.conv1d, 4: functional.conv2d}[x.dim()]
    return conv(x, i[1], _get(i, 2), dilation=dilation, groups=a.get("group", 1), **window)


def _max_pool(i: list[Any], a: Attributes) -> Tensor:
    _plain_pool(a)
    spatial = i[0].dim() - 2
    pads = list(a.get("pads", [0] * 2 * spatial))
    x = i[0]
    if pads[:spatial] != pads[spatial:]:
        around = [p for k in reversed(range(spatial)) for p in (pads[k], pads[spatial + k])]
        x, pads = functional.pad(x, around, value=-torch.inf), [0] * 2 * spatial
    stride = tuple(a.get("strides", [1] * spatial))
    pool = {3: functional.max_pool1d, 4: functional.max_pool2d}[x.dim()]
    pooled: Tensor = pool(x, tuple(a["kernel_shape"]), stride, tuple(pads[:spatial]))
    return pooled


def _average_pool(i: list[Any], a: Attributes) -> Tensor:
    _plain_pool(a)
    padding_counts = bool(a.get("count_include_pad", 0))
    pads = list(a.get("pads", []))
    if not padding_counts and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        raise UsageError("pool on torch: found uneven padding that does not count, expected even")
    x, window = _windows(i[0], a)
    pool = {3: functional.avg_pool1d, 4: functional.avg_pool2d}[x.dim()]
    pooled: Tensor = pool(x, tuple(a["kernel_shape"]), count_include_pad=padding_counts, **window)
    return pooled


def _plain_pool(a: Attributes) -> None:
    if a.get("ceil_mode", 0) or any(d != 1 for d in a.get("dilations", [])):
        raise UsageError("pool on torch: found ceil mode or dilation, expected neither")


def _gemm(i: list[Any], a: Attributes) -> Tensor:
    x = i[0].T if a.get("transA", 0) else i[0]
    if a.get("transB", 0) and a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0:
        return functional.linear(x, i[1], _get(i, 2))
    w = i[1].T if a.get("transB", 0) else i[1]
    y: Tensor = a.get("alpha", 1.0) * (x @ w)
    return y if _get(i, 2) is None else y + a.get("beta", 1.0) * i[2]


def _axes(i: list[Any], a: Attributes) -> list[int] | None:
    given = _get(i, 1)
    return _numbers(given) if given is not None else a.get("axes")


def _depth_to_space(i: list[Any], a: Attributes) -> Tensor:
    if a.get("mode", b"DCR") != b"CRD":
        raise UsageError("DepthToSpace on torch: found mode DCR, expected CRD (a pixel shuffle)")
    return functional.pixel_shuffle(i[0], a["blocksize"])


def _pad(i: list[Any], a: Attributes) -> Tensor:
    x, pads = i[0], _numbers(i[1])
    axes = _numbers(i[3]) if _get(i, 3) is not None else list(range(x.dim()))
    around = [0] * 2 * x.dim()
    for k, axis in enumerate(axes):
        last = x.dim() - 1 - axis % x.dim()
        around[2 * last], around[2 * last + 1] = pads[k], pads[len(axes) + k]
    value = 0.0 if _get(i, 2) is None else float(i[2])
    mode = a.get("mode", b"constant").decode()
    if mode != "constant":
        raise UsageError(f"pad on torch: found mode '{mode}', expected constant")
    return functional.pad(x, around, value=value)


def _reduce_mean(i: list[Any], a: Attributes) -> Tensor:
    kept = bool(a.get("keepdims", 1))
    axes = _axes(i, a)
    mean: Tensor = i[0].mean(dim=tuple(axes or range(i[0].dim())), keepdim=kept)
    return mean


def _reduce_sum(i: list[Any], a: Attributes) -> Tensor:
    axes = _axes(i, a)
    total: Tensor = i[0].sum(
        dim=tuple(axes or range(i[0].dim())), keepdim=bool(a.get("keepdims", 1))
    )
    return total


def _reduce_max(i: list[Any], a: Attributes) -> Tensor:
    axes = _axes(i, a)
    return torch.amax(i[0], tuple(axes or range(i[0].dim())), bool(a.get("keepdims", 1)))


def _reshape(i: list[Any], a: Attributes) -> Tensor:
    sizes = _numbers(i[1])
    if not a.get("allowzero", 0):
        sizes = [i[0].shape[k] if s == 0 else s for k, s in enumerate(sizes)]
    shaped: Tensor = i[0].reshape(sizes)
    return shaped


def _slice(i: list[Any], a: Attributes) -> Tensor:
    x = i[0]
    starts, ends = _numbers(i[1]), _numbers(i[2])
    axes = _numbers(i[3]) if _get(i, 3) is not None else list(range(len(starts)))
    steps = _numbers(i[4]) if _get(i, 4) is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picked = range(x.shape[axis])[slice(start, end, step)]
        x = x.index_select(axis, torch.tensor(list(picked)))
    result: Tensor = x
    return result


def _unsqueeze(i: list[Any], a: Attributes) -> Tensor:
    x = i[0]
    for axis in sorted(_axes(i, a) or []):
        x = x.unsqueeze(axis)
    result: Tensor = x
    return result


def _squeeze(i: list[Any], a: Attributes) -> Tensor:
    axes = _axes(i, a)
    squeezed: Tensor = i[0].squeeze() if axes is None else i[0].squeeze(tuple(axes))
    return squeezed


def _shape(i: list[Any], a: Attributes) -> Tensor:
    return torch.tensor(list(i[0].shape)[slice(a.get("start", 0), a.get("end"))])


def _gather(i: list[Any], a: Attributes) -> Tensor:
    axis, index = a.get("axis", 0), i[1]
    # the operator counts negative indices from the end
    picked: Tensor = i[0].index_select(axis, index.reshape(-1) % i[0].shape[axis])
    sizes = [*i[0].shape[:axis], *index.shape, *i[0].shape[axis + 1 :]]
    return picked.reshape(sizes)


def _split(i: list[Any], a: Attributes) -> Any:
    axis = a.get("axis", 0)
    if _get(i, 1) is not None:
        return i[0].split(_numbers(i[1]), dim=axis)
    return i[0].chunk(a["num_outputs"], dim=axis)


def _layer_norm(i: list[Any], a: Attributes) -> Tensor:
    over = i[0].shape[a.get("axis", -1) :]
    return functional.layer_norm(i[0], tuple(over), i[1], _get(i, 2), a.get("epsilon", 1e-5))


def _batch_norm(i: list[Any], a: Attributes) -> Tensor:
    return functional.batch_norm(i[0], i[3], i[4], i[1], i[2], eps=a.get("epsilon", 1e-5))


def _gelu(i: list[Any], a: Attributes) -> Tensor:
    return functional.gelu(i[0], approximate=a.get("approximate", b"none").decode())


def _cast(i: list[Any], a: Attributes) -> Tensor:
    kind = helper.tensor_dtype_to_np_dtype(a["to"])
    kept: Tensor = i[0].to(torch.from_numpy(np.zeros(0, dtype=kind)).dtype)
    return kept


def _hard_sigmoid(i: list[Any], a: Attributes) -> Tensor:
    return torch.clamp(a.get("alpha", 0.2) * i[0] + a.get("beta", 0.5), 0.0, 1.0)


def _expand(i: list[Any], a: Attributes) -> Tensor:
    # the operator stretches both ways; torch's expand only the tensor
    expanded: Tensor = torch.broadcast_tensors(i[0], i[0].new_empty(_numbers(i[1])))[0]  # type: ignore[no-untyped-call]
    return expanded


OPERATORS: dict[str, Operator] = {
    "Abs": lambda i, a: torch.abs(i[0]),
    "Add": lambda i, a: i[0] + i[1],
    "And": lambda i, a: torch.logical_and(i[0], i[1]),
    "ArgMax": lambda i, a: i[0].argmax(a.get("axis", 0), bool(a.get("keepdims", 1))),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Cos": lambda i, a: torch.cos(i[0]),
    "Clip": lambda i, a: torch.clamp(i[0], _get(i, 1), _get(i, 2)),
    "Concat": lambda i, a: torch.cat(i, dim=a["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": lambda i, a: i[0] / i[1],
    "Erf": lambda i, a: torch.erf(i[0]),
    "Exp": lambda i, a: torch.exp(i[0]),
    "Expand": _expand,
    "Flatten": lambda i, a: i[0].flatten(a.get("axis", 1)),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda i, a: i[0].mean(dim=tuple(range(2, i[0].dim())), keepdim=True),
    "Greater": lambda i, a: i[0] > i[1],
    "GreaterOrEqual": lambda i, a: i[0] >= i[1],
    "HardSigmoid": _hard_sigmoid,
    "Equal": lambda i, a: i[0] == i[1],
    "IsNaN": lambda i, a: torch.isnan(i[0]),
    "HardSwish": lambda i, a: functional.hardswish(i[0]),
    "Identity": lambda i, a: i[0],
    "LayerNormalization": _layer_norm,
    "Less": lambda i, a: i[0] < i[1],
    "LessOrEqual": lambda i, a: i[0] <= i[1],
    "Log": lambda i, a: torch.log(i[0]),
    "MatMul": lambda i, a: i[0] @ i[1],
    "MaxPool": _max_pool,
    "Mul": lambda i, a: i[0] * i[1],
    "Neg": lambda i, a: -i[0],
    "Not": lambda i, a: torch.logical_not(i[0]),
    "Or": lambda i, a: torch.logical_or(i[0], i[1]),
    "Pad": _pad,
    "Pow": lambda i, a: i[0] ** i[1],
    "ReduceMax": _reduce_max,
    "Reciprocal": lambda i, a: torch.reciprocal(i[0]),
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_sum,
    "Relu": lambda i, a: functional.relu(i[0]),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda i, a: torch.sigmoid(i[0]),
    "Sin": lambda i, a: torch.sin(i[0]),
    "Slice": _slice,
    "Softmax": lambda i, a: torch.softmax(i[0], dim=a.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda i, a: torch.sqrt(i[0]),
    "Squeeze": _squeeze,
    "Sub": lambda i, a: i[0] - i[1],
    "Tanh": lambda i, a: torch.tanh(i[0]),
    "Transpose": lambda i, a: i[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda i, a: torch.where(i[0], i[1], i[2]),
}
