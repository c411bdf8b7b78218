"""From an `nn.Module` to a `CapturedModel`, by `torch.export`; refusals name the construct."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind, OutputKind

from artefacts import UsageError
from models.capture.graph import CapturedModel, is_size


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """What torch's exporters log and warn of says nothing to a user; what they raise does.

    Absent packages that they do not need, deprecated parts of their own, graphs they gave up on.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # graphs that could not be captured are printed, not logged
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def capture(module: nn.Module, example: Tensor, name: str | None = None) -> CapturedModel:
    """Capture `module` in evaluation mode; `example` (N, ...) is one input batch with N >= 2.

    The batch's size stays free. Raises `UsageError` with the construct that cannot be captured,
    and where in the model's source it stands.
    """
    label = name or type(module).__name__
    if example.dim() < 2 or example.shape[0] < 2:
        raise UsageError(
            f"model '{label}': found an example of shape {tuple(example.shape)}, expected a batch "
            "of two samples or more (a batch of one would fix its size)"
        )
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            module(example)
    except Exception as error:  # whatever the user's module raises
        raise UsageError(
            f"model '{label}': cannot take an input of shape {('N', *example.shape[1:])}: "
            f"{construct_of(error)}".replace("'N'", "N")
        ) from None
    try:
        with quiet_exporters():
            program = export(module, (example,), dynamic_shapes=({0: Dim.AUTO},))
            program = program.run_decompositions({})
    except Exception as error:  # the exporter raises some thirty kinds
        raise UsageError(f"model '{label}': cannot be captured: {construct_of(error)}") from None
    finally:
        module.train(was_training)
    model = _from_program(label, program)
    _try_batches(model, example)
    return model


def _try_batches(model: CapturedModel, example: Tensor) -> None:
    """Run one sample more than was captured: a size that is fixed somewhere inside shows here.

    So does an answer to one sample that depends on the others.
    """
    count = len(example)
    generator = torch.Generator().manual_seed(0)
    more = torch.rand((count + 1, *example.shape[1:]), generator=generator).to(example.dtype)
    try:
        with torch.inference_mode():
            whole, again = model.whole(more), model.whole(more)
            parts = [model.whole(more[:count]), model.whole(more[1:])]
    except RuntimeError:
        whole, again, parts = torch.empty(0), torch.empty(0), []
    if len(whole) != len(more):
        raise UsageError(
            f"model '{model.name}': cannot be captured: it fixes the batch's size to "
            f"{count}, expected one that takes any number of samples"
        )
    if not torch.allclose(whole, again, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise UsageError(
            f"model '{model.name}': cannot be captured: two answers to the same picture differ, "
            "expected a model that draws nothing"
        )
    for alone, together in zip(parts, (whole[:count], whole[1:]), strict=True):
        if not torch.allclose(alone, together, rtol=1e-2, atol=1e-4, equal_nan=True):
            raise UsageError(
                f"model '{model.name}': cannot be captured: its answer to a sample depends on the "
                "others of its batch, expected samples that do not mix"
            )


def _from_program(label: str, program: ExportedProgram) -> CapturedModel:
    signature = program.graph_signature
    changed = [s for s in signature.output_specs if s.kind is OutputKind.BUFFER_MUTATION]
    if changed:
        raise UsageError(
            f"model '{label}': cannot be captured: it changes its buffer '{changed[0].target}' "
            "while it runs, expected a model without memory"
        )
    constants: dict[str, Tensor] = {}
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    inputs, trainable = [], set()
    for item in signature.input_specs:
        if item.kind is InputKind.USER_INPUT:
            inputs.append(item.arg.name)
        else:
            constants[item.arg.name] = state[str(item.target)].detach()
            if item.kind is InputKind.PARAMETER:
                trainable.add(item.arg.name)
    outputs = [s.arg.name for s in signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UsageError(
            f"model '{label}': cannot be captured: found {len(inputs)} inputs and {len(outputs)} "
            "outputs, expected one tensor in and one out (wrap it in a module that has them)"
        )
    by_name = {node.name: node for node in program.graph.nodes}
    called = [node for node in program.graph.nodes if node.op == "call_function"]
    nodes = [node for node in called if not is_size(node)]
    ends = by_name[inputs[0]], by_name[outputs[0]]
    model = CapturedModel(label, tuple(nodes), constants, *ends, frozenset(trainable))
    if not model.keeps_samples:
        given = getattr(ends[1].meta["val"], "shape", None)
        raise UsageError(
            f"model '{label}': cannot be captured: it mixes the samples of a batch (it gives "
            f"{tuple(given or ())} for {tuple(ends[0].meta['val'].shape)}), expected them first "
            "and apart"
        )
    return model


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
    places = [m for m in _WHERE.finditer(text) if "/torch/" not in m["file"]]
    where = f" ({places[-1]['file']}, line {places[-1]['line']})" if places else ""
    return f"{type(error).__name__}: {said[:300]}{where}"
