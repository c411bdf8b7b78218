"""A small one-stage detector: a grid of cells, each with a box and a score for every class.

Anchor-free, as CenterNet and FCOS are: the cell that a thing's centre lies in finds it (Zhou et al.
2019; Tian et al. 2019). Decoding is part of the module, so that what it gives is boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.data.shapes import SHAPES

SIDE = 96
"""Of the pictures, in pixels."""
STRIDE = 8
"""Pixels of a cell, across."""
GRID = SIDE // STRIDE
QUERIES = GRID * GRID
"""Boxes of an answer: one a cell, row by row."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""What pictures in 0 to 1 are scaled by."""
_RARE = -4.0
"""Scores begin at this logit: few cells hold anything (Lin et al. 2017, section 4.1)."""


class _Block(nn.Module):
    """A residual pair of a depthwise and a pointwise convolution."""

    def __init__(self, ins: int, outs: int, stride: int = 1) -> None:
        super().__init__()
        self.same = ins == outs and stride == 1
        self.body = nn.Sequential(
            nn.Conv2d(ins, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
            nn.ReLU(),
            nn.Conv2d(outs, outs, 3, stride, 1, groups=outs, bias=False),
            nn.BatchNorm2d(outs),
            nn.ReLU(),
            nn.Conv2d(outs, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps of maps."""
        found: Tensor = self.body(x)
        return torch.relu(x + found if self.same else found)


class ShapeDetector(nn.Module):
    """Finds things of so many classes in pictures of `SIDE` pixels.

    `forward` gives `boxes` (N, Q, 4), centre and size within 0 and 1, and `scores` (N, Q, C), the
    logits that a cell holds a thing of a class.
    """

    centres: Tensor

    def __init__(self, classes: tuple[str, ...] = SHAPES, width: int = 16, depth: int = 6) -> None:
        """`width` are the channels of the first maps, `depth` the blocks at the grid's size."""
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        wide = 4 * width
        self.early = nn.Sequential(
            _Block(width, width), _Block(width, 2 * width, 2), _Block(2 * width, 2 * width),
            _Block(2 * width, wide, 2),
        )  # fmt: skip
        self.late = nn.Sequential(*(_Block(wide, wide) for _ in range(depth)))
        self.scores = nn.Conv2d(wide, len(classes), 1)
        self.boxes = nn.Conv2d(wide, 4, 1)
        nn.init.constant_(self.scores.bias, _RARE)  # type: ignore[arg-type]
        cells = (torch.arange(GRID) + 0.5) / GRID
        rows, columns = torch.meshgrid(cells, cells, indexing="ij")
        self.register_buffer("centres", torch.stack([columns, rows], -1).reshape(1, QUERIES, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Boxes and scores of every cell for pictures (N, 3, `SIDE`, `SIDE`)."""
        x = self.late(self.early(self.stem(x)))
        scores = self.scores(x).flatten(2).transpose(1, 2)
        raw = self.boxes(x).flatten(2).transpose(1, 2)
        # a centre lies within its cell or a little beside it
        centres = self.centres + torch.tanh(raw[..., :2]) / GRID
        return {"boxes": torch.cat([centres, raw[..., 2:].sigmoid()], -1), "scores": scores}
