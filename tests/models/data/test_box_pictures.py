"""Boxes drawn onto pictures."""

import numpy as np
import pytest
from PIL import Image

from artefacts import UsageError
from models.data.box_pictures import class_colour, draw_boxes


def test_a_box_is_drawn_where_it_is_and_the_picture_stays():
    picture = Image.new("RGB", (201, 101), "white")
    box = np.array([[0.25, 0.5, 0.75, 0.9]], dtype=np.float32)
    drawn = np.asarray(draw_boxes(picture, box, [1], [0.91], ["square"]))
    assert drawn.shape == (101, 201, 3)
    assert (np.asarray(picture) == 255).all()
    colour = np.array(class_colour(1))
    for row, column in ((70, 50), (70, 150), (90, 100)):
        assert (drawn[row, column] == colour).all()
    assert (drawn[70, 100] == 255).all()  # within
    name = drawn[35:49, 50:90].reshape(-1, 3)
    assert (name == colour).all(axis=1).any()  # the name's ground
    letters = drawn[40:46, 52:80].reshape(-1, 3).astype(int).sum(axis=1)
    assert ((letters < 100) | (letters > 665)).any()


def test_classes_have_colours_of_their_own():
    assert len({class_colour(k) for k in range(20)}) == 20


@pytest.mark.parametrize("box", [[-1, -1, 2, 2], [0.9, 0.9, 0.1, 0.1], [1, 1, 1, 1]])
def test_boxes_at_the_edge_and_beyond_are_drawn_without_a_fault(box):
    drawn = draw_boxes(Image.new("L", (20, 12)), np.array([box], dtype=np.float32), [70_000])
    assert drawn.size == (20, 12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="scores: found 2, expected one for each of 1"):
        draw_boxes(Image.new("RGB", (9, 9)), np.zeros((1, 4), np.float32), [0], [0.5, 0.5])
    with pytest.raises(UsageError, match="labels: found 0"):
        draw_boxes(Image.new("RGB", (9, 9)), np.zeros((1, 4), np.float32), [])
