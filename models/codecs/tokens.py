"""Token ids as they are (`ids16`, `ids32`): padding at the end of a text does not cross."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, Shared, single


class TokenIds(Codec):
    """Ids of `bits` bits each, little-endian. What repeats at the end of a row crosses once: the
    row's length is known at both ends, and a text's end is filled with one id.
    """

    exact = True
    carries = "tokens"

    def __init__(self, bits: int) -> None:
        self.name, self._kind = f"ids{bits}", np.dtype(f"<u{bits // 8}")

    def size(self, shape: tuple[int, ...]) -> None:
        """None: it depends on how long the text is."""

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one row of ids (L,) of whole numbers."""
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
            raise UsageError(
                f"codec '{self.name}': found {array.dtype} {array.shape}, expected whole numbers "
                "(tokens,)"
            )
        most = int(np.iinfo(self._kind).max)
        if int(array.min()) < 0 or int(array.max()) > most:
            raise UsageError(
                f"codec '{self.name}': found ids from {array.min()} to {array.max()}, expected 0 "
                f"to {most}"
            )
        other = np.flatnonzero(array != array[-1])
        kept = int(other[-1]) + 2 if len(other) else 1
        return Encoded(np.ascontiguousarray(array[:kept], dtype=self._kind).tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> npt.NDArray[np.int32]:
        """The row of `shape` (L,): the last id that came fills what is left. See `Codec.decode`."""
        each, most = self._kind.itemsize, math.prod(shape)
        if len(data) % each or not each <= len(data) <= each * most:
            raise UsageError(
                f"codec '{self.name}': found {len(data)} bytes, expected {each} to {each * most}, "
                f"{each} an id"
            )
        ids = np.frombuffer(data, dtype=self._kind)
        if int(ids.max()) > np.iinfo(np.int32).max:
            raise UsageError(f"codec '{self.name}': found id {ids.max()}, expected 31 bits")
        found = np.full(most, ids[-1], dtype=np.int32)
        found[: len(ids)] = ids
        return found.reshape(shape)


FAMILIES = (single(TokenIds(16)), single(TokenIds(32)))
