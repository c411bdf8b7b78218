"""What every codec is tried on: an array that it carries, and what both ends hold for it.

The contract's tests and the fuzzing take from here, so that a further codec is met by both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Float32s
from models.codecs.affine import INT8C, calibrate
from models.codecs.interface import Codec, LatentNetworks, Shared

TENSOR, PICTURE, TOKENS, SOUND = (2, 3, 4), (8, 8, 3), 24, 160


def example_array(
    codec: Codec, rng: np.random.Generator, shape: tuple[int, ...] = TENSOR
) -> npt.NDArray[Any]:
    """A tensor of `shape`, or what else the codec carries, of random values."""
    if codec.carries == "picture":
        return rng.integers(0, 256, PICTURE, dtype=np.uint8)
    if codec.carries == "tokens":
        ids = rng.integers(0, 30_000, TOKENS, dtype=np.int32)
        ids[rng.integers(1, TOKENS) :] = 0
        return ids
    if codec.carries == "sound":
        return rng.integers(-(2**15), 2**15, SOUND, dtype=np.int16)
    return rng.normal(size=shape).astype(np.float32)


def example_shared(codec: Codec, batch: npt.NDArray[Any]) -> Shared:
    """What both ends hold, calibrated on a batch (N, C, ...) as a model is on its pictures."""
    if codec.carries == "latent":
        return Shared(networks=_halved(batch))
    return Shared(calibrate(batch)) if codec.needs_ranges else Shared()


def _halved(batch: Float32s) -> LatentNetworks:
    """The smallest autoencoder: the mean of the channels, and that in every channel again."""

    def encoder(x: Float32s) -> Float32s:
        return np.asarray(x.mean(axis=1, keepdims=True), dtype=np.float32)

    def decoder(latent: Float32s) -> Float32s:
        return np.repeat(latent, batch.shape[1], axis=1)

    latents = encoder(batch)
    return LatentNetworks(encoder, decoder, latents.shape[1:], INT8C, calibrate(latents))
