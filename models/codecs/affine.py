"""Affine codecs: q = round((x - low) / scale), 8 bits a tensor, or 8 or 4 bits a channel.

The range of a tensor is found anew for every tensor and sent along (`low`, `scale`); the ranges of
channels are calibrated once, clip what lies outside, and cost nothing on the wire. Both decode with
one float32 multiplication and addition a value, so the same bytes give the same values on every
machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, Ranges, Shared, single, whole

MOST_VALUES = 2**22
"""Of samples that are looked at together."""
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the seen range that calibration tries; the one of least squared error stays."""


class TensorAffine(Codec):
    """`int8`: levels 0..255 between the tensor's own least and greatest value."""

    name, quantises = "int8", True

    def size(self, shape: tuple[int, ...]) -> int:
        """One byte a value."""
        return math.prod(shape)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """The levels; `low` and `scale` go along as metadata."""
        low, high = np.float32(array.min()), np.float32(array.max())
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.float32((high - low) / np.float32(255.0))
        if not np.isfinite(scale):
            raise UsageError(
                f"codec '{self.name}': found values from {low} to {high}, expected finite ones "
                "that are less than the largest float32 apart"
            )
        if not scale > 0:
            return Encoded(bytes(array.size), {"low": float(low), "scale": 0.0})
        levels = np.clip(np.rint((array - low) / scale), 0, 255).astype(np.uint8)
        return Encoded(levels.tobytes(), {"low": float(low), "scale": float(scale)})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Float32s:
        """The tensor behind the levels. See `Codec.decode`."""
        data = whole(self.name, data, self.size(shape), shape)
        low, scale = self._number(meta, "low"), self._number(meta, "scale")
        levels = np.frombuffer(data, dtype=np.uint8).reshape(shape).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # of a scale that nobody measured
            return np.asarray(levels * scale + low, dtype=np.float32)

    def round_trip(self, batch: Float32s, shared: Shared = NOTHING_SHARED) -> Float32s:
        """Each sample of a batch (N, ...) by its own range, at once."""
        rows = batch.reshape(len(batch), -1)
        low = rows.min(axis=1, keepdims=True)
        scale = ((rows.max(axis=1, keepdims=True) - low) / np.float32(255.0)).astype(np.float32)
        safe = np.where(scale > 0, scale, np.float32(1.0))
        levels = np.clip(np.rint((rows - low) / safe), 0, 255).astype(np.float32)
        return np.asarray(levels * scale + low, dtype=np.float32).reshape(batch.shape)

    def _number(self, meta: Mapping[str, Any], key: str) -> np.float32:
        value = meta.get(key)
        fits = isinstance(value, int | float) and abs(value) <= float(np.finfo(np.float32).max)
        if not fits or isinstance(value, bool):
            raise UsageError(
                f"codec '{self.name}': found {key} = {value!r:.40}, expected a finite number"
            )
        return np.float32(value)


class ChannelAffine(Codec):
    """`int8c`, `int4c`: levels of 8 or 4 bits between the calibrated ends of each channel."""

    needs_ranges, quantises = True, True

    def __init__(self, bits: int) -> None:
        self.name, self._bits = f"int{bits}c", bits

    def size(self, shape: tuple[int, ...]) -> int:
        """A byte a value, or half of one, rounded up."""
        return -(-self._bits * math.prod(shape) // 8)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Levels of one tensor (C, ...); of 4 bits two in a byte, the first in the low half."""
        levels = self._levels(array[None], self._ranges(shared)).reshape(-1)
        if self._bits == 8:
            return Encoded(levels.tobytes(), {})
        even = np.append(levels, np.zeros(len(levels) % 2, dtype=np.uint8))
        return Encoded(np.asarray(even[0::2] | even[1::2] << 4, dtype=np.uint8).tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Float32s:
        """The tensor behind the levels. See `Codec.decode`."""
        data = whole(self.name, data, self.size(shape), shape)
        levels = np.frombuffer(data, dtype=np.uint8)
        if self._bits == 4:
            pairs = np.stack([levels & 15, levels >> 4], axis=1)
            levels = pairs.reshape(-1)[: math.prod(shape)]
        one: Float32s = self._values(levels.reshape(1, *shape), self._ranges(shared))[0]
        return one

    def round_trip(self, batch: Float32s, shared: Shared = NOTHING_SHARED) -> Float32s:
        """A batch (N, C, ...) at once."""
        ranges = self._ranges(shared)
        return self._values(self._levels(batch, ranges), ranges)

    def _ranges(self, shared: Shared) -> Ranges:
        if shared.ranges is None:
            raise UsageError(
                f"codec '{self.name}': found no calibrated ranges of this tensor, expected a model "
                "with calibration.safetensors"
            )
        return shared.ranges

    def _levels(self, array: npt.NDArray[Any], ranges: Ranges) -> npt.NDArray[np.uint8]:
        low, scale = self._spread(array, ranges)
        levels = np.clip(np.rint((array - low) / scale), 0, 2**self._bits - 1)
        return np.asarray(levels, dtype=np.uint8)

    def _values(self, levels: npt.NDArray[np.uint8], ranges: Ranges) -> Float32s:
        low, scale = self._spread(levels, ranges)
        return np.asarray(levels.astype(np.float32) * scale + low, dtype=np.float32)

    def _spread(self, array: npt.NDArray[Any], ranges: Ranges) -> tuple[Float32s, Float32s]:
        low, scale = ranges.step(self._bits)
        if array.shape[1] != len(low):
            raise UsageError(
                f"codec '{self.name}': found {array.shape[1]} channels, expected the {len(low)} "
                "that were calibrated"
            )
        wide = (1, -1) + (1,) * (array.ndim - 2)
        return low.reshape(wide), scale.reshape(wide)


INT8C, INT4C = ChannelAffine(8), ChannelAffine(4)
FAMILIES = (single(TensorAffine()), single(INT8C), single(INT4C))


def calibrate(samples: Float32s) -> Ranges:
    """Ranges of the channels of `samples` (N, C, ...): per channel the clip of least error."""
    axes = tuple(k for k in range(samples.ndim) if k != 1)
    seen_low, seen_high = samples.min(axis=axes), samples.max(axis=axes)
    lows, highs = [], []
    for codec in (INT8C, INT4C):
        best = np.full(samples.shape[1], np.inf)
        low, high = seen_low.copy(), seen_high.copy()
        for clip in CLIPS:
            # an end at zero stays there: it is where an activation cuts off
            a, b = seen_low * np.float32(clip), seen_high * np.float32(clip)
            error = _squared_error(samples, codec, Ranges(np.stack([a, a]), np.stack([b, b])))
            better = error < best
            best = np.where(better, error, best)
            low, high = np.where(better, a, low), np.where(better, b, high)
        lows.append(low)
        highs.append(high)
    return Ranges(np.stack(lows).astype(np.float32), np.stack(highs).astype(np.float32))


def _squared_error(samples: Float32s, codec: Codec, ranges: Ranges) -> Floats:
    """By channel what a codec's round trip changes, summed over samples: a few at a time."""
    error = np.zeros(samples.shape[1])
    few = max(1, int(MOST_VALUES * len(samples) / max(samples.size, 1)))
    for start in range(0, len(samples), few):
        part = samples[start : start + few]
        channels = np.moveaxis(part, 1, 0).reshape(part.shape[1], -1)
        back = codec.round_trip(channels.T, Shared(ranges)).T
        error += np.square(back - channels).sum(axis=1, dtype=np.float64)
    return error
