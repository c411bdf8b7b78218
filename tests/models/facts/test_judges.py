"""Judges against figures worked out by hand, and what holds for any answers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from models.facts.answers import (
    BoxesAnswer,
    ClassAnswer,
    LabelsAnswer,
    NamedTensor,
    TensorsAnswer,
    VectorAnswer,
    read_answer,
)
from models.facts.judges import (
    NO_BOX,
    box_labels,
    check_choice,
    checked_judge,
    cosine,
    default_judge,
    f1,
    judge_named,
    judged,
    mean_average_precision,
    own_labels,
    relative_closeness,
    top_k,
    usual_judge_name,
)

KINDS = {
    "class": ClassAnswer(),
    "labels": LabelsAnswer(0.4),
    "boxes": BoxesAnswer(queries=2, corners=True),
    "detr": BoxesAnswer(queries=2, scores="softmax"),
    "vector": VectorAnswer(),
    "tensors": TensorsAnswer((NamedTensor("a", "FP32", (2, 5)), NamedTensor("confidence"))),
}
WIDTHS = {"class": 7, "labels": 7, "boxes": 14, "detr": 16, "vector": 7, "tensors": 11}
TWO = BoxesAnswer(queries=5, corners=True)


def rows_of(data, width):
    """1 to 4 rows of finite values."""
    count = data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).normal(0.0, 2.0, (count, width)).astype(np.float32)


def found(*boxes):
    """One row of five boxes of two classes, `(class, score, corners)` each; the rest are none."""
    corners, scores = np.zeros((5, 4)), np.full((5, 2), -9.0)
    for k, (number, score, box) in enumerate(boxes):
        corners[k], scores[k, number] = box, np.log(score / (1.0 - score))
    return np.concatenate([corners.ravel(), scores.ravel()])[None].astype(np.float32)


def labelled(*boxes):
    """Labels of one sample, `(class, corners)` each, and a row that is no box."""
    rows = [[number, *box] for number, box in boxes]
    return np.array([[*rows, [NO_BOX, 0, 0, 0, 0]]], dtype=np.float32)


LEFT, RIGHT, LOW = (0.0, 0.0, 0.4, 0.4), (0.5, 0.0, 0.9, 0.4), (0.0, 0.5, 0.4, 0.9)
NEAR_LEFT = (0.0, 0.0, 0.4, 0.3)
"""IoU of 0.75 with LEFT."""
FAR_LEFT = (0.0, 0.0, 0.4, 0.19)
"""IoU of 0.475 with it: too little."""


def test_top_k_by_hand():
    rows = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 1.0, 0.0]], dtype=np.float32)
    labels = np.array([1, 1, 1], dtype=np.uint8)
    assert top_k(1, rows, labels).tolist() == [0.0, 1.0, 0.0]  # of equal scores the first answers
    assert top_k(2, rows, labels).tolist() == [1.0, 1.0, 1.0]
    assert top_k(1, rows, np.array([2, 2, 2])).tolist() == [0.0, 0.0, 0.0]
    assert top_k(3, rows, np.array([2, 2, 2])).tolist() == [1.0, 1.0, 1.0]


def test_of_equal_scores_the_first_ones_are_the_answer():
    rows = np.zeros((4, 4), dtype=np.float32)
    labels = np.arange(4)
    for k in range(1, 5):
        assert top_k(k, rows, labels).tolist() == [1.0] * k + [0.0] * (4 - k)


def test_a_choice_that_any_answer_satisfies_is_refused():
    check_choice("top-9", ClassAnswer(), 10)
    check_choice("top-1", ClassAnswer(), 2)
    check_choice("f1", KINDS["labels"], 7)
    for name, values, most in (("top-50", 10, "top-1 to top-9"), ("top-10", 10, "top-1 to top-9"),
                               ("top-2", 2, "top-1")):  # fmt: skip
        line = f"^judge: found '{name}' of {values} classes, expected {most}$"
        with pytest.raises(UsageError, match=line):
            check_choice(name, ClassAnswer(), values)


@pytest.mark.parametrize("name", KINDS)
def test_the_usual_judge_has_a_name(name):
    kind = KINDS[name]
    rows = np.random.default_rng(0).normal(size=(3, WIDTHS[name])).astype(np.float32)
    right = own_labels(kind, rows[::-1])
    named = judge_named(usual_judge_name(kind), kind)
    assert named(rows, right).tolist() == default_judge(kind)(rows, right).tolist()


def test_f1_by_hand():
    kind = LabelsAnswer()
    given = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    right = np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    rows = np.where(given == 1, 2.0, -2.0).astype(np.float32)
    # one hit of two given and two right; of one and three; nothing said of nothing; nothing said
    assert f1(kind, rows, right).tolist() == pytest.approx([2 / 4, 2 / 4, 1.0, 0.0])
    right[1] = [1, 1, 0, 0]
    assert f1(kind, rows, right)[1] == pytest.approx(2 / 3)


def test_cosine_and_closeness_by_hand():
    rows = np.array([[1, 0], [3, 4], [-1, 0], [0, 0]], dtype=np.float32)
    right = np.array([[1, 1], [4, 3], [1, 0], [1, 0]], dtype=np.float32)
    assert cosine(rows, right).tolist() == pytest.approx([0.5**0.5, 24 / 25, 0.0, 0.0])
    expected = [1 - (1 / 2) ** 0.5, 1 - 2**0.5 / 5, 0.0, 0.0]
    assert relative_closeness(rows, right).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([(0, 0.9, LEFT)], [(0, LEFT)], 1.0),
        ([(0, 0.9, NEAR_LEFT)], [(0, LEFT)], 1.0),
        ([(0, 0.9, FAR_LEFT)], [(0, LEFT)], 0.0),
        # right, wrong, right of two: precision 1 at the first, 2/3 at the second
        ([(0, 0.9, LEFT), (0, 0.8, LOW), (0, 0.7, RIGHT)], [(0, LEFT), (0, RIGHT)],
         (1 + 2 / 3) / 2),
        # the wrong one first: 1/2 and 2/3
        ([(0, 0.9, LOW), (0, 0.8, LEFT), (0, 0.7, RIGHT)], [(0, LEFT), (0, RIGHT)],
         (1 / 2 + 2 / 3) / 2),
        # one of two found
        ([(0, 0.9, LEFT)], [(0, LEFT), (0, RIGHT)], 0.5),
        # a box is found once: the second find is wrong, and costs nothing behind the last hit
        ([(0, 0.9, LEFT), (0, 0.8, NEAR_LEFT)], [(0, LEFT)], 1.0),
        ([(0, 0.9, LEFT), (0, 0.8, NEAR_LEFT), (0, 0.7, RIGHT)], [(0, LEFT), (0, RIGHT)],
         (1 + 2 / 3) / 2),
        # two classes, one found and one confused with the other
        ([(0, 0.9, LEFT), (0, 0.8, RIGHT)], [(0, LEFT), (1, RIGHT)], 0.5),
        # a class that is given and not there is a class, too
        ([(0, 0.9, LEFT), (1, 0.8, RIGHT)], [(0, LEFT)], 0.5),
        # below the threshold nothing is given
        ([(0, 0.4, LEFT)], [(0, LEFT)], 0.0),
        ([(0, 0.4, LEFT)], [], 1.0),
        ([(0, 0.6, LEFT)], [], 0.0),
        ([], [], 1.0),
    ],
)  # fmt: skip
def test_mean_average_precision_by_hand(boxes, labels, expected):
    found_rows, right = found(*boxes), labelled(*labels)
    assert mean_average_precision(TWO, found_rows, right) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_networks_own_answer_is_all_right_and_any_other_lies_between(name, data):
    kind, rows = KINDS[name], rows_of(data, WIDTHS[name])
    kind.check(WIDTHS[name])
    judge = default_judge(kind)
    assert judged(judge, rows, own_labels(kind, rows)) == pytest.approx(1.0, abs=1e-6)
    other = rows + rows_of(data, WIDTHS[name])[:1]
    quality = judged(judge, other, own_labels(kind, rows))
    assert quality.dtype == np.float32
    assert quality.shape == (len(rows),)
    assert ((quality >= 0) & (quality <= 1)).all()
    # sample by sample as in a batch
    own = [
        judged(judge, other[k : k + 1], own_labels(kind, rows)[k : k + 1])[0]
        for k in range(len(rows))
    ]
    assert quality.tolist() == own


@settings(max_examples=40)
@given(data=st.data())
def test_a_greater_k_forgives_more_and_scale_does_not_turn_a_vector(data):
    rows = rows_of(data, 7)
    labels = np.random.default_rng(len(rows)).integers(0, 7, len(rows))
    ladder = [top_k(k, rows, labels) for k in range(1, 8)]
    assert all((more >= less).all() for less, more in itertools.pairwise(ladder))
    assert ladder[-1].all()
    assert cosine(rows * np.float32(3.0), rows) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=40)
@given(data=st.data())
def test_the_order_of_labelled_boxes_does_not_count(data):
    rows = rows_of(data, 30)
    kind = BoxesAnswer(queries=5, corners=True, overlap=0.3)
    labels = box_labels([kind.detections(row) for row in rows])
    shuffled = labels[:, np.random.default_rng(0).permutation(labels.shape[1])]
    right = mean_average_precision(kind, rows, shuffled)
    assert right == pytest.approx(mean_average_precision(kind, rows, labels))


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_confidence_lies_between_0_and_1_and_is_that_of_one_answer(name, data):
    kind, rows = KINDS[name], rows_of(data, WIDTHS[name])
    sure = kind.confidence(rows)
    assert ((sure >= 0) & (sure <= 1)).all()
    one = read_answer(kind, rows[:1])
    assert one.confidence == pytest.approx(sure[0], rel=1e-5)
    if kind.one_class:
        assert (one.label, one.values) == (int(rows[0].argmax()), None)
    else:
        assert one.label is None
        assert np.array_equal(one.values, rows[0])


def test_judges_are_named_and_fit_their_answers():
    rows = np.array([[3.0, 2.0, 1.0]], dtype=np.float32)
    assert judge_named("top-2", ClassAnswer())(rows, np.array([1])).tolist() == [1.0]
    for name, kind in (("f1", "labels"), ("map", "boxes"), ("cosine", "vector"),
                       ("closeness", "vector"), ("closeness", "tensors")):  # fmt: skip
        assert callable(judge_named(name, KINDS[kind]))
    for name, kind in (("top-1", "vector"), ("top-0", "class"), ("top-x", "class"), ("x", "class"),
                       ("f1", "class"), ("map", "labels"), ("cosine", "tensors")):  # fmt: skip
        with pytest.raises(UsageError, match=f"^judge: found '{name}', expected top-K, f1, map,"):
            judge_named(name, KINDS[kind])


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (lambda rows, labels: np.ones(len(rows) + 1), r"float64 \(3,\), expected numbers"),
        (lambda rows, labels: np.array(["a", "b"]), r"<U1 \(2,\)"),
        (
            lambda rows, labels: np.array([0.5, 1.5]),
            "1.5 for row 1 of 2, expected a quality",
        ),
        (lambda rows, labels: np.array([np.nan, 0.5]), "nan for row 0 of 2"),
    ],
)
def test_what_a_judge_of_ones_own_gives_is_checked(judge, said):
    with pytest.raises(UsageError, match=f"^judge: found .*{said}"):
        judged(judge, np.zeros((2, 3), np.float32), np.zeros(2))
    assert judged(lambda rows, labels: [True, 0], np.zeros((2, 3)), np.zeros(2)).tolist() == [1, 0]


@pytest.mark.parametrize("error", [ValueError("no\nmore"), SystemExit("gone"), KeyError()])
def test_what_a_judge_of_ones_own_raises_is_a_line_that_names_it(error):
    def fails(rows, labels):
        raise error

    judge, rows = checked_judge("mine:fails", fails), np.zeros((2, 3), np.float32)
    line = r"^judge 'mine:fails': failed on rows \(2, 3\) and labels float64 \(2,\): "
    with pytest.raises(UsageError, match=line + type(error).__name__) as said:
        judge(rows, np.zeros(2))
    assert "\n" not in str(said.value)


def test_what_a_named_judge_gives_is_checked_whoever_calls_it():
    rows = np.zeros((2, 3), np.float32)
    judge = checked_judge("mine:odd", lambda rows, labels: [0.25, np.nan])
    with pytest.raises(UsageError, match="^judge 'mine:odd': found nan for row 1 of 2, expected"):
        judge(rows, np.zeros(2))
    assert checked_judge("mine:right", lambda rows, labels: [0.25, 1])(rows, rows).tolist() == [
        0.25,
        1.0,
    ]


def test_a_judge_that_computes_in_place_changes_no_answer():
    def in_place(rows, labels):
        rows -= rows.max(axis=1, keepdims=True)
        np.exp(rows, out=rows)
        right = rows.argmax(axis=1) == labels
        labels[:] = 0
        return right.astype(float)

    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 2])
    before, known = rows.copy(), labels.copy()
    expected = (rows.argmax(axis=1) == labels).tolist()
    assert judged(checked_judge("mine:in_place", in_place), rows, labels).tolist() == expected
    assert (rows == before).all()
    assert (labels == known).all()
