"""Pictures made up for machines without a data set: smooth textures with soft blobs, unlabelled.

A bare clone holds no labelled pictures, so what is right is unknown there: what the whole network
says stands in for it (`models.facts.judges.own_labels`), and whoever reports shares of it must call
them agreement.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats

Bytes = npt.NDArray[np.uint8]

MADE_PICTURES = 600
"""Pictures that a model is judged on where nobody gives any."""
_WAVES = 4
_BLOBS = 3


def generated_pictures(count: int, rng: np.random.Generator, side: int = 32) -> Bytes:
    """`count` pictures (N, side, side, 3) uint8: a colour gradient, slow waves, a few blobs.

    Neighbouring pixels are alike, as in photographs: early layers answer with structure, and a
    picture compresses as one, which white noise would not.
    """
    grid = (np.arange(side) + 0.5) / side
    y, x = grid[:, None], grid[None, :]
    return np.stack([_picture(y, x, rng) for _ in range(count)]) if count else _none(side)


def unlabelled_pictures(side: tuple[int, int], seed: int) -> Bytes:
    """Generated pictures (N, *`side`, 3) where nobody gave any: the same ones for a seed."""
    made = generated_pictures(MADE_PICTURES, np.random.default_rng(seed), max(side))
    return np.ascontiguousarray(made[:, : side[0], : side[1]])


def _none(side: int) -> Bytes:
    return np.empty((0, side, side, 3), dtype=np.uint8)


def _picture(y: Floats, x: Floats, rng: np.random.Generator) -> Bytes:
    low, high = rng.uniform(0.1, 0.9, (2, 3))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = 0.5 + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    canvas = low + (high - low) * slope[:, :, None]
    for _ in range(_WAVES):
        cycles, phase = rng.uniform(-4.0, 4.0, 2), rng.uniform(0.0, 2.0 * np.pi)
        wave = np.cos(2.0 * np.pi * (cycles[0] * x + cycles[1] * y) + phase)
        canvas = canvas + wave[:, :, None] * rng.uniform(-0.08, 0.08, 3)
    for _ in range(rng.integers(1, _BLOBS + 1)):
        centre, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.35, 2)
        away = np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1])
        # a logistic edge about a pixel and a half wide: no jagged outlines
        cover = (1.0 / (1.0 + np.exp(np.clip(10.0 * (away - 1.0), -30.0, 30.0))))[:, :, None]
        canvas = canvas * (1.0 - cover) + rng.uniform(0.0, 1.0, 3) * cover
    picture: Bytes = np.rint(np.clip(canvas, 0.0, 1.0) * 255.0).astype(np.uint8)
    return picture
