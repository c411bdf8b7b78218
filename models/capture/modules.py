"""A user's torch module before it is exported: unwrapped, its types checked, run as it is."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from artefacts import UsageError
from artefacts.endings import is_ending

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_QUANTISED = "torch.ao.nn.quantized"


def unwrapped(module: nn.Module, label: str) -> nn.Module:
    """The module inside `nn.DataParallel` and `torch.compile`, however often they are nested.

    Raises `UsageError` for what torch cannot export at all: a module of TorchScript, and one whose
    `forward` takes no tensor by position.
    """
    while True:
        if isinstance(module, _WRAPPERS):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"model '{label}': found a module of TorchScript (torch.jit), expected the "
            "torch.nn.Module that it was made from"
        )
    if _first_parameter(module) is None:
        raise UsageError(
            f"model '{label}': found forward{inspect.signature(module.forward)}, expected one "
            "that takes a tensor by position: forward(x)"
        )
    return module


def _first_parameter(module: nn.Module) -> inspect.Parameter | None:
    """The parameter of `forward` that the input is given to."""
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            return parameter
    return None


def input_shapes(module: nn.Module, sizes: Mapping[int, Any]) -> tuple[Any, ...]:
    """`sizes` of the only input as `torch.export` wants them: `forward(*args)` has a tuple more."""
    first = _first_parameter(module)
    several = first is not None and first.kind is first.VAR_POSITIONAL
    return ((sizes,),) if several else (sizes,)


@contextlib.contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; afterwards every part of it is in the mode it was in."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextlib.contextmanager
def staying(label: str = "") -> Iterator[None]:
    """Refuse a module that ends the process (`SystemExit`): the command would end as if all were
    well. `label` is the module's name.
    """
    try:
        yield
    except SystemExit as error:
        if is_ending(error):  # a signal, and nothing of the module's
            raise
        named = f"model '{label}'" if label else "model"
        raise UsageError(
            f"{named}: found a forward that ends the process (SystemExit: {error}), expected an "
            "answer"
        ) from None


def answers(module: nn.Module, x: Tensor) -> list[Tensor]:
    """What the module itself gives for a batch, tensor by tensor: nothing exported or compiled.

    In evaluation mode. Raises `UsageError` where it ends the process.
    """
    eager = torch.compiler.set_stance("force_eager")
    with evaluated(module), torch.inference_mode(), eager, staying():
        return list(tensors_in(module(x)))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a module's output, whatever they are gathered in."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def check_parameters(module: nn.Module, label: str) -> None:
    """Refuse, by name, what is not computed in float32: parameters, and quantised layers."""
    for name, part in module.named_modules():
        if type(part).__module__.startswith(_QUANTISED):
            raise UsageError(
                f"model '{label}': found '{name}', a quantised {type(part).__name__}, expected "
                "the module before it was quantised (float32)"
            )
    for name, weight in module.named_parameters():
        if weight.dtype != torch.float32:
            raise UsageError(
                f"model '{label}': found parameter '{name}' in {weight.dtype}, expected "
                "torch.float32 (call .float() on the model)"
            )


def nodes_of(program: ExportedProgram) -> Iterator[fx.Node]:
    """Every operation of a program, those of graphs inside it too."""
    for graph in program.graph_module.modules():
        if isinstance(graph, fx.GraphModule):
            yield from graph.graph.nodes


def refuse_types(program: ExportedProgram, label: str) -> None:
    """Refuse the first operation that computes in half precision or on quantised numbers.

    Whole numbers, booleans and float64 may stand inside; what crosses a cut is float32.
    """
    found = [
        (node, value.dtype)
        for node in nodes_of(program)
        for value in tensors_in(node.meta.get("val"))
        if node.op != "placeholder" and _is_half(value.dtype)
    ]
    if found:
        # what computes says more than what only converts
        node, dtype = next((f for f in found if "_to_copy" not in f[0].name), found[0])
        raise UsageError(
            f"model '{label}': found {dtype} inside (operation '{node.name}'{_place_of(node)}), "
            "expected torch.float32 throughout (leave out autocast, .half(), .bfloat16() and "
            "quantisation)"
        )


def _is_half(dtype: torch.dtype) -> bool:
    if str(dtype).startswith(("torch.qint", "torch.quint")) or dtype is torch.complex32:
        return True
    return dtype.is_floating_point and dtype not in (torch.float32, torch.float64)


def _place_of(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    places = _places(node.meta.get("stack_trace") or "")
    return (f" of '{path}'" if path else "") + (f", {places[-1]}" if places else "")


_WHERE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<where>\S+)')


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def construct_of(error: Exception) -> str:
    """The exporter's own word on what it could not take, in one line, and where it stands."""
    while error.__cause__ is not None:
        # the exporter to ONNX says in the outermost only that a step of it failed
        error = error.__cause__  # type: ignore[assignment]
    text = _COLOURS.sub("", str(error)).strip()
    lines = [" ".join(x.split()) for x in text.splitlines() if x.strip()]
    said = lines[0] if lines else type(error).__name__
    places = _places(text)
    where = f" ({places[-1]})" if places else ""
    return f"{type(error).__name__}: {said[:300]}{where}"


def _places(text: str) -> list[str]:
    """Places in the user's own source that a stack trace names, the innermost last."""
    found = [m for m in _WHERE.finditer(text) if "/torch/" not in m["file"]]
    return [f"{m['file']}, line {m['line']}" for m in found if not m["file"].startswith("<")]
