"""Codecs used once before the first frame comes: the first use of one loads what it is made of.

WebP took 42 to 50 ms at its first use and 1 ms at the next (Pillow 13, one core of a PC). On a
slower or busy machine that is a frame's whole deadline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import numpy as np

from models.codecs.examples import example_array, example_shared
from models.codecs.registry import codec_named, example_names


def codecs_for(carried: str) -> tuple[str, ...]:
    """A codec of every kind that may carry a network's tensors, or its raw samples.

    `carried` is what a raw sample is, as codecs call it ('picture', 'tokens', 'sound').
    """
    return tuple(n for n in example_names() if codec_named(n).carries in ("tensor", carried))


def use_once(names: Iterable[str]) -> None:
    """Encode and decode something small by every codec of these names; learned ones are not here.

    One that fails is left to whoever asks for it: who never does should not lose a daemon by it.
    """
    rng = np.random.default_rng(0)
    for codec in map(codec_named, names):
        if codec.carries == "latent":
            continue
        with contextlib.suppress(Exception):
            array = example_array(codec, rng)
            shared = example_shared(codec, array[None])
            encoded = codec.encode(array, shared)
            codec.decode(encoded.meta, encoded.data, array.shape, shared)
