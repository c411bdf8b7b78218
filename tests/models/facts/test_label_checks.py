"""Labels are held against the answers that they judge; a refusal names file, row and figures."""

import re
from pathlib import Path

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from models.codecs.tensors import NamedTensor
from models.facts.answers import (
    BoxesAnswer,
    ClassAnswer,
    LabelsAnswer,
    TensorsAnswer,
    VectorAnswer,
)
from models.facts.label_checks import check_labels

BOXES = BoxesAnswer(3)
"""Rows of 18 values: two classes."""
TENSORS = TensorsAnswer((NamedTensor("a", "FP32", (2,)),))
GOOD = [1.0, 0.1, 0.2, 0.5, 0.6]
NONE = [-1.0, 9.0, 0.0, -3.0, 0.0]
"""What stands behind the class of no box is nothing."""
CORNERS = "expected left, top, right and bottom of 0 to 1, left <= right and top <= bottom"


@pytest.mark.parametrize(
    ("answers", "values", "y"),
    [
        (ClassAnswer(), 3, np.array([0, 2], dtype=np.uint8)),
        (LabelsAnswer(), 2, np.array([[0, 1], [1, 1]])),
        (LabelsAnswer(), 2, np.array([[0, 1.0], [1, 1]])),
        (LabelsAnswer(), 2, np.array([[False, True]])),
        (VectorAnswer(), 2, np.array([[0.5, -7.0]])),
        (TENSORS, 2, np.array([[0.5, -7.0]])),
        (BOXES, 18, np.array([[GOOD, NONE], [[0.0, 0.3, 0.3, 0.3, 1.000001], GOOD]])),
    ],
)
def test_what_fits_is_taken(answers, values, y):
    check_labels(y, answers, values)


@pytest.mark.parametrize(
    ("answers", "values", "y", "row", "said"),
    [
        (ClassAnswer(), 3, [0, 3], 1, "found 3, expected classes 0 to 2"),
        (ClassAnswer(), 3, [-1, 2], 0, "found -1, expected classes 0 to 2"),
        (ClassAnswer(), 3, [0.5, 2], None, "found float64 (2,), expected classes 0 to 2, (N,)"),
        (LabelsAnswer(), 2, [[0, 1], [7, 1]], 1, "found 7, expected 0 or 1 for every label"),
        (LabelsAnswer(), 2, [[0, 1], [-1, 1]], 1, "found -1, expected 0 or 1 for every label"),
        (LabelsAnswer(), 2, [[np.nan, 1.0]], 0, "found nan, expected 0 or 1 for every label"),
        (LabelsAnswer(), 2, [[0, 1, 1]], None, "found int64 (1, 3), expected (N, 2)"),
        (VectorAnswer(), 2, [[0.5, np.inf]], 0, "found inf, expected finite numbers"),
        (TENSORS, 2, [[0.5, 1], [np.nan, 1]], 1, "found nan, expected finite numbers"),
        (TENSORS, 2, [[0.5]], None, "found float64 (1, 1), expected (N, 2)"),
        (BOXES, 18, [[GOOD], [[2.0, *GOOD[1:]]]], 1, "found 2.0, expected a class of 0 to 1, or"),
        (BOXES, 18, [[[0.5, *GOOD[1:]]]], 0, "found 0.5, expected a class of 0 to 1"),
        (BOXES, 18, [[[np.nan, *GOOD[1:]]]], 0, "found nan, expected a class of 0 to 1"),
        (BOXES, 18, [[GOOD, [0, 0, 0, 300, 0.2]]], 0, f"found [0, 0, 300, 0.2], {CORNERS}"),
        (BOXES, 18, [[NONE], [[0, -0.1, 0, 1, 1]]], 1, f"found [-0.1, 0, 1, 1], {CORNERS}"),
        (BOXES, 18, [[[0, 0.5, 0, 0.2, 1]]], 0, f"found [0.5, 0, 0.2, 1], {CORNERS}"),
        (BOXES, 18, [[[0, 0, 0.9, 1, 0.2]]], 0, f"found [0, 0.9, 1, 0.2], {CORNERS}"),
        (BOXES, 18, [[[0, 0, np.nan, 1, 1]]], 0, f"found [0, nan, 1, 1], {CORNERS}"),
    ],
)
def test_what_does_not_is_refused_with_its_row(answers, values, y, row, said):
    where = "" if row is None else f", row {row}"
    with pytest.raises(UsageError, match=re.escape(f"labels{where}: {said}")) as alone:
        check_labels(np.array(y), answers, values)
    with pytest.raises(ArtefactError, match=re.escape(said)) as named:
        check_labels(np.array(y), answers, values, Path("mine.npz"))
    assert "mine.npz" in str(named.value)
    assert f"'y{where}'" in str(named.value)
    assert "\n" not in f"{alone.value}{named.value}"


def test_an_authors_judge_takes_what_labels_of_tensors_it_likes():
    y = np.array([3.0, np.nan])
    check_labels(y, TENSORS, 2, own_judge=True)
    with pytest.raises(UsageError, match=r"expected \(N, 2\)"):
        check_labels(y, TENSORS, 2)
