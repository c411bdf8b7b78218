"""A device judges the answers of its own run: classes by label, anything else by its judge."""

import numpy as np
import pytest

from artefacts import UsageError
from controller.device.frame import FrameRecord
from experiments.replay.answers import another_judge, answers_quality, run_judge
from models.facts.answers import BoxesAnswer, ClassAnswer, LabelsAnswer, VectorAnswer
from models.facts.judges import own_labels


def record(number, label=None, row=None):
    values = None if row is None else np.asarray(row, dtype="<f4").tobytes()
    answered = label is not None or row is not None
    return FrameRecord(
        number, 0, 0.1 * number, 0.05 if answered else None, 0 if answered else None, True,
        "device" if answered else None, label, 0.5 if answered else None, 0, 0.0, None,
        values=values,
    )  # fmt: skip


def test_classes_are_right_or_wrong_and_labels_cycle():
    records = [record(0, 3), record(1, 4), record(2), record(3, 3)]
    labels = np.array([3, 5, 7], dtype=np.uint8)
    assert answers_quality(records, labels, ClassAnswer()).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_anything_else_is_as_good_as_its_judge_says():
    right = np.array([[1, 1], [1, 0]], dtype=np.float32)
    records = [record(0, row=[1, 0]), record(1, row=[2, 0]), record(2), record(3, row=[3, 4])]
    found = answers_quality(records, right, VectorAnswer())
    assert found.tolist() == pytest.approx([0.5**0.5, 1.0, 0.0, 0.6])
    right = np.array([[1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    records = [record(0, row=[5, 5, -5]), record(1, row=[-5, -5, -5])]
    assert answers_quality(records, right, LabelsAnswer()).tolist() == [0.5, 1.0]


def test_boxes_are_held_against_those_of_their_own_sample():
    kind = BoxesAnswer(queries=2, corners=True)
    rows = np.array(
        [[0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 9, -9], [0, 0, 0.2, 0.2, 0.5, 0.5, 1, 1, 9, 9]],
        dtype=np.float32,
    )
    labels = own_labels(kind, rows)
    records = [record(k, row=rows[k % 2]) for k in range(4)]
    assert answers_quality(records, labels, kind).tolist() == [1.0] * 4
    crossed = [record(k, row=rows[1 - k % 2]) for k in range(2)]
    # one of one box is not found; and one of two of a class, behind one that is none
    assert answers_quality(crossed, labels, kind).tolist() == [0.0, 0.0]
    assert answers_quality([record(0), record(1)], labels, kind).tolist() == [0.0, 0.0]


def test_answers_of_different_lengths_are_refused_in_a_line():
    records = [record(0, row=[1, 2]), record(1, row=[1, 2, 3])]
    with pytest.raises(UsageError, match="^run: found answers of 2 to 3 values, expected as many"):
        answers_quality(records, np.zeros((2, 2), np.float32), VectorAnswer())


def test_the_judge_that_a_card_names_counts_and_no_function_of_a_folder_does():
    records = [record(0, row=[3.0, 4.0])]
    right = np.array([[6.0, 8.0]], dtype=np.float32)
    by = {
        name: answers_quality(records, right, VectorAnswer(), name)[0]
        for name in ("", "cosine", "closeness", "os:system")
    }
    assert by == {"": 1.0, "cosine": 1.0, "closeness": 0.5, "os:system": 1.0}


def test_a_run_that_is_held_to_another_judge_than_its_outcomes_says_so():
    for kind, name in (
        (ClassAnswer(), ""), (ClassAnswer(), "top-1"), (VectorAnswer(), "closeness"),
        (VectorAnswer(), ""), (LabelsAnswer(), "f1"), (BoxesAnswer(2), "map"),
    ):  # fmt: skip
        assert another_judge(kind, name) == "", name
    assert run_judge(VectorAnswer(), "closeness") == "closeness"
    assert another_judge(ClassAnswer(), "top-5") == (
        "measured answers are judged by top-1, predicted ones by top-5 (an edge answers a class, "
        "not its scores)"
    )
    for kind, usual in ((ClassAnswer(), "top-1"), (BoxesAnswer(2), "map")):
        assert another_judge(kind, "mine:own") == (
            f"measured answers are judged by {usual}, predicted ones by mine:own (a run does not "
            "import it)"
        )
