"""From an `nn.Module` to a `CapturedModel`, by `torch.export`; refusals name the construct."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind, OutputKind
from torch.nn.attention import SDPBackend, sdpa_kernel

from artefacts import UsageError
from models.capture.comparison import TOLERANCE, difference
from models.capture.graph import CapturedModel, is_size
from models.capture.modules import (
    answers,
    check_parameters,
    construct_of,
    evaluated,
    input_shapes,
    refuse_types,
    staying,
    unwrapped,
)

Made = TypeVar("Made")


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
            # what `torch.compile` wrapped inside the model is exported as it was written
            with torch.compiler.set_stance("force_eager"):
                yield
    finally:
        logging.disable(disabled)


def attempted(export_it: Callable[[], Made], label: str) -> Made:
    """What `export_it` makes; if it fails, what it makes with attention in its plain form.

    Fused attention gives tensors of a memory layout that some models (windows, biases) cannot be
    taken apart with. Raises `UsageError` with the construct that stays in the way.
    """
    with contextlib.suppress(Exception), quiet_exporters(), staying(label):
        return export_it()  # the exporters raise some thirty kinds
    try:
        with quiet_exporters(), sdpa_kernel(SDPBackend.MATH), staying(label):
            return export_it()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"model '{label}': cannot be captured: {construct_of(error)}") from None


def exported(module: nn.Module, example: Tensor) -> ExportedProgram:
    """The operations of an unwrapped module; the batch's size stays free."""
    sizes = input_shapes(module, {0: Dim.AUTO})
    return export(module, (example,), dynamic_shapes=sizes)


def capture(module: nn.Module, example: Tensor, name: str | None = None) -> CapturedModel:
    """Capture `module` in evaluation mode; `example` (N, ...) is one input batch with N >= 2.

    The batch's size stays free. `nn.DataParallel` and `torch.compile` around the module are taken
    off. Raises `UsageError` with the construct that cannot be captured, and where in the model's
    source it stands; also where what was captured does not answer as the module does.
    """
    label = name or type(module).__name__
    if example.dim() < 2 or example.shape[0] < 2:
        raise UsageError(
            f"model '{label}': found an example of shape {tuple(example.shape)}, expected a batch "
            "of two samples or more (a batch of one would fix its size)"
        )
    module = unwrapped(module, label)
    check_parameters(module, label)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers(module, example)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's module raises
        raise UsageError(
            f"model '{label}': cannot take an input of shape {('N', *example.shape[1:])}: "
            f"{construct_of(error)}".replace("'N'", "N")
        ) from None
    with evaluated(module):
        program = attempted(lambda: exported(module, example).run_decompositions({}), label)
    refuse_types(program, label)
    model = _from_program(label, program)
    _try_batches(model, example)
    _compare(model, module, example)
    return model


def _compare(model: CapturedModel, module: nn.Module, example: Tensor) -> None:
    """What was captured must answer as the module itself does."""
    x = _one_more(example, 1, model.name)
    with torch.inference_mode():
        found = difference(model.whole(x), answers(module, x)[0])
    if found > TOLERANCE:
        raise UsageError(
            f"model '{model.name}': cannot be captured: what torch.export gives differs from the "
            f"module by {found:.2g} of the greatest score, expected at most {TOLERANCE:g}"
        )


def _one_more(example: Tensor, seed: int, label: str) -> Tensor:
    """Random input of one sample more than `example` (N, ...), of its type.

    Of an example whose samples differ, and of whole numbers, only what it holds is known to be
    valid (a vocabulary's size, a category's number stand nowhere): every position takes one of
    those that samples have there.
    Its samples must differ, else nothing could show that an answer depends on another sample.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (len(example) + 1, *example.shape[1:])
    same = bool((example == example[:1]).all())
    if example.dtype.is_floating_point and same:
        return torch.rand(size, generator=generator).to(example.dtype)
    if same:
        raise UsageError(
            f"model '{label}': found an example in {example.dtype} whose samples are all the same, "
            "expected different ones (what other values are valid is not known)"
        )
    chosen = torch.randint(len(example), (1, *example.shape[1:]), generator=generator)
    return torch.cat([example, example.gather(0, chosen)])


def _try_batches(model: CapturedModel, example: Tensor) -> None:
    """Run one sample more than was captured: a size that is fixed somewhere inside shows here.

    So does an answer to one sample that depends on the others.
    """
    count = len(example)
    more = _one_more(example, 0, model.name)
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
    if not model.uses_input:
        raise UsageError(
            f"model '{label}': cannot be captured: found an output that does not depend on the "
            "input, expected scores of the pictures"
        )
    if not model.keeps_samples:
        given = getattr(ends[1].meta["val"], "shape", None)
        raise UsageError(
            f"model '{label}': cannot be captured: it mixes the samples of a batch (it gives "
            f"{tuple(given or ())} for {tuple(ends[0].meta['val'].shape)}), expected them first "
            "and apart"
        )
    return model
