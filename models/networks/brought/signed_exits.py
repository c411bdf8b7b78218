"""Exits put into a module of any input whose answer is one class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from artefacts import UsageError
from models.capture.export import capture
from models.capture.lower import State, lower_verified
from models.capture.rows import RowModule
from models.capture.verification import allowed, verify_answers
from models.facts.answers import Answers, ClassAnswer
from models.facts.branchy import BranchySpec
from models.networks.brought.brought_module import (
    BroughtModule,
    Listener,
    PictureUses,
    ProfileArgs,
    check_classes,
)
from models.networks.brought.exit_placement import with_exits
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import Taken
from models.networks.training_data import Prepared


def exits_that_fit(args: ProfileArgs, rows: RowModule, name: str, answers: Answers) -> ProfileArgs:
    """`args` without exits where none can be put in and nobody asked for them; refuses who did.

    `rows` is the module called `name`, `answers` what it gives.
    """
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


def with_exits_put_in(
    folder: Path,
    rows: RowModule,
    name: str,
    first: Tensor,
    lesson: PictureUses,
    taken: Taken,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
) -> tuple[BranchySpec, State, tuple[str, ...]]:
    """The network with exits put in and trained, verified as `profile_module` does, and where the
    exits hang.

    `rows` is the module called `name` and `first` a batch (N, ...) of its inputs; `lesson` are the
    samples to learn from, `taken` says what they are, `args` how it is done. `folder` keeps
    checkpoints, `listener` hears of the progress, `head` makes heads (None: the usual ones).
    """
    captured = capture(rows, first[:2], name)
    brought = BroughtModule(name, rows, captured, Prepared(taken.preprocessing))
    check_classes(captured, lesson.judged, ())
    points, whole = with_exits(folder, brought, lesson, args, listener, head)
    listener.stage("lowering")
    spec, state, found = lower_verified(whole, first[:2], name, samples=first, made_up=False)
    right = whole if args.joint_epochs else rows
    verify_answers(spec, state, right, brought.batches(lesson.judged), allowed(found))
    return spec, state, tuple(point.crossings[0].name for point in points)
