"""Recordings: 16-bit samples as they are (`pcm16`), or a byte each (`mulaw`).

Mu-law (ITU-T G.711, continuous form, mu = 255) spends its 256 levels where speech has its values:
near silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, Shared, single, whole

Sound = npt.NDArray[np.int16]
MU = 255.0
FULL_SCALE = 32768.0


class Pcm(Codec):
    """`pcm16`: every sample in two bytes, little-endian."""

    name, exact = "pcm16", True
    carries = "sound"

    def size(self, shape: tuple[int, ...]) -> int:
        """Two bytes a sample."""
        return 2 * math.prod(shape)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one recording (T,) int16."""
        return Encoded(_sound(self.name, array).astype("<i2").tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Sound:
        """The recording of `shape`. See `Codec.decode`."""
        given = whole(self.name, data, self.size(shape), shape)
        return np.frombuffer(given, "<i2").reshape(shape).astype(np.int16)


class MuLaw(Codec):
    """`mulaw`: every sample in one byte, finer near silence."""

    name = "mulaw"
    carries = "sound"

    def size(self, shape: tuple[int, ...]) -> int:
        """One byte a sample."""
        return math.prod(shape)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one recording (T,) int16."""
        x = _sound(self.name, array).astype(np.float32) / np.float32(FULL_SCALE)
        pressed = np.sign(x) * np.log1p(MU * np.abs(x)) / np.log1p(MU)
        return Encoded(np.rint((pressed + 1.0) * (MU / 2.0)).astype(np.uint8).tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Sound:
        """The recording of `shape`, each sample to within its level. See `Codec.decode`."""
        levels = np.frombuffer(whole(self.name, data, self.size(shape), shape), np.uint8)
        found: Sound = _LEVELS[levels].reshape(shape)
        return found


def _level_values() -> Sound:
    pressed = np.arange(256) * (2.0 / MU) - 1.0
    x = np.sign(pressed) * np.expm1(np.abs(pressed) * np.log1p(MU)) / MU
    found: Sound = np.clip(np.rint(x * FULL_SCALE), -32768, 32767).astype(np.int16)
    return found


_LEVELS: Sound = _level_values()


def _sound(codec: str, array: npt.NDArray[Any]) -> Sound:
    if array.dtype != np.int16 or array.ndim != 1:
        raise UsageError(
            f"codec '{codec}': found {array.dtype} {array.shape}, expected int16 (samples,)"
        )
    return array


FAMILIES = (single(Pcm()), single(MuLaw()))
