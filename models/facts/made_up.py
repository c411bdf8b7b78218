"""Samples that nobody sent: what a network is warmed with, and a machine's pace is learned from.

A made-up sample has the preprocessing's shape and type, and holds what costs as much as a real one:
no token is padding, no mask is empty.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Float32s
from models.facts.layers import Shape
from models.facts.preprocessing import (
    Preprocessing,
    Raw,
    SoundInput,
    TensorInput,
    TokenInput,
    raw_type,
)

LOUDNESS = 1000
"""Levels of 16 bits that made-up sound swings between."""


def made_up_sample(preprocessing: Preprocessing, shape: Shape) -> Raw:
    """A raw sample of a network whose input has `shape`."""
    raw, kind = preprocessing.raw_shape(shape), raw_type(preprocessing)
    if isinstance(preprocessing, TokenInput):
        return np.full(raw, (preprocessing.padding + 1) % preprocessing.vocabulary, dtype=kind)
    if isinstance(preprocessing, SoundInput):
        return (np.arange(raw[0]) % (2 * LOUDNESS) - LOUDNESS).astype(kind)
    if isinstance(preprocessing, TensorInput):
        # masks of ones let everything through; 1 is an id of whatever is counted
        return preprocessing.pack(
            [
                np.full(t.shape, 0 if t.datatype.startswith("FP") else 1, dtype=np.float32)
                for t in preprocessing.tensors
            ]
        )
    return np.zeros(raw, dtype=kind)


def made_up_input(preprocessing: Preprocessing, shape: Shape) -> Float32s:
    """The network's input (1, *shape) for a made-up sample."""
    return preprocessing.apply(made_up_sample(preprocessing, shape)[None])
