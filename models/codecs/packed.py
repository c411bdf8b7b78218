"""Packing without loss (zstd): pays for tensors behind an activation, whose zeros are many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from artefacts import UsageError
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, Shared

LEVEL = 3
SUFFIX = "+zstd"


class Packed(Codec):
    """A tensor's codec whose bytes are packed: its answers, fewer bytes, its metadata.

    The codec that is packed has a fixed `size`: it bounds what is unpacked.
    """

    def __init__(self, inner: Codec) -> None:
        self.name, self._inner = inner.name + SUFFIX, inner
        self.exact, self.needs_ranges = inner.exact, inner.needs_ranges
        self.quantises = inner.quantises

    @property
    def answers_as(self) -> str:
        """The codec that is packed: packing changes no answer."""
        return self._inner.name

    def serves_at_input(self, beside_raw: bool) -> bool:
        """Never: how well the input packs is recorded nowhere."""
        return False

    def size(self, shape: tuple[int, ...]) -> None:
        """None: it depends on the tensor."""

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """The inner codec's bytes as a zstd frame that says how long they were."""
        inner = self._inner.encode(array, shared)
        pack = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        return Encoded(pack.compress(inner.data), inner.meta)

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> npt.NDArray[Any]:
        """What was packed; refuses a frame of another length before unpacking it.

        See `Codec.decode`.
        """
        expected = self._inner.size(shape)
        assert expected is not None
        return self._inner.decode(meta, self._unpacked(data, expected), shape, shared)

    def round_trip(self, batch: npt.NDArray[np.float32], shared: Shared = NOTHING_SHARED) -> Any:
        """What the inner codec gives."""
        return self._inner.round_trip(batch, shared)

    def _unpacked(self, data: bytes | memoryview, expected: int) -> bytes:
        try:
            found = zstandard.get_frame_parameters(data).content_size
            if found != expected:
                raise UsageError(
                    f"codec '{self.name}': found {found} bytes packed, expected {expected}"
                )
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=expected)
        except zstandard.ZstdError as error:
            raise UsageError(f"codec '{self.name}': found no zstd frame ({error})") from None
