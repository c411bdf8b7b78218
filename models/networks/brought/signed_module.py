"""A torch model of any signature becomes one that coinfer plans over.

Token ids, recordings or tensors in; one class, labels, boxes, a vector or tensors out; with exits
of its own, or with exits put into it where its answers are classes. Pictures of which a model gives
one class are `profile_module`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.capture.export import capture
from models.capture.lower import State, lower_verified
from models.capture.modules import answers as given_answers
from models.capture.modules import unwrapped
from models.capture.rows import RowModule, output_tensors, own_exits
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Samples
from models.data.generated import generated_samples
from models.facts.answers import Answers, ClassAnswer, TensorsAnswer
from models.facts.branchy import BranchySpec
from models.facts.judges import Judge, own_labels
from models.facts.layers import Shape
from models.facts.outcomes import Outcomes
from models.facts.preprocessing import PictureInput, Preprocessing, SoundInput, TokenInput
from models.networks.brought.brought_module import (
    BroughtModule,
    Listener,
    PictureUses,
    ProfileArgs,
    check_classes,
)
from models.networks.brought.exit_placement import read_reasons, with_exits
from models.networks.brought.factories import HeadFactory
from models.networks.publishing import Origin, Signature, publish
from models.networks.training_data import Prepared

GENERATED = 400
BATCH = 25
SAMPLES = 4
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


def convert_signed(
    folder: Path,
    module: nn.Module,
    name: str,
    samples: Samples | None,
    taken: Taken,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None = None,
    codecs: tuple[str, ...] = (),
) -> Outcomes:
    """Write the model's folder (weights, ranges, card, outcomes); gives the outcomes.

    As `profile_module.convert_module`, for a `module` that takes and gives what `taken` says. Half
    of the `samples`, by seed, train and choose; the other half judge. Where there are none, made
    ones with the module's own answers stand in. Where `samples` have no labels (`y` of no columns)
    its own answers are right, too.
    """
    listener.stage("capture")
    module = unwrapped(module, name)
    rng = np.random.default_rng(args.seed)
    x = (
        generated_samples(taken.preprocessing, taken.shape, GENERATED, rng)
        if samples is None
        else samples.x
    )
    rows = RowModule(module, taken.preprocessing, taken.outputs)
    first = torch.from_numpy(taken.preprocessing.apply(x[:SAMPLES]))
    _check(rows, first, name)
    spec, state, found = lower_verified(rows, first[:2], name, samples=first, made_up=False)
    answers = taken.answers or _usual(module, first, taken, spec.classes)
    answers.check(spec.classes)
    spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    labelled = samples is not None and samples.y.size > 0
    if samples is None or not labelled:
        samples = Samples(x, own_labels(answers, _all_rows(rows, x, taken)))
    lesson = PictureUses.of(samples, args.seed, labelled)
    batches = (
        torch.from_numpy(taken.preprocessing.apply(lesson.judged.x[k : k + BATCH]))
        for k in range(0, len(lesson.judged), BATCH)
    )
    verify_answers(spec, state, rows, batches, allowed(found))
    names = args.classes or samples.classes
    if args.with_exits:
        if rows.exit_count or not isinstance(answers, ClassAnswer):
            why = f"{rows.exit_count} exits of its own" if rows.exit_count else "no one class"
            raise UsageError(
                f"--exits: found model '{name}' with {why}, expected a model without exits that "
                "gives class scores (exits of others: a module with exit_count)"
            )
        spec, state = _with_exits(folder, rows, name, first, lesson, taken, args, listener, head)
    listener.stage("outcomes")
    counted = answers.named(spec.classes)
    if len(names) not in (0, counted):
        raise UsageError(f"classes: found {len(names)} names, expected {counted}")
    origin = _origin(spec.name, lesson, args, read_reasons(folder))
    usual = tuple(f"class {k}" for k in range(counted)) if answers.one_class else ()
    signature = Signature(taken.preprocessing, answers, taken.judge)
    return publish(
        folder, spec, state, replace(origin, classes=names or usual), signature, lesson.held,
        lesson.judged, codecs=codecs or taken.codecs, progress=listener.step,
    )  # fmt: skip


def _with_exits(
    folder: Path,
    rows: RowModule,
    name: str,
    first: Tensor,
    lesson: PictureUses,
    taken: Taken,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
) -> tuple[BranchySpec, State]:
    """The network with exits put in and trained, verified as `profile_module` does."""
    captured = capture(rows, first[:2], name)
    brought = BroughtModule(name, rows, captured, Prepared(taken.preprocessing))
    check_classes(captured, lesson.judged, ())
    _, whole = with_exits(folder, brought, lesson, args, listener, head)
    listener.stage("lowering")
    spec, state, found = lower_verified(whole, first[:2], name, samples=first, made_up=False)
    right = whole if args.joint_epochs else rows
    verify_answers(spec, state, right, brought.batches(lesson.judged), allowed(found))
    return spec, state


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


def _check(rows: RowModule, x: Tensor, name: str) -> None:
    """Refuse a module that cannot take its samples, or gives what are no finite numbers."""
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


def _usual(module: nn.Module, x: Tensor, taken: Taken, values: int) -> Answers:
    """One class where the answer is one row of two numbers or more, else its tensors."""
    tensors = output_tensors(module, x, taken.preprocessing, taken.outputs)
    if len(tensors) == 1 and len(tensors[0].shape) == 1 and values > 1:
        return ClassAnswer()
    return TensorsAnswer(tensors)


def _all_rows(rows: RowModule, x: np.ndarray, taken: Taken) -> Float32s:
    """What the last exit gives of every sample (N, V)."""
    return np.concatenate([one[-1].numpy() for one in _answers(rows, x, taken)])


def _answers(rows: RowModule, x: np.ndarray, taken: Taken) -> Iterator[list[Tensor]]:
    for k in range(0, len(x), BATCH):
        batch = torch.from_numpy(taken.preprocessing.apply(x[k : k + BATCH]))
        yield given_answers(rows, batch)


def _origin(name: str, lesson: PictureUses, args: ProfileArgs, why: tuple[str, ...]) -> Origin:
    what = lesson.described.replace("pictures", "samples")
    return Origin(
        (),
        "a model that was brought" + (f"; exits trained on {len(lesson.known)} of {what}"
                                      if args.with_exits else ""),
        f"{len(lesson.judged)} of {what}",
        {
            "exits_at": [],
            "exits_why": list(why),
            "placement": args.placed if args.with_exits else None,
            "epochs": args.epochs if args.with_exits else 0,
            "joint_epochs": args.joint_epochs if args.with_exits else 0,
            "labelled": lesson.labelled,
            "seed": args.seed,
        },
    )  # fmt: skip
