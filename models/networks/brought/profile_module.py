"""A torch model that is not ours becomes one that coinfer plans over: captured and judged.

The model itself is not trained: what is trained are the exits put into it. Where there are no
labels its own answers stand in for them, and every accuracy is then an agreement with it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.capture.exits import WithExits
from models.capture.export import capture
from models.capture.graph import Cut
from models.capture.lower import State, lower_verified
from models.capture.modules import unwrapped
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Pictures
from models.data.pictures import agreement_labels, unlabelled_pictures
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.networks.brought.brought_module import (
    BroughtModule,
    Listener,
    PictureUses,
    ProfileArgs,
    check_classes,
    check_scores,
    names_of_classes,
)
from models.networks.brought.exit_placement import read_reasons, with_exits
from models.networks.brought.factories import HeadFactory
from models.networks.publishing import Origin, Signature, publish
from models.networks.training_data import Normalisation

SAMPLES = 4
"""Pictures that every stretch is verified with, beside made-up samples."""
CODECS = ("int8", "int8c", "int4c", "int4c+zstd", "uint8", "jpeg35", "jpeg75")


def convert_module(
    folder: Path,
    module: nn.Module,
    name: str,
    pictures: Pictures | None,
    side: tuple[int, int],
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None = None,
    codecs: tuple[str, ...] = CODECS,
    more: Pictures | None = None,
) -> Outcomes:
    """Write the model's folder (weights, ranges, card, outcomes); gives the outcomes.

    Half of the pictures, by seed, train and choose; the other half judge, once. `head` makes the
    exits' heads (`default_head` where it is not given). `codecs` are what may cross a cut. What is
    written has been held against the torch module; `UsageError` where it is not that module.

    `folder` is the model's, `name` the network's. `module` takes pictures of `side` (height, width)
    pixels. Where there are no `pictures`, made ones with the module's own answers stand in. `args`
    say how it is done, `listener` hears of it. `more` labelled pictures train, too.
    """
    listener.stage("capture")
    module = unwrapped(module, name)
    captured = capture(module, torch.zeros(2, 3, *side), name)
    brought = BroughtModule(name, module, captured, Normalisation(args.mean, args.std))
    names = names_of_classes(brought, pictures, args)
    check_classes(captured, pictures, names)
    if more is not None:
        check_classes(captured, more, names)
    given = unlabelled_pictures(side, args.seed) if pictures is None else pictures.x
    check_scores(brought, given[:2])
    # what cannot be cut, or not rightly, is said before hours of training
    samples = brought.normalisation.apply(given[:SAMPLES])
    spec, state, found = lower_verified(module, brought.example, name, samples=samples)
    labelled = pictures is not None
    if pictures is None:
        pictures = Pictures(given, agreement_labels(given, brought.scores, 50))
    lesson = PictureUses.of(pictures, args.seed, labelled, more)
    verify_answers(spec, state, module, brought.batches(lesson.judged), allowed(found))
    points: tuple[Cut, ...] = ()
    if args.with_exits:
        points, whole = with_exits(folder, brought, lesson, args, listener, head)
        listener.stage("lowering")
        spec, state = _lowered(brought, whole, lesson, args)
    listener.stage("outcomes")
    return publish(
        folder, spec, state, _origin(spec, points, lesson, args, names, read_reasons(folder)),
        Signature(brought.normalisation.preprocessing), lesson.held, lesson.judged,
        codecs=codecs, progress=listener.step,
    )  # fmt: skip


def _lowered(
    brought: BroughtModule, whole: WithExits, lesson: PictureUses, args: ProfileArgs
) -> tuple[BranchySpec, State]:
    """The network that is published: what `whole` computes, in every stretch; and its last exit,
    on every picture that judges, what the module computes.

    Joint training changes the weights of the model itself: the last exit is then held against what
    was trained, and no longer answers as the module that was brought.
    """
    samples = brought.normalisation.apply(lesson.judged.x[:SAMPLES])
    spec, state, found = lower_verified(whole, brought.example, brought.name, samples=samples)
    right = whole if args.joint_epochs else brought.module
    verify_answers(spec, state, right, brought.batches(lesson.judged), allowed(found))
    return spec, state


def _origin(
    spec: BranchySpec,
    points: tuple[Cut, ...],
    lesson: PictureUses,
    args: ProfileArgs,
    names: tuple[str, ...],
    why: tuple[str, ...],
) -> Origin:
    what = lesson.described
    return Origin(
        names or tuple(f"class {k}" for k in range(spec.classes)),
        f"a model that was brought; its exits were trained on {len(lesson.known)} of {what}",
        f"{len(lesson.judged)} of {what}",
        {
            "exits_at": [p.crossings[0].name for p in points],
            "exits_why": list(why[: len(points)]),
            "placement": args.placed if args.with_exits else None,
            "distillation": args.distillation if args.with_exits else 0.0,
            "own_blocks": args.own_blocks if args.with_exits else 0,
            "epochs": args.epochs if args.with_exits else 0,
            "joint_epochs": args.joint_epochs if args.with_exits else 0,
            "labelled": lesson.labelled,
            "seed": args.seed,
        },
    )
