"""What a module that is brought takes and gives, as its author says it, or as is found out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.modules import answers as given_answers
from models.capture.rows import RowModule, output_tensors, own_exits
from models.facts.answers import Answers, ClassAnswer, TensorsAnswer
from models.facts.judges import Judge
from models.facts.layers import Shape
from models.facts.preprocessing import PictureInput, Preprocessing, SoundInput, TokenInput
from models.networks.brought.brought_module import ProfileArgs

TENSOR_CODECS = ("int8", "int8c", "int4c", "int4c+zstd")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a model takes and gives, as its author says it."""

    preprocessing: Preprocessing
    shape: Shape
    """Of the network's input for one sample."""
    answers: Answers | None = None
    """None: one class where it gives one row of scores, else tensors as they are."""
    outputs: tuple[str, ...] = ()
    """Names of what is taken of a mapping; none: everything."""
    judge: Judge | None = None
    """None: the usual one of the answers."""

    @property
    def codecs(self) -> tuple[str, ...]:
        """What may cross the cuts of such a network, where nobody says."""
        kind = self.preprocessing
        if isinstance(kind, PictureInput):
            return (*TENSOR_CODECS, "uint8", "jpeg35", "jpeg75")
        if isinstance(kind, TokenInput):
            return (*TENSOR_CODECS, "ids16" if kind.vocabulary <= 2**16 else "ids32")
        return (*TENSOR_CODECS, "pcm16", "mulaw") if isinstance(kind, SoundInput) else TENSOR_CODECS


def without_exits(
    args: ProfileArgs, exits: int | None, module: nn.Module, taken: Taken
) -> ProfileArgs:
    """`args` without exits where nobody asked for any (`exits` is None) and none could be put in:
    the `module` has its own, or `taken` says that its answers are no one class.
    """
    one_class = taken.answers is None or taken.answers.one_class
    if exits is not None or (one_class and not own_exits(module)):
        return args
    return replace(args, exits=0)


def check_answers(rows: RowModule, x: Tensor, name: str) -> None:
    """Refuse a module that cannot take a batch `x` (N, ...), or gives what are no finite numbers.

    `rows` is the module called `name`.
    """
    try:
        found = given_answers(rows, x)
    except UsageError:
        raise
    except Exception as error:  # whatever the user's module raises
        raise UsageError(
            f"model '{name}': cannot take an input of shape {tuple(x.shape)}: "
            f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        ) from None
    for one in found:
        if len(one) != len(x) or not bool(torch.isfinite(one).all()):
            raise UsageError(
                f"model '{name}': found an answer of shape {tuple(one.shape)} that is not one row "
                f"of finite numbers for each of {len(x)} samples"
            )


def usual_answers(module: nn.Module, x: Tensor, taken: Taken, values: int) -> Answers:
    """One class where the answer is one row of two numbers or more, else its tensors.

    `module` gives `values` numbers for each sample of a batch `x` (N, ...), as `taken` says.
    """
    tensors = output_tensors(module, x, taken.preprocessing, taken.outputs)
    if len(tensors) == 1 and len(tensors[0].shape) == 1 and values > 1:
        return ClassAnswer()
    return TensorsAnswer(tensors)
