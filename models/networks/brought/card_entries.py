"""What stands on the card of a network that was brought, and the samples where nobody gave any."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from torch import nn

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats
from artefacts.printing import first_of
from models.data.datasets import Samples
from models.data.generated import MADE_SAMPLES, generated_samples
from models.data.labels import MOST_CLASSES
from models.facts.answers import Answers
from models.facts.judges import Judge, Labels, default_judge
from models.facts.preprocessing import Raw
from models.networks.brought.brought_module import ProfileArgs, SampleUses
from models.networks.brought.class_names import class_names
from models.networks.brought.exit_placement import read_reasons
from models.networks.brought.signatures import Taken
from models.networks.publishing import Origin


def raw_samples(samples: Samples | None, taken: Taken, seed: int) -> Raw:
    """Raw `samples` (N, ...); where there are none, made ones that `taken` says, by `seed`."""
    if samples is not None:
        return samples.x
    rng = np.random.default_rng(seed)
    return generated_samples(taken.preprocessing, taken.shape, MADE_SAMPLES, rng)


def given_names(
    names: tuple[str, ...], module: nn.Module, values: int, answers: Answers
) -> tuple[str, ...]:
    """`names` of classes that somebody gave; else those of `module`, where it has as many.

    A row of so many `values` of `answers` says how many classes there are.
    """
    own = class_names(module)
    return names or (own if len(own) == answers.named(values) else ())


def check_names(
    names: tuple[str, ...], module: nn.Module, values: int, answers: Answers, name: str
) -> None:
    """Refuse classes of the data that have other `names` than those that `module` itself has.

    Which of the scores each of them is could only be guessed. The module is called `name`; a row of
    so many `values` of `answers` says how many classes it tells apart.
    """
    own = class_names(module)
    others = [one for one in names if one not in own]
    if others and len(own) == answers.named(values):
        raise UsageError(
            f"--data: found classes {first_of(others, 3)}, expected those of model '{name}' "
            f"({first_of(own, 5)}), or --classes: a file of names in the order of its scores"
        )


def judge_of_values(taken: Taken, answers: Answers) -> Judge | None:
    """Who judges (None: the usual judge); of rows that end with a confidence what stands before it.

    `taken` says who judges, and whether there is a confidence; `answers` are without it.
    """
    if taken.confidence is None:
        return taken.judge
    # what is bound, and no closure, tells one judge from another where judging goes on
    return functools.partial(_without_confidence, taken.judge or default_judge(answers))


def _without_confidence(judge_by: Judge, rows: Float32s, labels: Labels) -> Floats:
    return judge_by(rows[:, :-1], labels)


def names_in_order(
    values: int, answers: Answers, names: tuple[str, ...], model: str
) -> tuple[str, ...]:
    """Names of classes: those that were given, else numbers where the answer is one class.

    Refuses as many `names` as a row of so many `values` of `answers` does not tell apart, which is
    what the network called `model` gives; and more classes than outcomes can keep.
    """
    count = answers.named(values)
    if answers.one_class and count > MOST_CLASSES:
        raise UsageError(
            f"model '{model}': found {count} classes, expected 2 to {MOST_CLASSES} (outcomes keep "
            "a class in two bytes at most)"
        )
    if len(names) not in (0, count):
        raise UsageError(
            f"classes: found {len(names)} names ({first_of(names, 3)}), expected {count}, what "
            f"model '{model}' tells apart (--classes FILE names them all)"
        )
    usual = tuple(f"class {k}" for k in range(count)) if answers.one_class else ()
    return names or usual


def origin_of(
    folder: Path,
    lesson: SampleUses,
    args: ProfileArgs,
    places: tuple[str, ...],
    names: tuple[str, ...],
) -> Origin:
    """Where a network comes from, for its card.

    `folder` holds what exits were chosen by, `lesson` the samples, `args` how it was done; `places`
    are those of exits that were put in, `names` those of classes.
    """
    why, what = read_reasons(folder), lesson.described
    trained = f"; its exits were trained on {len(lesson.known)} of {what}"
    return Origin(
        names,
        f"a model that was brought{trained if args.with_exits else ''}",
        f"{len(lesson.judged)} of {what}",
        {
            "exits_at": list(places),
            "exits_why": list(why[: len(places)]),
            "placement": args.placed if args.with_exits else None,
            "distillation": args.distillation if args.with_exits else 0.0,
            "own_blocks": args.own_blocks if args.with_exits else 0,
            "epochs": args.epochs if args.with_exits else 0,
            "joint_epochs": args.joint_epochs if args.with_exits else 0,
            "labelled": lesson.labelled,
            "generated": lesson.generated,
            "seed": args.seed,
        },
    )
