"""A set to find things in, drawn: circles, squares and triangles on textures, with their boxes.

Seeded and made where it is needed, so that a detector is trained and judged on any machine. Shapes
have any colour, size and turn; strokes of no class cross the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats
from models.data.datasets import Samples
from models.facts.answers import overlaps
from models.facts.judges import NO_BOX

SHAPES = ("circle", "square", "triangle")
"""Names of the classes, in their order."""
MOST_SHAPES = 4
"""In one picture; at least one is there."""
LEAST_RADIUS, MOST_RADIUS = 0.08, 0.24
"""Of the circle around a shape, as a share of the picture's side."""
MOST_OVERLAP = 0.15
"""Of two shapes' boxes (IoU)."""
STROKES = 5
TRIES = 20
FINE = 2
"""Pixels drawn for each one kept, across: edges are smooth."""

Bytes = npt.NDArray[np.uint8]


def drawn_shapes(count: int, rng: np.random.Generator, side: int = 96) -> Samples:
    """`count` pictures (N, side, side, 3) uint8 with labels (N, `MOST_SHAPES`, 5) float32.

    A label is class (`models.facts.judges.NO_BOX`: none), left, top, right and bottom within 0 and
    1. Drawn from `rng`; refuses a `side` below 32 pixels.
    """
    if side < 32 or count < 0:
        raise UsageError(f"shapes: found {count} of {side} pixels, expected 32 pixels or more")
    x = np.empty((count, side, side, 3), dtype=np.uint8)
    y = np.full((count, MOST_SHAPES, 5), NO_BOX, dtype=np.float32)
    for k in range(count):
        x[k], found = _picture(side, rng)
        y[k, : len(found)] = found
    return Samples(x, y, SHAPES)


def _picture(side: int, rng: np.random.Generator) -> tuple[Bytes, Float32s]:
    texture = _texture(side, rng)
    large = side * FINE
    image = Image.fromarray(texture).resize((large, large), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    _strokes(draw, large, rng)
    found: list[Float32s] = []
    for _ in range(int(rng.integers(1, MOST_SHAPES + 1))):
        for _ in range(TRIES):
            label = int(rng.integers(len(SHAPES)))
            outline = _outline(label, rng)
            box = np.concatenate([outline.min(axis=0), outline.max(axis=0)]).astype(np.float32)
            inside = box.min() >= 0.0 and box.max() <= 1.0
            apart = not found or overlaps(box[None], np.stack(found)[:, 1:]).max() <= MOST_OVERLAP
            if inside and apart:
                _fill(draw, outline * large, texture, rng)
                found.append(np.concatenate([[np.float32(label)], box]))
                break
    small = np.asarray(image.reduce(FINE), dtype=np.float32)
    noisy = small + rng.normal(0.0, rng.uniform(1.0, 8.0), small.shape)
    labels = np.stack(found) if found else np.empty((0, 5), dtype=np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def _outline(label: int, rng: np.random.Generator) -> Floats:
    """Corners (K, 2) of a shape of a class, x before y, within 0 and 1 or beyond."""
    radius = float(np.exp(rng.uniform(np.log(LEAST_RADIUS), np.log(MOST_RADIUS))))
    centre = rng.uniform(radius, 1.0 - radius, 2)
    corners = (48, 4, 3)[label]
    turn = rng.uniform(0.0, 2.0 * np.pi)
    angles = turn + 2.0 * np.pi * np.arange(corners) / corners
    return np.asarray(centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _fill(
    draw: ImageDraw.ImageDraw, corners: Floats, texture: Bytes, rng: np.random.Generator
) -> None:
    """Fill a shape with a colour that differs from what is around it, not always much."""
    around = texture.reshape(-1, 3).mean(axis=0)
    colour = rng.integers(0, 256, 3)
    while np.abs(colour - around).max() < 50:
        colour = rng.integers(0, 256, 3)
    draw.polygon([(float(a), float(b)) for a, b in corners], fill=_colour(colour))


def _strokes(draw: ImageDraw.ImageDraw, large: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(0, STROKES + 1))):
        a, b = rng.uniform(0, large, (2, 2))
        width = int(rng.integers(1, max(2, large // 24)))
        ends = [(float(a[0]), float(a[1])), (float(b[0]), float(b[1]))]
        draw.line(ends, fill=_colour(rng.integers(0, 256, 3)), width=width)


def _colour(values: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])


def _texture(side: int, rng: np.random.Generator) -> Bytes:
    """Waves of a few directions and lengths over a gradient, and grain of some coarseness."""
    grid = (np.arange(side) + 0.5) / side
    y, x = grid[:, None], grid[None, :]
    low, high = rng.uniform(20, 235, (2, 3))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = 0.5 + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    canvas = low + (high - low) * slope[:, :, None]
    for _ in range(int(rng.integers(1, 5))):
        cycles, phase = rng.uniform(-12.0, 12.0, 2), rng.uniform(0.0, 2.0 * np.pi)
        wave = np.cos(2.0 * np.pi * (cycles[0] * x + cycles[1] * y) + phase)
        if rng.random() < 0.3:
            wave = np.sign(wave)  # stripes
        canvas = canvas + wave[:, :, None] * rng.uniform(-25.0, 25.0, 3)
    coarse = int(rng.integers(4, max(5, side // 4)))
    grain = rng.normal(0.0, 1.0, (coarse, coarse, 3)).clip(-2, 2)
    stretched = np.kron(grain, np.ones((-(-side // coarse), -(-side // coarse), 1)))[:side, :side]
    canvas = canvas + stretched * rng.uniform(0.0, 15.0)
    texture: Bytes = np.clip(canvas, 0, 255).astype(np.uint8)
    return texture
