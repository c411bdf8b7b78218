"""Wire codecs: how a tensor or a picture becomes bytes at a cut, and what the other end sees.

A codec is named `float32`, `float16`, `int8` (affine, range of the tensor sent along), `int8c` and
`int4c` (affine per channel, ranges calibrated once and held by both ends), `uint8` (the raw
picture), `jpegQ` and `webpQ` (the picture at quality Q); `+zstd` behind a tensor's codec packs its
bytes without loss. The affine codecs decode with one float32 multiplication and addition a value,
so the same bytes give the same values on every machine. JPEG and WebP decode as the installed
library does, and a learned bottleneck's decoder is a network in float32: to within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.codecs.affine import (
    Ranges,
    decode_affine,
    decode_channels,
    encode_affine,
    encode_channels,
    round_trip_affine,
    round_trip_channels,
)
from models.codecs.lossless import pack, unpack
from models.codecs.picture import decode_picture, encode_picture, picture_quality

TENSOR_CODECS = ("float32", "float16", "int8", "int8c", "int4c")
_BITS = {"float32": 32, "float16": 16, "int8": 8, "int8c": 8, "int4c": 4}
LEARNED = "bottleneck"
"""The codec that a network brings along for one of its cuts; `models.graphs.coding` knows how."""
KNOWN = (
    "float32, float16, int8, int8c, int4c (each also with +zstd), uint8, jpegQ, webpQ or bottleneck"
)

__all__ = [
    "KNOWN",
    "LEARNED",
    "TENSOR_CODECS",
    "Encoded",
    "Ranges",
    "carries_picture",
    "check_codec",
    "decode",
    "encode",
    "encoded_bytes",
    "is_exact",
    "needs_ranges",
    "round_trip",
]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor's bytes, and what a decoder must know beside codec, shape and ranges."""

    data: bytes
    meta: dict[str, float]


def check_codec(codec: str) -> str:
    """The codec itself; a `UsageError` where there is none of that name."""
    named = codec in ("uint8", LEARNED) or picture_quality(codec) is not None
    if named or _base(codec)[0] in TENSOR_CODECS:
        return codec
    raise UsageError(f"codec: found '{codec}', expected one of {KNOWN}")


def carries_picture(codec: str) -> bool:
    """Whether a codec carries the raw picture, and so crosses only at the input."""
    return codec == "uint8" or picture_quality(codec) is not None


def is_exact(codec: str) -> bool:
    """Whether answers behind a codec are those of no codec at all."""
    return codec == "uint8" or _base(codec)[0] == "float32"


def needs_ranges(codec: str) -> bool:
    """Whether both ends must hold calibrated ranges of the tensor."""
    return _base(codec)[0] in ("int8c", "int4c")


def encoded_bytes(codec: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of one encoded tensor of `shape`; None where they depend on what it holds."""
    _not_learned(codec)
    base, packed = _base(codec)
    if codec == "uint8":
        return math.prod(shape)
    if packed or base not in _BITS:
        return None
    return -(-_BITS[base] * math.prod(shape) // 8)


def encode(codec: str, array: npt.NDArray[Any], ranges: Ranges | None = None) -> Encoded:
    """Encode one float32 tensor (C, ...), or for a picture's codec a uint8 picture (H, W, 3)."""
    _not_learned(codec)
    base, packed = _base(codec)
    if carries_picture(codec):
        if array.dtype != np.uint8:
            raise UsageError(f"codec '{codec}': found {array.dtype}, expected a uint8 picture")
        data = array.tobytes() if codec == "uint8" else encode_picture(codec, array)
        return Encoded(data, {})
    meta: dict[str, float] = {}
    if base == "int8":
        data, meta = encode_affine(array)
    elif base in ("int8c", "int4c"):
        data = encode_channels(_BITS[base], array, _given(codec, ranges))
    else:
        kind = "<f4" if base == "float32" else "<f2"
        data = np.ascontiguousarray(array, dtype=kind).tobytes()
    return Encoded(pack(data) if packed else data, meta)


def decode(
    codec: str,
    meta: Mapping[str, Any],
    data: bytes | memoryview,
    shape: tuple[int, ...],
    ranges: Ranges | None = None,
) -> npt.NDArray[Any]:
    """The tensor of `shape`: float32, or uint8 for a picture; refuses bytes that do not fit."""
    _not_learned(codec)
    base, packed = _base(codec)
    if picture_quality(codec) is not None:
        return decode_picture(codec, bytes(data), shape)
    if codec == "uint8":
        return np.frombuffer(_whole(codec, data, math.prod(shape), shape), np.uint8).reshape(shape)
    expected = -(-_BITS[base] * math.prod(shape) // 8)
    if packed:
        data = unpack(codec, data, expected)
    data = _whole(codec, data, expected, shape)
    if base == "int8":
        return decode_affine(meta, data, shape)
    if base in ("int8c", "int4c"):
        return decode_channels(_BITS[base], data, shape, _given(codec, ranges))
    kind = "<f4" if base == "float32" else "<f2"
    return np.frombuffer(data, dtype=kind).reshape(shape).astype(np.float32)


def round_trip(
    codec: str, array: npt.NDArray[np.float32], ranges: Ranges | None = None
) -> npt.NDArray[np.float32]:
    """What the other end sees of each sample of a batch of tensors (N, C, ...)."""
    base, _ = _base(check_codec(codec))
    if is_exact(codec):
        return array
    if base == "float16":
        return array.astype(np.float16).astype(np.float32)
    if base == "int8":
        return round_trip_affine(array)
    return round_trip_channels(_BITS[base], array, _given(codec, ranges))


def _not_learned(codec: str) -> None:
    if check_codec(codec) == LEARNED:
        raise UsageError(f"codec '{codec}': found no network, expected one that brings it along")


def _base(codec: str) -> tuple[str, bool]:
    """A tensor's codec without its packing, and whether it is packed."""
    base = codec.removesuffix("+zstd")
    return base, base != codec


def _given(codec: str, ranges: Ranges | None) -> Ranges:
    if ranges is None:
        raise UsageError(
            f"codec '{codec}': found no calibrated ranges of this tensor, expected a model with "
            "calibration.safetensors"
        )
    return ranges


def _whole(
    codec: str, data: bytes | memoryview, expected: int, shape: tuple[int, ...]
) -> bytes | memoryview:
    if len(data) != expected:
        raise UsageError(
            f"codec '{codec}': found {len(data)} bytes, expected {expected} for shape {shape}"
        )
    return data
