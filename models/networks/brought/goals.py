"""What exits that are put into a module are to answer, by what the module itself answers."""

from __future__ import annotations

import torch
from torch import nn

from models.capture.modules import answers as given_answers
from models.facts.answers import Answers, ClassAnswer
from models.facts.judges import default_judge
from models.networks.brought.brought_module import SampleUses
from models.networks.brought.exits.exit_goals import ClassGoal, ExitGoal, RowGoal
from models.networks.brought.signatures import Taken, input_batches

GOAL_SAMPLES = 500
"""Whose own answers say how far the values of a row spread."""


def exit_goal(
    rows: nn.Module, lesson: SampleUses, taken: Taken, answers: Answers, values: int
) -> ExitGoal:
    """What exits of `rows` are to answer: one class of so many `values`, or rows like its own.

    `lesson` has samples, of whose own answers the spread of a row is taken; `taken` says how they
    are taken and who judges, `answers` what a row is.
    """
    if isinstance(answers, ClassAnswer):
        return ClassGoal(values)
    few = lesson.known.x[:GOAL_SAMPLES]
    own = torch.cat([given_answers(rows, x)[-1] for x in input_batches(few, taken)])
    return RowGoal(answers, taken.judge or default_judge(answers), own)
