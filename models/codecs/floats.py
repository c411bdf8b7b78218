"""Tensors as they are (`float32`), or in half the bytes (`float16`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Float32s
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, Shared, single, whole


class FloatCodec(Codec):
    """Little-endian floats of `bits` bits, in the tensor's order."""

    def __init__(self, bits: int) -> None:
        self.name, self.exact, self._bytes = f"float{bits}", bits == 32, bits // 8
        self._kind = np.dtype(f"<f{self._bytes}")

    def size(self, shape: tuple[int, ...]) -> int:
        """Two or four bytes a value."""
        return self._bytes * math.prod(shape)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one tensor."""
        return Encoded(np.ascontiguousarray(array, dtype=self._kind).tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Float32s:
        """The tensor of `shape`; bytes from outside may hold values that are not finite.

        See `Codec.decode`.
        """
        data = whole(self.name, data, self.size(shape), shape)
        return np.frombuffer(data, dtype=self._kind).reshape(shape).astype(np.float32)

    def round_trip(self, batch: Float32s, shared: Shared = NOTHING_SHARED) -> Float32s:
        """The batch rounded once."""
        return batch if self.exact else batch.astype(self._kind).astype(np.float32)


FAMILIES = (single(FloatCodec(32)), single(FloatCodec(16)))
