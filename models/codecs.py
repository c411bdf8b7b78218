"""Wire codecs: how a tensor becomes bytes at a cut, in arithmetic that any machine repeats.

float32 and float16 are little-endian IEEE; int8 is affine per tensor; uint8 is the raw picture and
crosses only at the input. Decoding uses one multiplication and one subtraction in float32, so the
same bytes give the same values everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError

CODECS = ("float32", "float16", "int8", "uint8")
_BYTES = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1}
_TYPES = {"float32": "<f4", "float16": "<f2", "int8": "u1", "uint8": "u1"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor's bytes, and what a decoder must know beside codec and shape."""

    data: bytes
    meta: dict[str, float]


def encoded_bytes(codec: str, shape: tuple[int, ...]) -> int:
    """Bytes of one encoded tensor of `shape`."""
    return _BYTES[_known(codec)] * math.prod(shape)


def encode(codec: str, array: npt.NDArray[Any]) -> Encoded:
    """Encode a float32 tensor, or for 'uint8' a uint8 picture.

    int8: q = round((x - low) / scale) in 0..255 with scale = (high - low) / 255 in float32.
    """
    if _known(codec) == "uint8":
        if array.dtype != np.uint8:
            raise UsageError(f"codec 'uint8': found {array.dtype}, expected a uint8 picture")
        return Encoded(array.tobytes(), {})
    if codec != "int8":
        return Encoded(np.ascontiguousarray(array, dtype=_TYPES[codec]).tobytes(), {})
    low, high = np.float32(array.min()), np.float32(array.max())
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.float32((high - low) / np.float32(255.0))
    if not np.isfinite(scale):
        raise UsageError(
            f"codec 'int8': found values from {low} to {high}, expected finite ones that are less "
            "than the largest float32 apart"
        )
    if not scale > 0:
        return Encoded(bytes(array.size), {"low": float(low), "scale": 0.0})
    levels = np.clip(np.rint((array - low) / scale), 0, 255).astype(np.uint8)
    return Encoded(levels.tobytes(), {"low": float(low), "scale": float(scale)})


def decode(
    codec: str, meta: Mapping[str, Any], data: bytes | memoryview, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The tensor of `shape`: float32, or uint8 for the raw picture; refuses a wrong length."""
    expected = encoded_bytes(codec, shape)
    if len(data) != expected:
        raise UsageError(
            f"codec '{codec}': found {len(data)} bytes, expected {expected} for shape {shape}"
        )
    values = np.frombuffer(data, dtype=_TYPES[codec]).reshape(shape)
    if codec == "uint8":
        return values
    if codec != "int8":
        return values.astype(np.float32)
    low, scale = _number(meta, "low"), _number(meta, "scale")
    return np.asarray(values.astype(np.float32) * scale + low, dtype=np.float32)


def round_trip(codec: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the other end sees of each sample of a batch (N, ...): encoded one by one."""
    if codec in ("float32", "uint8"):
        return array
    if codec == "float16":
        return array.astype(np.float16).astype(np.float32)
    rows = array.reshape(len(array), -1)
    low = rows.min(axis=1, keepdims=True)
    scale = ((rows.max(axis=1, keepdims=True) - low) / np.float32(255.0)).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1.0))
    levels = np.clip(np.rint((rows - low) / safe), 0, 255).astype(np.float32)
    return np.asarray(levels * scale + low, dtype=np.float32).reshape(array.shape)


def _known(codec: str) -> str:
    if codec not in _BYTES:
        raise UsageError(f"codec: found '{codec}', expected one of {', '.join(CODECS)}")
    return codec


def _number(meta: Mapping[str, Any], key: str) -> np.float32:
    value = meta.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"codec 'int8': found {key} = {value!r}, expected a finite number")
    return np.float32(value)
