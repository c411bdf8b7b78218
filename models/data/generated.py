"""Made-up samples of any kind: for timing, and where nobody has brought real ones."""

from __future__ import annotations

import numpy as np

from artefacts import UsageError
from models.data.pictures import MADE_PICTURES, generated_pictures
from models.facts.layers import Shape
from models.facts.made_up import made_up_sample
from models.facts.preprocessing import (
    PictureInput,
    Preprocessing,
    Raw,
    SoundInput,
    TensorInput,
    TokenInput,
)

MADE_SAMPLES = MADE_PICTURES
"""Samples that a network is judged on where nobody gives any."""
LOUDNESS = 3000.0
"""Of made-up recordings, root mean square: speech at arm's length has about so much."""


def generated_samples(
    preprocessing: Preprocessing, shape: Shape, count: int, rng: np.random.Generator
) -> Raw:
    """`count` raw samples (count, ...) that a network of input `shape` takes, drawn from `rng`.

    `preprocessing` says what they are. Pictures are of blobs, texts of random ids and lengths,
    recordings of decaying tones, tensors of normal numbers. Raises `UsageError` for tensors of
    whole numbers: which are valid is not known.
    """
    if isinstance(preprocessing, PictureInput):
        height, width = shape[1:]
        made = generated_pictures(count, rng, max(height, width))
        return np.ascontiguousarray(made[:, :height, :width])
    if isinstance(preprocessing, TokenInput):
        return _texts(preprocessing, shape[0], count, rng)
    if isinstance(preprocessing, SoundInput):
        return _tones(preprocessing, shape[0], count, rng)
    return _tensors(preprocessing, shape, count, rng)


def timed_sample(preprocessing: Preprocessing, shape: Shape, rng: np.random.Generator) -> Raw:
    """A raw sample (1, ...) to time a network of input `shape` with, whatever it takes."""
    if isinstance(preprocessing, TensorInput):
        return made_up_sample(preprocessing, shape)[None]
    return generated_samples(preprocessing, shape, 1, rng)


def _texts(kind: TokenInput, length: int, count: int, rng: np.random.Generator) -> Raw:
    ids = rng.integers(0, kind.vocabulary, (count, length), dtype=np.int32)
    lengths = rng.integers(1, length + 1, count)
    ids[np.arange(length) >= lengths[:, None]] = kind.padding
    return ids


def _tones(kind: SoundInput, length: int, count: int, rng: np.random.Generator) -> Raw:
    at_s = np.arange(length) / kind.rate_hz
    pitch_hz = rng.uniform(80.0, min(1000.0, kind.rate_hz / 4.0), (count, 3, 1))
    fading = np.exp(-at_s * rng.uniform(1.0, 6.0, (count, 3, 1)))
    sound = (np.sin(2.0 * np.pi * pitch_hz * at_s) * fading).sum(axis=1)
    sound += rng.normal(0.0, 0.05, sound.shape)
    level = LOUDNESS / np.maximum(np.sqrt((sound**2).mean(axis=1, keepdims=True)), 1e-9)
    found: Raw = np.clip(np.rint(sound * level), -32768, 32767).astype(np.int16)
    return found


def _tensors(kind: TensorInput, shape: Shape, count: int, rng: np.random.Generator) -> Raw:
    whole = next((t for t in kind.tensors if not t.datatype.startswith("FP")), None)
    if whole is not None:
        raise UsageError(
            f"tensor '{whole.name}': found no samples of {whole.datatype}, expected some (which "
            "whole numbers are valid is not known: --data)"
        )
    return rng.normal(size=(count, *shape)).astype(np.float32)
