"""What stands on the card of a network that was brought, and the samples where nobody gave any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from artefacts import UsageError
from models.data.datasets import Samples
from models.data.generated import generated_samples
from models.facts.answers import Answers
from models.facts.judges import Judge, default_judge
from models.facts.preprocessing import Raw
from models.networks.brought.brought_module import PictureUses, ProfileArgs
from models.networks.brought.class_names import class_names
from models.networks.brought.exit_placement import read_reasons
from models.networks.brought.signatures import Taken
from models.networks.publishing import Origin

GENERATED = 400
"""Samples that are made up where nobody gave any."""


def raw_samples(samples: Samples | None, taken: Taken, seed: int) -> Raw:
    """Raw `samples` (N, ...); where there are none, made ones that `taken` says, by `seed`."""
    if samples is not None:
        return samples.x
    rng = np.random.default_rng(seed)
    return generated_samples(taken.preprocessing, taken.shape, GENERATED, rng)


def given_names(names: tuple[str, ...], module: nn.Module, count: int) -> tuple[str, ...]:
    """`names` of classes that somebody gave; else those of `module`, where it has `count`."""
    own = class_names(module)
    return names or (own if len(own) == count else ())


def judge_of_values(taken: Taken, answers: Answers) -> Judge:
    """The judge of rows that end with a confidence: it is no part of what is right.

    `taken` says who judges, `answers` what stands before the confidence.
    """
    judge_by = taken.judge or default_judge(answers)
    return lambda rows, labels: judge_by(rows[:, :-1], labels)


def names_in_order(values: int, answers: Answers, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes: those that were given, else numbers where the answer is one class.

    Refuses as many `names` as a row of so many `values` of `answers` does not tell apart.
    """
    count = answers.named(values)
    if len(names) not in (0, count):
        raise UsageError(f"classes: found {len(names)} names, expected {count}")
    usual = tuple(f"class {k}" for k in range(count)) if answers.one_class else ()
    return names or usual


def origin_of(
    folder: Path,
    lesson: PictureUses,
    args: ProfileArgs,
    places: tuple[str, ...],
    names: tuple[str, ...],
) -> Origin:
    """Where a network comes from, for its card.

    `folder` holds what exits were chosen by, `lesson` the samples, `args` how it was done; `places`
    are those of exits that were put in, `names` those of classes.
    """
    why = read_reasons(folder)
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
