"""From an `nn.Module` to one ONNX model, with the torch program that the model was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from artefacts import without_package
from models.capture.export import attempted, exported
from models.capture.modules import (
    check_parameters,
    evaluated,
    nodes_of,
    refuse_types,
    unwrapped,
)
from models.graphs.onnx_graph import OPSET

DIVISOR = 6
"""Where `divisor_override` stands among the parameters of torch's pooling."""


@dataclass(frozen=True, eq=False)
class Exported:
    """An ONNX model, the module it came from (unwrapped) and the torch program in between.

    The program is the one that was translated: its values have the names of the ONNX tensors.
    """

    proto: onnx.ModelProto
    module: nn.Module
    program: ExportedProgram


def to_onnx(module: nn.Module, example: Tensor, name: str) -> Exported:
    """The module in evaluation mode as one ONNX model with a free batch size, not yet verified.

    Raises `DependencyError` where torch is there without what its exporter needs.
    """
    if find_spec("onnxscript") is None:
        raise without_package(f"model '{name}'", "onnxscript", "torch")
    module = unwrapped(module, name)
    check_parameters(module, name)
    # weights that lie channels last (training does that) are exported as other operations
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def export_it() -> tuple[onnx.ModelProto, ExportedProgram]:
        program = exported(module, example)
        if any(_divides(node) for node in nodes_of(program)):
            program = program.run_decompositions(_DECOMPOSED)
        refuse_types(program, name)
        made: Any = torch.onnx.export(
            program, (example,), dynamo=True, optimize=True, verbose=False, opset_version=OPSET,
        )  # fmt: skip
        return made.model_proto, made.exported_program or program

    with evaluated(module):
        proto, program = attempted(export_it, name)
    return Exported(proto, module, program)


def _average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """`divisor_override`, which torch's exporter forgets, as a factor behind the pooling.

    Not with `ceil_mode`, whose last windows are divided by fewer numbers.
    """
    if divisor_override is None or ceil_mode:
        return NotImplemented
    count = math.prod(kernel) if len(kernel) == 2 else kernel[0] ** 2
    mean = torch.ops.aten.avg_pool2d.default(x, kernel, stride, padding, False, True)
    return mean * (count / divisor_override)


def _divides(node: fx.Node) -> bool:
    """Whether an operation is a pooling with a divisor of its own, its last parameter."""
    return node.target is torch.ops.aten.avg_pool2d.default and (
        len(node.args) == DIVISOR + 1 or "divisor_override" in node.kwargs
    )


_DECOMPOSED: dict[Any, Callable[..., Any]] = {torch.ops.aten.avg_pool2d.default: _average_pool}
