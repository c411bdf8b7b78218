"""How a picture of any size is made to fit a network: squashed, cut out of, or with bars around it.

The arithmetic alone, in one place: which part of a picture lies where in the network's. Whoever
scales pixels goes by it (`models.data.fitting`), and so does whoever takes boxes back to the
picture that they were looked for in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats

FitKind = Literal["squash", "crop", "letterbox"]
CROP_SHARE = 0.875
"""224 of 256 pixels, as ImageNet is judged usually."""
LEAST_CROP_SHARE = 0.05
"""A picture is scaled to twenty times the network's size at most: memory is made for all of it."""
FILL = 114
"""The level of the bars that YOLO networks are trained with."""
Side = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of a picture lies where in the one that was made to fit."""

    side: Side
    """Of the fitted picture."""
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right and bottom of what is kept, as shares of the picture."""
    at: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom of where it lies, in pixels (None: everywhere)."""
    fill: int = FILL
    """The level (0 to 255) of what it leaves free."""

    @property
    def squashed(self) -> bool:
        """Whether the whole picture lies everywhere."""
        return self.at is None and self.part == (0.0, 0.0, 1.0, 1.0)

    @property
    def pixels(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of where it lies."""
        return (0, 0, self.side[1], self.side[0]) if self.at is None else self.at

    @property
    def drawn(self) -> tuple[int, int]:
        """(width, height) that the whole picture has at the scale of the part that is kept."""
        left, top, right, bottom = self.pixels
        across, down = self.part[2] - self.part[0], self.part[3] - self.part[1]
        return max(1, round((right - left) / across)), max(1, round((bottom - top) / down))

    def to_fitted(self, boxes: Float32s) -> Float32s:
        """Boxes (..., 4) of the picture as those of the fitted one.

        Both are left, top, right and bottom as shares of their picture. What is cut away lies
        beyond 0 and 1.
        """
        offset, scale = self._affine()
        return (np.asarray(boxes, dtype=np.float64) * scale + offset).astype(np.float32)

    def to_picture(self, boxes: Float32s) -> Float32s:
        """Boxes (..., 4) of the fitted picture as those of the picture: `to_fitted` backwards.

        What lies on the bars is beyond 0 and 1.
        """
        offset, scale = self._affine()
        return ((np.asarray(boxes, dtype=np.float64) - offset) / scale).astype(np.float32)

    def _affine(self) -> tuple[Floats, Floats]:
        """What is added to a share of the picture, once it is multiplied: (4,) each."""
        height, width = self.side
        left, top, right, bottom = self.pixels
        x0, y0, x1, y1 = self.part
        across, down = (right - left) / width / (x1 - x0), (bottom - top) / height / (y1 - y0)
        scale = np.array([across, down] * 2)
        offset = np.array([left / width - x0 * across, top / height - y0 * down] * 2)
        return offset, scale


@dataclass(frozen=True, slots=True)
class PictureFit:
    """How a picture of another size than the network's is made to fit."""

    kind: FitKind = "squash"
    """squash: scaled to the size, whatever becomes of its shape. crop: scaled until its short side
    is a bit longer than the network's, and the middle cut out. letterbox: scaled until all of it
    is within, and bars around it."""
    crop_share: float = CROP_SHARE
    """Of crop: the network's side as a share of what the short side is scaled to."""
    fill: int = FILL
    """Of letterbox: the level (0 to 255) of the bars."""

    def check(self) -> None:
        """Refuse figures that mean nothing."""
        if not LEAST_CROP_SHARE <= self.crop_share <= 1.0:
            raise UsageError(
                f"crop_share: found {self.crop_share}, expected {LEAST_CROP_SHARE} to 1"
            )
        if not 0 <= self.fill <= 255:
            raise UsageError(f"fill: found {self.fill}, expected a level of 0 to 255")

    def placed(self, size: Side, side: Side) -> Placement:
        """Where a picture of `size` comes to lie in one of `side`, both (height, width).

        One of that size is taken as it is, whatever the fit. Lengths are rounded as torchvision's
        `Resize` and `CenterCrop` do, and as YOLO's letterbox does.
        """
        if self.kind == "squash" or size == side:
            return Placement(side)
        return self._cropped(size, side) if self.kind == "crop" else self._boxed(size, side)

    def _cropped(self, size: Side, side: Side) -> Placement:
        (high, wide), (height, width) = size, side
        least_high = max(height, math.floor(height / self.crop_share))
        least_wide = max(width, math.floor(width / self.crop_share))
        if least_high * wide >= least_wide * high:
            drawn = (least_high, max(least_wide, least_high * wide // high))
        else:
            drawn = (max(least_high, least_wide * high // wide), least_wide)
        top, left = (round((d - s) / 2.0) for d, s in zip(drawn, side, strict=True))
        part = (
            left / drawn[1], top / drawn[0],
            (left + width) / drawn[1], (top + height) / drawn[0],
        )  # fmt: skip
        return Placement(side, part)

    def _boxed(self, size: Side, side: Side) -> Placement:
        scale = min(side[0] / size[0], side[1] / size[1])
        high, wide = (min(s, max(1, round(scale * of))) for of, s in zip(size, side, strict=True))
        if (high, wide) == side:
            return Placement(side)
        top, left = (side[0] - high) // 2, (side[1] - wide) // 2
        return Placement(side, at=(left, top, left + wide, top + high), fill=self.fill)


SQUASH = PictureFit()
