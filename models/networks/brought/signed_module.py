"""A torch model of any signature becomes one that coinfer plans over.

Token ids, recordings or tensors in; one class, labels, boxes, a vector or tensors out; with exits
of its own, or with exits put into it. Pictures of which a model gives
one class are `profile_module`'s.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from artefacts import UsageError
from models.capture.confident import confident
from models.capture.lower import lower_verified
from models.capture.modules import unwrapped
from models.capture.rows import RowModule
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Samples
from models.data.generated import generated_samples
from models.facts.answers import Answers, with_confidence
from models.facts.judges import Judge, default_judge
from models.facts.outcomes import Outcomes
from models.networks.brought.brought_module import Listener, PictureUses, ProfileArgs
from models.networks.brought.class_names import class_names
from models.networks.brought.exit_placement import read_reasons
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import (
    Taken,
    check_answers,
    input_batches,
    usual_answers,
    with_labels,
)
from models.networks.brought.signed_exits import exits_that_fit, with_exits_put_in
from models.networks.publishing import Origin, Signature, publish

GENERATED = 400
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
    bare = RowModule(module, taken.preprocessing, taken.outputs)
    first = torch.from_numpy(taken.preprocessing.apply(x[:SAMPLES]))
    check_answers(bare, first, name)
    rows = confident(bare, taken.confidence, first)
    spec, state, found = lower_verified(rows, first[:2], name, samples=first, made_up=False)
    values = spec.classes - (taken.confidence is not None)
    answers = taken.answers or usual_answers(module, first, taken, values)
    answers.check(values)
    given = answers if taken.confidence is None else with_confidence(answers)
    spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    samples, labelled = with_labels(samples, x, bare, taken, answers, values)
    lesson = PictureUses.of(samples, args.seed, labelled)
    verify_answers(spec, state, rows, input_batches(lesson.judged.x, taken), allowed(found))
    own = class_names(module)
    names = args.classes or samples.classes or (own if len(own) == answers.named(values) else ())
    args = exits_that_fit(args, bare, name, answers)
    places: tuple[str, ...] = ()
    if args.with_exits:
        spec, state, places = with_exits_put_in(
            folder, bare, name, first, lesson, taken, args, listener, head, answers
        )
        spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    listener.stage("outcomes")
    origin = _origin(lesson, args, places, read_reasons(folder), _names(values, answers, names))
    judge_by = taken.judge if taken.confidence is None else _of_values(taken, answers)
    signature = Signature(taken.preprocessing, given, judge_by, taken.judge_name)
    return publish(
        folder, spec, state, origin, signature, lesson.held, lesson.judged,
        codecs=codecs or taken.codecs, progress=listener.step,
    )  # fmt: skip


def _of_values(taken: Taken, answers: Answers) -> Judge:
    """The judge of rows that end with a confidence: it is no part of what is right."""
    judge_by = taken.judge or default_judge(answers)
    return lambda rows, labels: judge_by(rows[:, :-1], labels)


def _names(values: int, answers: Answers, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes: those that were given, else numbers where the answer is one class."""
    count = answers.named(values)
    if len(names) not in (0, count):
        raise UsageError(f"classes: found {len(names)} names, expected {count}")
    usual = tuple(f"class {k}" for k in range(count)) if answers.one_class else ()
    return names or usual


def _origin(
    lesson: PictureUses,
    args: ProfileArgs,
    places: tuple[str, ...],
    why: tuple[str, ...],
    names: tuple[str, ...],
) -> Origin:
    what = lesson.described.replace("pictures", "samples")
    return Origin(
        names,
        "a model that was brought" + (f"; exits trained on {len(lesson.known)} of {what}"
                                      if args.with_exits else ""),
        f"{len(lesson.judged)} of {what}",
        {
            "exits_at": list(places),
            "exits_why": list(why[: len(places)]),
            "placement": args.placed if args.with_exits else None,
            "epochs": args.epochs if args.with_exits else 0,
            "joint_epochs": args.joint_epochs if args.with_exits else 0,
            "labelled": lesson.labelled,
            "seed": args.seed,
        },
    )  # fmt: skip
