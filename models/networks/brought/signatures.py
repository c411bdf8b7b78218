"""What a module that is brought takes and gives, as its author says it, or as is found out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from artefacts import UsageError
from artefacts.arrays import Float32s
from artefacts.imported import is_named
from models.capture.confident import Confidence
from models.capture.modules import answers as given_answers
from models.capture.rows import output_tensors
from models.data.datasets import Samples
from models.facts.answers import Answers, ClassAnswer, TensorsAnswer
from models.facts.judges import (
    Judge,
    check_choice,
    default_judge,
    judge_named,
    judged,
    own_labels,
)
from models.facts.label_checks import check_labels
from models.facts.layers import Shape
from models.facts.outcomes import class_type
from models.facts.preprocessing import PictureInput, Preprocessing, Raw, SoundInput, TokenInput

BATCH = 25
TRIED = 4
"""Samples that a judge is tried on before anything is trained."""
WHATEVER_TENSORS = TensorsAnswer(())
"""Tensors, as many and as large as a module gives."""
TENSOR_CODECS = ("int8", "int8c", "int4c", "int4c+zstd")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a model takes and gives, as its author says it."""

    preprocessing: Preprocessing
    shape: Shape
    """Of the network's input for one sample."""
    answers: Answers | None = None
    """None: one class where it gives one row of scores, else tensors as they are.
    `WHATEVER_TENSORS`: tensors, whatever else it looks like."""
    outputs: tuple[str, ...] = ()
    """Names of what is taken of a mapping; none: everything."""
    judge: Judge | None = None
    """None: the usual one of the answers."""
    judge_name: str = ""
    confidence: Confidence | None = None
    """How sure an exit is, of its rows; None: by the kind of answers."""

    @property
    def codecs(self) -> tuple[str, ...]:
        """What may cross the cuts of such a network, where nobody says."""
        kind = self.preprocessing
        if isinstance(kind, PictureInput):
            return (*TENSOR_CODECS, "uint8", "jpeg35", "jpeg75")
        if isinstance(kind, TokenInput):
            return (*TENSOR_CODECS, "ids16" if kind.vocabulary <= 2**16 else "ids32")
        return (*TENSOR_CODECS, "pcm16", "mulaw") if isinstance(kind, SoundInput) else TENSOR_CODECS

    @property
    def any_value(self) -> bool:
        """Whether the network takes made-up values: of tensors it is not known which are valid."""
        return isinstance(self.preprocessing, PictureInput)

    @property
    def noun(self) -> str:
        """What its samples are called."""
        return "pictures" if isinstance(self.preprocessing, PictureInput) else "samples"


def check_answers(rows: nn.Module, x: Tensor, name: str) -> None:
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
        if len(one) != len(x):
            raise UsageError(
                f"model '{name}': found an answer of shape {tuple(one.shape)} to {len(x)} samples, "
                "expected a row for each"
            )
        if not bool(torch.isfinite(one).all()):
            raise UsageError(
                f"model '{name}': found scores that are not finite numbers, expected finite ones "
                "(is its input what it was trained on?)"
            )


def settled_answers(module: nn.Module, x: Tensor, taken: Taken, values: int) -> Answers:
    """The kind of answers that an author says, or what is found of `module`.

    Where nobody says, it is one class where the answer is one row of two numbers or more, else its
    tensors. `module` gives `values` numbers for each sample of a batch `x` (N, ...), as `taken`
    says.
    """
    if taken.answers not in (None, WHATEVER_TENSORS):
        return taken.answers
    tensors = output_tensors(module, x, taken.preprocessing, taken.outputs)
    if taken.answers is None and len(tensors) == 1 and len(tensors[0].shape) == 1 and values > 1:
        return ClassAnswer()
    return TensorsAnswer(tensors)


def input_batches(x: Raw, taken: Taken) -> Iterator[Tensor]:
    """Raw samples `x` (N, ...) as inputs, a few at a time."""
    for k in range(0, len(x), BATCH):
        yield torch.from_numpy(taken.preprocessing.apply(x[k : k + BATCH]))


def _all_rows(rows: nn.Module, x: Raw, taken: Taken) -> Float32s:
    """What the last exit gives of every sample (N, V)."""
    return np.concatenate([given_answers(rows, one)[-1].numpy() for one in input_batches(x, taken)])


def with_labels(
    samples: Samples | None, x: Raw, rows: nn.Module, taken: Taken, answers: Answers, values: int
) -> tuple[Samples, bool]:
    """Samples with what is right of them, and whether somebody has said it.

    `samples` are a user's (None: `x` (N, ...) were made up); `rows` is the module, which takes what
    `taken` says and gives `answers` of so many `values`. Where there are no labels its own answers
    are right.
    """
    if samples is None or not samples.y.size:
        classes = () if samples is None else samples.classes
        return Samples(x, own_labels(answers, _all_rows(rows, x, taken)), classes), False
    if taken.answers is None and not answers.one_class and samples.y.shape == (len(x),):
        raise UsageError(
            f"model: found an output of {values} values for each sample, and classes as labels; "
            "expected class scores (--answers says what else it gives)"
        )
    own_judge = taken.judge is not None and is_named(taken.judge_name)
    check_labels(samples.y, answers, values, samples.path, own_judge)
    if isinstance(answers, ClassAnswer):
        kept: Any = samples.y.astype(class_type(values))
        return replace(samples, y=kept), True
    return samples, True


def check_judge(
    samples: Samples, rows: nn.Module, taken: Taken, answers: Answers, values: int
) -> None:
    """Try the judge on what the network answers to the first few `samples`, and to one alone.

    A judge that fails, that does not fit the answers, or that any answer of so many `values`
    satisfies, is refused before anything is trained. `rows` is the module, which takes what `taken`
    says and gives `answers`.
    """
    if taken.judge_name and not is_named(taken.judge_name):
        judge_named(taken.judge_name, answers)  # where nobody said what is answered
    check_choice(taken.judge_name, answers, values)
    found = _all_rows(rows, samples.x[:TRIED], taken)
    for count in (len(found), 1):
        judged(taken.judge or default_judge(answers), found[:count], samples.y[:count])
