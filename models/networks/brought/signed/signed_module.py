"""A torch model of any signature becomes one that coinfer plans over.

Token ids, recordings or tensors in; one class, labels, boxes, a vector or tensors out; with exits
of its own, or with exits put into it. Pictures of which a model gives
one class are `profile_module`'s.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import nn

from models.capture.confident import confident
from models.capture.lower import lower_verified
from models.capture.modules import unwrapped
from models.capture.rows import RowModule
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Samples
from models.facts.answers import with_confidence
from models.facts.outcomes import Outcomes
from models.networks.brought.brought_module import Listener, PictureUses, ProfileArgs
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import (
    Taken,
    check_answers,
    check_judge,
    input_batches,
    usual_answers,
    with_labels,
)
from models.networks.brought.signed.signed_card import (
    given_names,
    judge_of_values,
    names_in_order,
    origin_of,
    raw_samples,
)
from models.networks.brought.signed.signed_exits import exits_that_fit, with_exits_put_in
from models.networks.publishing import Signature, publish

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
    x = raw_samples(samples, taken, args.seed)
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
    check_judge(samples, bare, taken, answers, values)
    lesson = PictureUses.of(samples, args.seed, labelled)
    verify_answers(spec, state, rows, input_batches(lesson.judged.x, taken), allowed(found))
    names = given_names(args.classes or samples.classes, module, answers.named(values))
    args = exits_that_fit(args, bare, name, answers)
    places: tuple[str, ...] = ()
    if args.with_exits:
        spec, state, places = with_exits_put_in(
            folder, bare, name, first, lesson, taken, args, listener, head, answers
        )
        spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    listener.stage("outcomes")
    origin = origin_of(folder, lesson, args, places, names_in_order(values, answers, names))
    judge_by = taken.judge if taken.confidence is None else judge_of_values(taken, answers)
    signature = Signature(taken.preprocessing, given, judge_by, taken.judge_name)
    return publish(
        folder, spec, state, origin, signature, lesson.held, lesson.judged,
        codecs=codecs or taken.codecs, progress=listener.step,
    )  # fmt: skip
