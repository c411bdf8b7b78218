"""The goal of exits of a module whose answer is no class, from what it answers to some samples."""

from __future__ import annotations

import torch

from models.capture.modules import answers as given_answers
from models.capture.rows import RowModule
from models.facts.answers import Answers, ClassAnswer
from models.facts.judges import default_judge
from models.networks.brought.brought_module import PictureUses
from models.networks.brought.exits.exit_goals import RowGoal
from models.networks.brought.signatures import Taken, input_batches

GOAL_SAMPLES = 500
"""Whose own answers say how far the values of a row spread."""


def row_goal(
    rows: RowModule, lesson: PictureUses, taken: Taken, answers: Answers
) -> RowGoal | None:
    """What exits of `rows` are to answer, by some of its own rows; None where that is one class.

    `lesson` has samples, `taken` says how they are taken and who judges, `answers` what a row is.
    """
    if isinstance(answers, ClassAnswer):
        return None
    few = lesson.known.x[:GOAL_SAMPLES]
    own = torch.cat([given_answers(rows, x)[-1] for x in input_batches(few, taken)])
    return RowGoal(answers, taken.judge or default_judge(answers), own)
