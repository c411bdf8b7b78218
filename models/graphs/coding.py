"""The codecs of one model's cuts, its learned ones included, whoever computes their networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs import LEARNED, Codec, Encoded, LatentNetworks, Shared, codec_named
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
    one = x if named.raw else x[0]
    return named.encode(one, shared_at(model, run, named, branch, cut))


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
    shape = model.spec.shapes[branch][cut]
    if named.raw:
        shape = model.preprocessing.raw_shape(model.spec.input_shape)
    one = named.decode(meta, data, shape, shared_at(model, run, named, branch, cut))[None]
    return model.normalise(one) if named.raw else np.ascontiguousarray(one, dtype=np.float32)
