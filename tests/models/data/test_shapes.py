"""Drawn shapes: seeded, labelled where they are, unlike their ground."""

import numpy as np
import pytest

from artefacts import UsageError
from models.data.shapes import MOST_OVERLAP, MOST_SHAPES, SHAPES, drawn_shapes
from models.facts.answers import overlaps
from models.facts.judges import NO_BOX


@pytest.fixture(scope="module")
def drawn():
    return drawn_shapes(60, np.random.default_rng(3), 64)


def test_a_seed_draws_the_same_pictures(drawn):
    again = drawn_shapes(60, np.random.default_rng(3), 64)
    assert np.array_equal(drawn.x, again.x)
    assert np.array_equal(drawn.y, again.y)
    assert not np.array_equal(drawn.x[0], drawn_shapes(1, np.random.default_rng(4), 64).x[0])


def test_labels_are_boxes_within_the_picture(drawn):
    assert drawn.x.shape == (60, 64, 64, 3)
    assert drawn.y.shape == (60, MOST_SHAPES, 5)
    there = drawn.y[..., 0] != NO_BOX
    assert there.any(axis=1).all()
    assert set(np.unique(drawn.y[..., 0][there])) == set(range(len(SHAPES)))
    boxes = drawn.y[..., 1:][there]
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 0.08).all()
    for labels in drawn.y:
        own = labels[labels[:, 0] != NO_BOX, 1:]
        shared = overlaps(own, own) - np.eye(len(own))
        assert shared.max(initial=0.0) <= MOST_OVERLAP + 1e-6


def test_a_shape_stands_out_where_its_box_is(drawn):
    """The middle of a box has one colour, and the strip around the box has another."""
    apart = []
    for x, labels in zip(drawn.x.astype(float), drawn.y, strict=True):
        for _, left, top, right, bottom in labels[labels[:, 0] != NO_BOX]:
            row, column = round(63 * (top + bottom) / 2), round(63 * (left + right) / 2)
            middle = x[row - 1 : row + 2, column - 1 : column + 2].mean(axis=(0, 1))
            low, high = max(0, round(63 * top) - 3), min(63, round(63 * bottom) + 3)
            around = x[[low, high], max(0, round(63 * left)) : round(63 * right)]
            apart.append(np.abs(around.mean(axis=(0, 1)) - middle).max())
    assert np.median(apart) > 50


def test_too_small_a_side_is_refused():
    with pytest.raises(UsageError, match="found 2 of 16 pixels, expected 32"):
        drawn_shapes(2, np.random.default_rng(0), 16)
