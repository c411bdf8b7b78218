"""A torch model of any signature becomes one that coinfer plans over.

Token ids, recordings or tensors in; one class, labels, boxes, a vector or tensors out; with exits
of its own, or with exits put into it where its answers are classes. Pictures of which a model gives
one class are `profile_module`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.capture.export import capture
from models.capture.lower import State, lower_verified
from models.capture.modules import answers as given_answers
from models.capture.modules import unwrapped
from models.capture.rows import RowModule
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Samples
from models.data.generated import generated_samples
from models.facts.answers import Answers, ClassAnswer
from models.facts.branchy import BranchySpec
from models.facts.judges import own_labels
from models.facts.outcomes import Classes, Outcomes, class_type
from models.facts.preprocessing import Raw
from models.networks.brought.brought_module import (
    BroughtModule,
    Listener,
    PictureUses,
    ProfileArgs,
    check_classes,
)
from models.networks.brought.exit_placement import read_reasons, with_exits
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import Taken, check_answers, usual_answers
from models.networks.publishing import Origin, Signature, publish
from models.networks.training_data import Prepared

GENERATED = 400
BATCH = 25
SAMPLES = 4


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

    As `profile_module.convert_module`, for a `module` that takes and gives what `taken` says:
    `folder` is the model's, `name` the network's, `args` say how it is done, `listener` hears of
    it, `head` makes exits' heads, `codecs` may cross a cut. Half of the `samples`, by seed, train
    and choose; the other half judge. Where there are none, made ones with the module's own answers
    stand in. Where `samples` have no labels (`y` of no columns) its own answers are right, too.
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
    check_answers(rows, first, name)
    spec, state, found = lower_verified(rows, first[:2], name, samples=first, made_up=False)
    answers = taken.answers or usual_answers(module, first, taken, spec.classes)
    answers.check(spec.classes)
    spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    if samples is not None and samples.y.size and isinstance(answers, ClassAnswer):
        samples = replace(samples, y=_classes(samples.y, spec.classes))
    labelled = samples is not None and samples.y.size > 0
    if samples is None or not labelled:
        samples = Samples(x, own_labels(answers, _all_rows(rows, x, taken)))
    lesson = PictureUses.of(samples, args.seed, labelled)
    verify_answers(spec, state, rows, _batches(lesson.judged.x, taken), allowed(found))
    names = args.classes or samples.classes
    args = _exits_that_fit(args, rows, name, answers)
    if args.with_exits:
        spec, state = _with_exits(folder, rows, name, first, lesson, taken, args, listener, head)
    listener.stage("outcomes")
    origin = replace(
        _origin(lesson, args, read_reasons(folder)), classes=_names(spec, answers, names)
    )
    signature = Signature(taken.preprocessing, answers, taken.judge, taken.judge_name)
    return publish(
        folder, spec, state, origin, signature, lesson.held, lesson.judged,
        codecs=codecs or taken.codecs, progress=listener.step,
    )  # fmt: skip


def _exits_that_fit(args: ProfileArgs, rows: RowModule, name: str, answers: Answers) -> ProfileArgs:
    """Without exits where none can be put in and nobody asked for them; refuses who did."""
    if not args.with_exits:
        return args
    if rows.exit_count or not isinstance(answers, ClassAnswer):
        if args.fewer:
            return replace(args, exits=0)
        why = f"{rows.exit_count} exits of its own" if rows.exit_count else "no one class"
        raise UsageError(
            f"--exits: found model '{name}' with {why}, expected a model without exits that gives "
            "class scores (exits of others: a module with exit_count)"
        )
    return args


def _classes(y: npt.NDArray[Any], count: int) -> Classes:
    """Labels as classes of `count`, in as few bytes as outcomes keep; refuses what are none."""
    if y.ndim != 1 or y.dtype.kind not in "iu" or not 0 <= int(y.min()) <= int(y.max()) < count:
        raise UsageError(
            f"labels: found {y.dtype} {y.shape}, expected classes 0 to {count - 1}, (N,)"
        )
    kept: Any = y.astype(class_type(count))
    found: Classes = kept
    return found


def _names(spec: BranchySpec, answers: Answers, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes: those that were given, else numbers where the answer is one class."""
    count = answers.named(spec.classes)
    if len(names) not in (0, count):
        raise UsageError(f"classes: found {len(names)} names, expected {count}")
    usual = tuple(f"class {k}" for k in range(count)) if answers.one_class else ()
    return names or usual


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


def _batches(x: Raw, taken: Taken) -> Iterator[Tensor]:
    for k in range(0, len(x), BATCH):
        yield torch.from_numpy(taken.preprocessing.apply(x[k : k + BATCH]))


def _all_rows(rows: RowModule, x: Raw, taken: Taken) -> Float32s:
    """What the last exit gives of every sample (N, V)."""
    return np.concatenate([given_answers(rows, one)[-1].numpy() for one in _batches(x, taken)])


def _origin(lesson: PictureUses, args: ProfileArgs, why: tuple[str, ...]) -> Origin:
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
