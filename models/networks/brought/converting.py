"""A torch module of anybody's becomes a network that coinfer plans over: captured and judged.

Pictures, token ids, recordings or tensors in; one class, labels, boxes, a vector or tensors out;
with exits of its own, or with exits put into it. The module itself is not trained: what is trained
are the exits put into it. Where there are no labels its own answers stand in for them, and every
accuracy is then an agreement with it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import nn

from models.capture.confident import confident
from models.capture.lower import lower_verified
from models.capture.modules import check_parameters, unwrapped
from models.capture.rows import as_rows
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Samples
from models.facts.answers import with_confidence
from models.facts.outcomes import Outcomes
from models.networks.brought.adding_exits import exits_that_fit, with_exits_put_in
from models.networks.brought.brought_module import Listener, ProfileArgs, SampleUses
from models.networks.brought.card_entries import (
    check_names,
    given_names,
    judge_of_values,
    names_in_order,
    origin_of,
    raw_samples,
)
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import (
    Taken,
    check_answers,
    check_judge,
    input_batches,
    settled_answers,
    with_labels,
)
from models.networks.publishing import Signature, publish

SAMPLES = 4
"""Samples that every stretch is verified with, beside made-up ones."""


def convert(
    folder: Path,
    module: nn.Module,
    name: str,
    samples: Samples | None,
    taken: Taken,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None = None,
    codecs: tuple[str, ...] = (),
    more: Samples | None = None,
) -> Outcomes:
    """Write the model's folder (weights, ranges, card, outcomes); gives the outcomes.

    Half of the samples, by seed, train and choose; the other half judge, once. What is written has
    been held against the torch module; `UsageError` where it is not that module.

    `folder` is the model's, `name` the network's; `module` takes and gives what `taken` says. Where
    there are no `samples`, made ones stand in; where they have no labels (`y` of no columns), the
    module's own answers are right. `args` say how it is done, `listener` hears of it, `head` makes
    exits' heads, `codecs` may cross a cut (none: the usual ones). `more` samples never judge.
    """
    listener.stage("capture")
    module = unwrapped(module, name)
    check_parameters(module, name)
    x, made = raw_samples(samples, taken, args.seed), samples is None
    first = torch.from_numpy(taken.preprocessing.apply(x[:SAMPLES]))
    bare = as_rows(module, taken.preprocessing, first, taken.outputs)
    check_answers(bare, first, name)
    rows = confident(bare, taken.confidence, first)
    # what cannot be cut, or not rightly, is said before hours of training
    made_up = taken.any_value
    spec, state, found = lower_verified(rows, first[:2], name, samples=first, made_up=made_up)
    values = spec.classes - (taken.confidence is not None)
    answers = settled_answers(module, first, taken, values)
    answers.check(values)
    given = answers if taken.confidence is None else with_confidence(answers)
    check_names(() if args.classes else _names(samples), module, values, answers, name)
    names = names_in_order(
        values, answers, given_names(args.classes or _names(samples), module, values, answers), name
    )
    samples, labelled = with_labels(samples, x, bare, taken, answers, values)
    more = None if more is None else with_labels(more, more.x, bare, taken, answers, values)[0]
    check_judge(samples, bare, taken, answers, values)
    lesson = SampleUses.of(samples, args.seed, labelled, more, taken.noun, made)
    verify_answers(spec, state, rows, input_batches(lesson.judged.x, taken), allowed(found))
    args = exits_that_fit(args, bare, name, answers)
    places: tuple[str, ...] = ()
    if args.with_exits:
        spec, state, places = with_exits_put_in(
            folder, bare, name, first, lesson, taken, args, listener, head, answers
        )
    spec = msgspec.structs.replace(spec, returns_row=not answers.one_class)
    listener.stage("outcomes")
    judge_by = judge_of_values(taken, answers)
    signature = Signature(taken.preprocessing, given, judge_by, taken.judge_name)
    return publish(
        folder, spec, state, origin_of(folder, lesson, args, places, names), signature,
        lesson.held, lesson.judged, codecs=codecs or taken.codecs, progress=listener.step,
    )  # fmt: skip


def _names(samples: Samples | None) -> tuple[str, ...]:
    return () if samples is None else samples.classes
