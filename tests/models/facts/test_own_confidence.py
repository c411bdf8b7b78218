"""Rows that end with an author's confidence: it is read, and is no part of the answer."""

import numpy as np
import pytest

from artefacts import UsageError
from models.facts.answers import (
    BoxesAnswer,
    ClassAnswer,
    LabelsAnswer,
    NamedTensor,
    TensorsAnswer,
    VectorAnswer,
    read_answer,
    unpacked,
    with_confidence,
)
from models.facts.judges import default_judge, judge_named, own_labels

TENSORS = TensorsAnswer((NamedTensor("a", "FP32", (2, 3)), NamedTensor("b", "FP32", (6,))))
KINDS = [LabelsAnswer(), VectorAnswer(), BoxesAnswer(2), BoxesAnswer(2, "softmax"), TENSORS]
ROWS = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
SURE = np.array([0.25, 0.5, 0.75, 1.0, 0.0], dtype=np.float32)
ENDED = np.concatenate([ROWS, SURE[:, None]], axis=1)
IDS = [f"{type(kind).__name__}-{k}" for k, kind in enumerate(KINDS)]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_last_value_is_how_sure_a_row_is(kind):
    ended = with_confidence(kind)
    ended.check(13)
    assert np.allclose(ended.confidence(ENDED), SURE)
    assert read_answer(ended, ENDED[1:2]).confidence == 0.5
    wild = ENDED.copy()
    wild[:2, -1] = (7.0, -2.0)
    assert ended.confidence(wild)[:2].tolist() == [1.0, 0.0]
    assert ended.named(13) == kind.named(12)
    with pytest.raises(UsageError):
        ended.check(0)


@pytest.mark.parametrize("kind", KINDS[:4], ids=IDS[:4])
def test_the_answer_is_that_of_the_row_without_it(kind):
    ended = with_confidence(kind)
    assert ended.tensors(13) == kind.tensors(12)
    for (a, x), (b, y) in zip(unpacked(ended, ENDED[0]), unpacked(kind, ROWS[0]), strict=True):
        assert a == b
        assert np.array_equal(x, y)
    labels = own_labels(kind, ROWS)
    assert np.array_equal(own_labels(ended, ENDED), labels)
    assert np.allclose(default_judge(ended)(ENDED, labels), default_judge(kind)(ROWS, labels))
    if isinstance(kind, VectorAnswer):
        near = judge_named("closeness", ended)(ENDED, labels)
        assert np.allclose(near, 1.0)


def test_whose_word_it_is_already_cannot_have_another():
    with pytest.raises(UsageError, match="--confidence: found it for one class"):
        with_confidence(ClassAnswer())
    with pytest.raises(UsageError, match="found an output called 'confidence'"):
        with_confidence(with_confidence(TENSORS))
