"""The record that a frame leaves: its plan's answer, else its own, else none; numbers alone."""

import math

import numpy as np
import pytest

from controller.device.frame import Frame
from controller.plans import one_hop
from models.facts.answers import ExitAnswer

pytestmark = pytest.mark.quick
SURE, OTHER = ExitAnswer(0.9, 3), ExitAnswer(0.4, 5)
NOTHING = ExitAnswer(math.nan, 0)


@pytest.mark.parametrize(
    ("plan", "own", "label", "by_plan"),
    [
        (SURE, None, 3, True),
        (SURE, OTHER, 3, True),
        (SURE, NOTHING, 3, True),
        (None, OTHER, 5, False),
        (NOTHING, OTHER, 5, False),
        (NOTHING, None, None, False),
        (NOTHING, NOTHING, None, False),
        (None, NOTHING, None, False),
        (None, None, None, False),
    ],
)
def test_what_are_no_numbers_is_no_answer(plan, own, label, by_plan):
    frame = Frame(0, 0, one_hop(2, 0, 9), 10.0, np.zeros(1), 0.3, 10.3)
    if plan is not None:
        frame.answer, frame.answered_s, frame.answer_exit = plan, 10.2, 2
    if own is not None:
        frame.local_answer, frame.local_exit = own, 0
    record = frame.record(10.25, 10.0)
    assert (record.label, record.by_plan) == (label, by_plan)
    assert (record.exit, record.latency_s is None) == (
        (None, True) if label is None else (2 if by_plan else 0, False)
    )
    assert record.confidence is None or math.isfinite(record.confidence)
    if label is None and (plan or own):
        assert "that are no numbers" in record.error


@pytest.mark.parametrize(
    ("own", "label", "exit_"),
    [
        ((OTHER, SURE), 3, 1),
        ((OTHER, NOTHING), 5, 0),
        ((OTHER, NOTHING, SURE), 3, 2),
        ((NOTHING, OTHER), 5, 1),
        ((NOTHING, NOTHING), None, None),
    ],
)
def test_what_a_deeper_exit_gives_that_is_no_number_costs_no_earlier_answer(own, label, exit_):
    frame = Frame(0, 0, one_hop(2, 0, 9), 10.0, np.zeros(1), 0.3, 10.3)
    for number, answer in enumerate(own):
        frame.keep(number, answer)
    record = frame.record(10.25, 10.0)
    assert (record.label, record.exit) == (label, exit_)
