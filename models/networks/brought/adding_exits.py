"""Exits put into a module of any input, whatever it answers; what they make of it is verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from artefacts import UsageError
from models.capture.confident import confident
from models.capture.export import capture
from models.capture.lower import State, lower_verified
from models.capture.rows import own_exits
from models.capture.verification import allowed, verify_answers
from models.facts.answers import Answers, ClassAnswer
from models.facts.branchy import BranchySpec
from models.networks.brought.brought_module import (
    BroughtModule,
    Listener,
    ProfileArgs,
    SampleUses,
)
from models.networks.brought.exit_placement import with_exits
from models.networks.brought.factories import HeadFactory
from models.networks.brought.goals import exit_goal
from models.networks.brought.signatures import Taken
from models.networks.training_data import Prepared


def exits_that_fit(args: ProfileArgs, rows: nn.Module, name: str, answers: Answers) -> ProfileArgs:
    """`args` without exits where none can be put in and nobody asked for them; refuses who did.

    `rows` is the module called `name`, `answers` what it gives.
    """
    if not args.with_exits:
        return args
    if own_exits(rows):
        if args.fewer:
            return replace(args, exits=0)
        raise UsageError(
            f"--exits: found model '{name}' with {own_exits(rows)} exits of its own, expected a "
            "model without exits"
        )
    if args.joint_epochs and not isinstance(answers, ClassAnswer):
        raise UsageError(
            f"--joint-epochs: found {args.joint_epochs}, expected 0: exits of answers that are no "
            "class learn from the network's own, which stay"
        )
    return args


def with_exits_put_in(
    folder: Path,
    rows: nn.Module,
    name: str,
    first: Tensor,
    lesson: SampleUses,
    taken: Taken,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
    answers: Answers,
) -> tuple[BranchySpec, State, tuple[str, ...]]:
    """The network with exits put in and trained, and where the exits hang.

    It is verified: every stretch on a few samples, and its last exit on every sample that judges,
    against what the module computes. Joint training changes the module's own weights: the last exit
    is then held against what was trained, and no longer answers as the module that was brought.

    `rows` is the module called `name` and `first` a batch (N, ...) of its inputs; `lesson` are the
    samples to learn from, `taken` says what they are, `args` how it is done. `folder` keeps
    checkpoints, `listener` hears of the progress, `head` makes heads (None: the usual ones);
    `answers` is what an exit gives.
    """
    captured = capture(rows, first[:2], name)
    goal = exit_goal(rows, lesson, taken, answers, captured.output.shape[0])
    brought = BroughtModule(name, rows, captured, Prepared(taken.preprocessing), goal)
    points, whole = with_exits(folder, brought, lesson, args, listener, head)
    listener.stage("lowering")
    answering = confident(whole, taken.confidence, first)
    spec, state, found = lower_verified(
        answering, first[:2], name, samples=first, made_up=taken.any_value
    )
    right = answering if args.joint_epochs else confident(rows, taken.confidence, first)
    verify_answers(spec, state, right, brought.batches(lesson.judged), allowed(found))
    return spec, state, tuple(point.crossings[0].name for point in points)
