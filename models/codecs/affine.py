"""Affine codecs: q = round((x - low) / scale), 8 bits a tensor, or 8 or 4 bits a channel.

The range of a tensor is found anew for every tensor and sent along (`low`, `scale`); the ranges of
channels are calibrated once, clip what lies outside, and cost nothing on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError

Floats = npt.NDArray[np.float32]
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the seen range that calibration tries; the one of least squared error stays."""


@dataclass(frozen=True, eq=False)
class Ranges:
    """Calibrated ranges of one tensor's channels: `low` and `high` (2, C), for 8 and for 4 bits."""

    low: Floats
    high: Floats

    def step(self, bits: int) -> tuple[Floats, Floats]:
        """Per channel: the value of level 0, and of one level (1 where a channel is constant)."""
        row = 0 if bits == 8 else 1
        width = self.high[row] - self.low[row]
        scale = (width / np.float32(2**bits - 1)).astype(np.float32)
        return self.low[row], np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)


def calibrate(samples: Floats) -> Ranges:
    """Ranges of the channels of `samples` (N, C, ...): per channel the clip of least error."""
    channels = np.moveaxis(samples, 1, 0).reshape(samples.shape[1], -1)
    seen_low, seen_high = channels.min(axis=1), channels.max(axis=1)
    lows, highs = [], []
    for bits in (8, 4):
        best = np.full(len(channels), np.inf)
        low, high = seen_low.copy(), seen_high.copy()
        for clip in CLIPS:
            # an end at zero stays there: it is where an activation cuts off
            a, b = seen_low * np.float32(clip), seen_high * np.float32(clip)
            one = Ranges(np.stack([a, a]), np.stack([b, b]))
            back = round_trip_channels(bits, channels.T, one).T
            error = np.square(back - channels).mean(axis=1)
            better = error < best
            best = np.where(better, error, best)
            low, high = np.where(better, a, low), np.where(better, b, high)
        lows.append(low)
        highs.append(high)
    return Ranges(np.stack(lows).astype(np.float32), np.stack(highs).astype(np.float32))


def encode_affine(array: npt.NDArray[Any]) -> tuple[bytes, dict[str, float]]:
    """Levels 0..255 between the tensor's own least and greatest value, and the two numbers."""
    low, high = np.float32(array.min()), np.float32(array.max())
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.float32((high - low) / np.float32(255.0))
    if not np.isfinite(scale):
        raise UsageError(
            f"codec 'int8': found values from {low} to {high}, expected finite ones that are less "
            "than the largest float32 apart"
        )
    if not scale > 0:
        return bytes(array.size), {"low": float(low), "scale": 0.0}
    levels = np.clip(np.rint((array - low) / scale), 0, 255).astype(np.uint8)
    return levels.tobytes(), {"low": float(low), "scale": float(scale)}


def decode_affine(
    meta: Mapping[str, Any], data: bytes | memoryview, shape: tuple[int, ...]
) -> Floats:
    """The tensor behind `encode_affine`'s levels."""
    low, scale = _number(meta, "low"), _number(meta, "scale")
    levels = np.frombuffer(data, dtype=np.uint8).reshape(shape).astype(np.float32)
    return np.asarray(levels * scale + low, dtype=np.float32)


def round_trip_affine(array: Floats) -> Floats:
    """`encode_affine` and back, each sample of a batch (N, ...) by its own range."""
    rows = array.reshape(len(array), -1)
    low = rows.min(axis=1, keepdims=True)
    scale = ((rows.max(axis=1, keepdims=True) - low) / np.float32(255.0)).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1.0))
    levels = np.clip(np.rint((rows - low) / safe), 0, 255).astype(np.float32)
    return np.asarray(levels * scale + low, dtype=np.float32).reshape(array.shape)


def encode_channels(bits: int, array: npt.NDArray[Any], ranges: Ranges) -> bytes:
    """Levels of one tensor (C, ...); of 4 bits two in a byte, the first in the low half."""
    levels = _levels(bits, array[None], ranges).reshape(-1)
    if bits == 8:
        return levels.tobytes()
    even = np.append(levels, np.zeros(len(levels) % 2, dtype=np.uint8))
    return np.asarray(even[0::2] | even[1::2] << 4, dtype=np.uint8).tobytes()


def decode_channels(
    bits: int, data: bytes | memoryview, shape: tuple[int, ...], ranges: Ranges
) -> Floats:
    """The tensor behind `encode_channels`'s levels."""
    levels = np.frombuffer(data, dtype=np.uint8)
    if bits == 4:
        levels = np.stack([levels & 15, levels >> 4], axis=1).reshape(-1)[: math.prod(shape)]
    one: Floats = _values(bits, levels.reshape(1, *shape), ranges)[0]
    return one


def round_trip_channels(bits: int, array: Floats, ranges: Ranges) -> Floats:
    """`encode_channels` and back for a batch (N, C, ...)."""
    return _values(bits, _levels(bits, array, ranges), ranges)


def _levels(bits: int, array: npt.NDArray[Any], ranges: Ranges) -> npt.NDArray[np.uint8]:
    low, scale = _spread(bits, array, ranges)
    levels = np.clip(np.rint((array - low) / scale), 0, 2**bits - 1)
    return np.asarray(levels, dtype=np.uint8)


def _values(bits: int, levels: npt.NDArray[np.uint8], ranges: Ranges) -> Floats:
    low, scale = _spread(bits, levels, ranges)
    return np.asarray(levels.astype(np.float32) * scale + low, dtype=np.float32)


def _spread(bits: int, array: npt.NDArray[Any], ranges: Ranges) -> tuple[Floats, Floats]:
    low, scale = ranges.step(bits)
    if array.shape[1] != len(low):
        raise UsageError(
            f"codec 'int{bits}c': found {array.shape[1]} channels, expected the {len(low)} that "
            "were calibrated"
        )
    wide = (1, -1) + (1,) * (array.ndim - 2)
    return low.reshape(wide), scale.reshape(wide)


def _number(meta: Mapping[str, Any], key: str) -> np.float32:
    value = meta.get(key)
    fits = isinstance(value, int | float) and abs(value) <= float(np.finfo(np.float32).max)
    if not fits or isinstance(value, bool):
        raise UsageError(f"codec 'int8': found {key} = {value!r:.40}, expected a finite number")
    return np.float32(value)
