"""The codecs of one model's cuts, its learned ones included, whoever computes their networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs import LEARNED, Codec, Encoded, LatentNetworks, Shared, codec_named, crossing
from models.facts.branchy import BottleneckSpec, BranchySpec
from models.facts.cards import Model
from models.facts.layers import LayerSpec

RunLayer = Callable[[LayerSpec, Float32s], Float32s]


def shared_at(model: Model, run: RunLayer, codec: Codec, branch: int, cut: int) -> Shared:
    """What both ends hold for a codec before layer `cut` of a branch; `run` computes one layer.

    `model` brings ranges and learned codecs, `codec` says what it needs; `branch` is the exit, from
    0.
    """
    if codec.carries == "latent":
        return Shared(networks=latent_networks(model, run, cut))
    return Shared(model.ranges_at(branch, cut))


def latent_networks(model: Model, run: RunLayer, cut: int) -> LatentNetworks:
    """The networks of a cut's learned codec; refuses a cut that has none."""
    learned = model.spec.bottleneck(cut)
    if learned is None:
        known = ", ".join(str(b.cut) for b in model.spec.bottlenecks) or "none"
        raise UsageError(
            f"codec '{LEARNED}': found cut {cut}, expected one with a learned codec ({known})"
        )
    encoder, decoder = learned.encoder, learned.decoder
    return LatentNetworks(
        lambda x: run(encoder, x),
        lambda latent: run(decoder, latent),
        encoder.output_shape(()),
        latent_codec(learned),
        model.ranges[encoder.name],
    )


def latent_codec(bottleneck: BottleneckSpec) -> Codec:
    """The codec of a learned codec's latent."""
    return codec_named(f"int{bottleneck.bits}c")


def latent_bytes(bottleneck: BottleneckSpec) -> int:
    """Bytes of one latent on the wire."""
    size = latent_codec(bottleneck).size(bottleneck.encoder.output_shape(()))
    assert size is not None
    return size


def crossing_bytes(codec: Codec, spec: BranchySpec, branch: int, cut: int) -> int | None:
    """Bytes of what crosses before layer `cut`; None where they depend on what it holds.

    It crosses by `codec`, in the branch of exit `branch` (from 0) of the network `spec`.
    """
    if codec.carries == "picture" and len(spec.input_shape) == 3:
        # it has three channels, however many the network makes of it
        return codec.size((3, *spec.input_shape[1:]))
    return crossing.size(codec, spec.parts(branch, cut), spec.shapes[branch][cut])


def networks_of(spec: BranchySpec, codec: str, cut: int) -> BottleneckSpec | None:
    """The networks that a codec runs at a cut, None where it runs none."""
    return spec.bottleneck(cut) if codec_named(codec).carries == "latent" else None


def encode_at(
    model: Model, run: RunLayer, codec: str, branch: int, cut: int, x: npt.NDArray[Any]
) -> Encoded:
    """Encode what crosses before layer `cut`: a tensor (1, ...), or one raw sample.

    `model` brings ranges and learned codecs, `run` computes one layer. `codec` is a name, `branch`
    the exit, from 0; `x` is the tensor, or the sample as the model's preprocessing takes it.
    """
    named = codec_named(codec)
    if named.raw:
        return named.encode(x)
    shared = shared_at(model, run, named, branch, cut)
    return crossing.encode(named, model.spec.parts(branch, cut), x[0], shared)


def decode_at(
    model: Model,
    run: RunLayer,
    codec: str,
    branch: int,
    cut: int,
    meta: Mapping[str, Any],
    data: bytes,
) -> Float32s:
    """The batch of one that layer `cut` is given; a raw sample comes back as the network's input.

    `model` brings ranges and learned codecs, `run` computes one layer. `codec` is a name, `branch`
    the exit, from 0. `data` are the bytes, `meta` what came with them.
    """
    named = codec_named(codec)
    if named.raw:
        shape = model.preprocessing.raw_shape(model.spec.input_shape)
        return model.normalise(named.decode(meta, data, shape)[None])
    shared = shared_at(model, run, named, branch, cut)
    parts, shape = model.spec.parts(branch, cut), model.spec.shapes[branch][cut]
    one = crossing.decode(named, parts, meta, data, shape, shared)[None]
    return np.ascontiguousarray(one, dtype=np.float32)
