"""The codecs of one model's cuts, its learned ones included, whoever computes their networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.codecs import LEARNED, Encoded, carries_picture, decode, encode
from models.facts.branchy import BottleneckSpec
from models.facts.cards import Model
from models.facts.layers import LayerSpec

Floats = npt.NDArray[np.float32]
RunLayer = Callable[[LayerSpec, Floats], Floats]


def latent_codec(bottleneck: BottleneckSpec) -> str:
    """The codec of a learned codec's latent."""
    return f"int{bottleneck.bits}c"


def encode_at(
    model: Model, run: RunLayer, codec: str, branch: int, cut: int, x: npt.NDArray[Any]
) -> Encoded:
    """Encode what crosses before layer `cut`: a tensor (1, ...), or a picture (H, W, 3) uint8."""
    if codec == LEARNED:
        learned = learned_at(model, cut)
        latent = run(learned.encoder, x)[0]
        return encode(latent_codec(learned), latent, model.ranges[learned.encoder.name])
    one = x if carries_picture(codec) else x[0]
    return encode(codec, one, model.ranges_at(branch, cut))


def decode_at(
    model: Model,
    run: RunLayer,
    codec: str,
    branch: int,
    cut: int,
    meta: Mapping[str, Any],
    data: bytes,
) -> Floats:
    """The batch of one that layer `cut` is given; a picture comes back as the network's input."""
    if codec == LEARNED:
        learned = learned_at(model, cut)
        shape = learned.encoder.output_shape(())
        ranges = model.ranges[learned.encoder.name]
        return run(learned.decoder, decode(latent_codec(learned), meta, data, shape, ranges)[None])
    channels, *rest = model.spec.shapes[branch][cut]
    if carries_picture(codec):
        return model.normalise(decode(codec, meta, data, (*rest, channels))[None])
    tensor = decode(codec, meta, data, (channels, *rest), model.ranges_at(branch, cut))
    return np.ascontiguousarray(tensor[None], dtype=np.float32)


def learned_at(model: Model, cut: int) -> BottleneckSpec:
    """The learned codec of a cut; refuses a cut that has none."""
    learned = model.spec.bottleneck(cut)
    if learned is None:
        known = ", ".join(str(b.cut) for b in model.spec.bottlenecks) or "none"
        raise UsageError(
            f"codec '{LEARNED}': found cut {cut}, expected one with a learned codec ({known})"
        )
    return learned
