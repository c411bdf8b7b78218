"""Heads of exits that answer with boxes: the queries keep the network's own order."""

import pytest
import torch

from artefacts import UsageError
from models.capture.box_heads import (
    GridHead,
    QueriesHead,
    box_head_of_kind,
    box_kinds_for,
    grid_of,
)
from models.capture.graph import Crossing


def crossing(*shape):
    return Crossing("x", shape, torch.float32)


@pytest.mark.parametrize(
    ("queries", "shape", "grid"),
    [
        (144, (8, 12, 12), (12, 12)),
        (144, (8, 48, 48), (12, 12)),
        (32, (8, 8, 16), (4, 8)),
        (144, (8, 6, 6), None),  # fewer cells than boxes
        (100, (8, 25, 20), None),  # other proportions
        (100, (64, 20), None),
        (7, (8, 12, 12), None),
    ],
)
def test_queries_lie_as_cells_where_they_can(queries, shape, grid):
    assert grid_of(queries, shape) == grid


def test_a_grid_head_gives_each_cell_its_own_query():
    """A picture that is bright in one cell moves that cell's query most, boxes before scores."""
    torch.manual_seed(0)
    head = GridHead((3, 16, 16), (4, 4), 6).eval()
    # no neighbours are looked at: what moves is the cell's alone
    head.body, head.out = torch.nn.AvgPool2d(4), torch.nn.Conv2d(3, 6, 1)
    x = torch.zeros(1, 3, 16, 16)
    with torch.inference_mode():
        before = head(x)
        x[:, :, 4:8, 12:] = 5.0
        moved = (head(x) - before).abs()[0]
    assert moved.shape == (16 * 6,)
    boxes, scores = moved[: 16 * 4].reshape(16, 4).sum(1), moved[16 * 4 :].reshape(16, 2).sum(1)
    for part in (boxes, scores):
        assert torch.nonzero(part).tolist() == [[1 * 4 + 3]]


def test_queries_look_at_places_that_they_learn():
    head = QueriesHead((9, 5), 3, 6).eval()
    with torch.inference_mode():
        head.where[4, 2] = 50.0  # the third query sees the fifth token alone
        x = torch.randn(1, 9, 5)
        first = head(x).reshape(-1)
        x[:, 0] = torch.randn(5)
        moved = (head(x).reshape(-1) - first).abs()
    boxes = moved[:12].reshape(3, 4).sum(1)
    assert boxes[2] < 1e-5 < boxes[0]


@pytest.mark.parametrize("shape", [(8, 12, 12), (8, 6, 9), (10, 16), (20,)])
def test_every_kind_that_fits_gives_rows(shape):
    for kind in box_kinds_for(crossing(*shape), 36):
        head = box_head_of_kind(kind, crossing(*shape), 36, 36 * 7)
        assert head(torch.randn(2, *shape)).shape == (2, 36 * 7)


def test_a_kind_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="--head-kind: found 'grid' for 'x'.*36 boxes, expected"):
        box_head_of_kind("grid", crossing(10, 16), 36, 36 * 7)
    with pytest.raises(UsageError, match="expected one, two or three sizes"):
        box_kinds_for(crossing(1, 2, 3, 4), 36)
