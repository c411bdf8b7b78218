"""Heads of exits whose answer is boxes: one box and its scores for every query.

A row is the boxes of all queries and behind them their scores, as `models.facts.answers` has it.
The queries keep the order of the network's own, so that an exit can learn from its last one query
by query.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.graph import Crossing, Shape
from models.capture.heads import convolution

BOX_HEAD_KINDS = ("grid", "queries", "linear")
"""Names of the kinds; which fit a tensor says `box_kinds_for`."""
MOST_HIDDEN = 128
"""Channels of a grid head's convolutions."""
DEPTH = 3
"""Convolutions of a grid head that look around at the grid's own size."""
BOX = 4
"""Coordinates of a box."""


def grid_of(queries: int, shape: Shape) -> tuple[int, int] | None:
    """Rows and columns of `queries` that lie as the cells of a map (C, H, W); None if they do not.

    A one-stage detector has a query for every cell of its last map, row by row. An earlier map of
    the same picture has the same proportions and no fewer cells.
    """
    if len(shape) != 3:
        return None
    _, height, width = shape
    rows = math.isqrt(max(1, queries * height // width))
    for count in (rows, rows + 1):
        if count and queries % count == 0:
            columns = queries // count
            if count * width == columns * height and count <= height:
                return count, columns
    return None


class GridHead(nn.Module):
    """Convolutions that keep the grid: each cell says what it sees, where it is.

    A map (C, H, W) is brought to `grid` (rows, columns) first. `width` values a cell: four of a
    box, and scores.
    """

    def __init__(self, shape: Shape, grid: tuple[int, int], width: int) -> None:
        """`shape` is one sample's tensor, `grid` the cells, `width` the values of each."""
        super().__init__()
        channels, height, columns = shape
        hidden = max(32, min(2 * channels, MOST_HIDDEN))
        layers: list[nn.Module] = []
        while height >= 2 * grid[0] and height % 2 == 0 and columns % 2 == 0:
            layers += convolution(channels, hidden, 2)
            channels, height, columns = hidden, height // 2, columns // 2
        if (height, columns) != grid:
            layers.append(nn.AdaptiveAvgPool2d(grid))
        for _ in range(DEPTH):
            layers += convolution(channels, hidden, 1)
            channels = hidden
        self.body = nn.Sequential(*layers)
        self.out = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, cells x width) of maps (N, C, H, W)."""
        cells = self.out(self.body(x)).flatten(2).transpose(1, 2)
        return _row(cells)


class QueriesHead(nn.Module):
    """A learned query for every box looks at the places of a map, or at tokens.

    What a query attends to depends on what is at a place, and on the place: pictures of one size
    have their places in one order.
    """

    def __init__(self, shape: Shape, queries: int, width: int) -> None:
        """`shape` is one sample's: (C, H, W) or (tokens, C); `width` are the values of a query."""
        super().__init__()
        self._map = len(shape) == 3
        channels = shape[0] if self._map else shape[1]
        places = shape[1] * shape[2] if self._map else shape[0]
        hidden = max(32, min(2 * channels, MOST_HIDDEN))
        self.norm: nn.Module = nn.BatchNorm2d(channels) if self._map else nn.LayerNorm(channels)
        self.weights = nn.Linear(channels, queries)
        self.where = nn.Parameter(torch.zeros(places, queries))
        self.hidden = nn.Linear(channels, hidden)
        self.own = nn.Parameter(0.02 * torch.randn(queries, hidden))
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, queries x width) of (N, C, H, W) or (N, tokens, C)."""
        x = self.norm(x)
        places = x.flatten(2).transpose(1, 2) if self._map else x
        weights = torch.softmax(self.weights(places) + self.where, dim=1).transpose(1, 2)
        seen = torch.matmul(weights, places)
        return _row(self.out(torch.relu(self.hidden(seen) + self.own)))


def _row(queries: Tensor) -> Tensor:
    """(N, Q, 4 + scores) as rows: all boxes, then all scores."""
    return torch.cat([queries[..., :BOX].flatten(1), queries[..., BOX:].flatten(1)], dim=1)


def box_kinds_for(crossing: Crossing, queries: int) -> tuple[str, ...]:
    """The kinds of heads for `queries` boxes that a tensor can have."""
    sizes = len(crossing.shape)
    if sizes == 3:
        return ("grid", "queries") if grid_of(queries, crossing.shape) else ("queries",)
    if sizes == 2:
        return ("queries",)
    if sizes == 1:
        return ("linear",)
    raise UsageError(
        f"exit at '{crossing.name}': found a tensor of shape {crossing.shape}, expected one, two "
        "or three sizes a sample (give a head of your own)"
    )


def box_head_of_kind(kind: str, crossing: Crossing, queries: int, values: int) -> nn.Module:
    """A new head of `kind` that gives rows of so many `values`; refuses a kind that does not fit.

    `crossing` is what reaches the exit, `queries` how many boxes a row has.
    """
    fits, shape, width = box_kinds_for(crossing, queries), crossing.shape, values // queries
    if kind not in fits:
        raise UsageError(
            f"--head-kind: found '{kind}' for '{crossing.name}' of shape {shape} and {queries} "
            f"boxes, expected one that fits: {', '.join(fits)}"
        )
    if kind == "grid":
        grid = grid_of(queries, shape)
        assert grid is not None
        return GridHead(shape, grid, width)
    if kind == "queries":
        return QueriesHead(shape, queries, width)
    return nn.Sequential(nn.BatchNorm1d(shape[0]), nn.Linear(shape[0], values))
