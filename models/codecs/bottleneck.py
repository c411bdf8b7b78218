"""The learned codec that a network brings along for one of its cuts.

Two small networks of the model compute it: an encoder before the wire and a decoder behind it. What
crosses is the encoder's latent, by a calibrated affine codec. The decoder is a network in float32,
so both ends agree to within rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, LatentNetworks, Shared, single

LEARNED = "bottleneck"


class Bottleneck(Codec):
    """`bottleneck`: the latent of the cut's own networks."""

    name, timed = LEARNED, True
    carries = "latent"

    def size(self, shape: tuple[int, ...]) -> None:
        """None: it is the latent's size, which the tensor's shape does not tell."""

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """The latent of one tensor (C, ...)."""
        own = self._networks(shared)
        latent = own.encoder(array[None])[0]
        return own.codec.encode(latent, Shared(own.ranges))

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Float32s:
        """What the decoder makes of the latent. See `Codec.decode`."""
        own = self._networks(shared)
        latent = own.codec.decode(meta, data, own.shape, Shared(own.ranges))
        return np.asarray(own.decoder(latent[None])[0], dtype=np.float32)

    def round_trip(self, batch: Float32s, shared: Shared = NOTHING_SHARED) -> Float32s:
        """A batch (N, C, ...) through both networks at once."""
        own = self._networks(shared)
        latents = own.codec.round_trip(own.encoder(batch), Shared(own.ranges))
        return np.asarray(own.decoder(latents), dtype=np.float32)

    def _networks(self, shared: Shared) -> LatentNetworks:
        if shared.networks is None:
            raise UsageError(
                f"codec '{self.name}': found no network, expected one that brings it along"
            )
        return shared.networks


FAMILIES = (single(Bottleneck()),)
