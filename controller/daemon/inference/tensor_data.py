"""A tensor's contents as they were sent: values of a datatype, or elements of BYTES.

The protocol's datatypes and their types in NumPy; what is sent as another datatype than the network
takes is converted where that loses nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.facts.preprocessing import MOST_WHOLE, NUMPY_TYPES, NamedTensor

Values = npt.NDArray[Any]
BYTES, BF16 = "BYTES", "BF16"
DTYPES: dict[str, np.dtype[Any]] = NUMPY_TYPES | {BF16: np.dtype("<f4")}
"""What values of a datatype are held as; BF16, which NumPy lacks, is widened."""
DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", BF16, BYTES,
)  # fmt: skip
"""Every datatype that the protocol names."""
WHOLE = tuple(d for d in DATATYPES if "INT" in d)
FLOATS = ("FP16", "FP32", "FP64", BF16)
MOST_FLOAT = float(np.finfo(np.float32).max)


class TensorData(Protocol):
    """A tensor's contents in whatever form they came. Both refuse by `UsageError`."""

    def numbers(self, datatype: str, shape: Sequence[int]) -> Values:
        """As values of `datatype` (BF16 as float32) in `shape`, which is bounded already."""

    def elements(self, count: int, texts: bool = False) -> Sequence[bytes]:
        """As `count` elements of BYTES; `texts`: of UTF-8, which JSON may hold as text."""


class RawData:
    """Contents as the protocol's raw bytes. `where` is what a refusal calls the input."""

    def __init__(self, raw: bytes, where: str = "inputs[0]") -> None:
        self._raw, self._where = raw, where

    def numbers(self, datatype: str, shape: Sequence[int]) -> Values:
        """Little-endian, row by row."""
        raw, kind = self._raw, np.dtype("<u2") if datatype == BF16 else DTYPES[datatype]
        if len(raw) != math.prod(shape) * kind.itemsize:
            raise UsageError(
                f"{self._where}: found {len(raw)} bytes, expected "
                f"{math.prod(shape) * kind.itemsize}"
            )
        if datatype == "BOOL":
            levels = np.frombuffer(raw, dtype=np.uint8)
            if levels.max(initial=0) > 1:
                raise UsageError(f"{self._where}: found {levels.max()}, expected 0 or 1 for BOOL")
        found: Values = np.frombuffer(raw, dtype=kind)
        if datatype == BF16:
            found = (found.astype("<u4") << 16).view("<f4")
        return found.reshape(tuple(shape))

    def elements(self, count: int, texts: bool = False) -> list[bytes]:
        """Every element is its length (4 bytes, little-endian) and itself."""
        raw, found, at = self._raw, [], 0
        for _ in range(count):
            if at + 4 > len(raw):
                break
            (length,) = struct.unpack_from("<I", raw, at)
            found.append(raw[at + 4 : at + 4 + length])
            at += 4 + length
        if len(found) != count or at != len(raw):
            raise UsageError(
                f"{self._where}: found {len(raw)} bytes that are not {count} elements of BYTES"
            )
        return found


def packed_elements(elements: Sequence[bytes]) -> bytes:
    """Elements of BYTES behind their lengths, as raw contents have them."""
    return b"".join(struct.pack("<I", len(v)) + v for v in elements)


def fitted(values: Values, wanted: NamedTensor) -> Values:
    """Values as the datatype that a network takes; refuses what that would change.

    What a network of float32 cannot hold is refused too: whole numbers of 2^24 and beyond, and what
    is no number. FP64 for a network that says FP64 is rounded as the network rounds it.
    """
    where, kind = f"tensor '{wanted.name}'", NUMPY_TYPES[wanted.datatype]
    if not values.size or values.dtype.kind == "b":
        return values.astype(kind)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not np.isfinite(low) or not np.isfinite(high):
            raise UsageError(f"{where}: found values that are not finite, expected numbers")
        if kind.kind != "f" and (values != np.rint(values)).any():
            raise UsageError(f"{where}: found fractions, expected {wanted.datatype}")
        least, most = float(low), float(high)
    else:
        least, most = int(low), int(high)
    bound = MOST_FLOAT if values.dtype.kind == kind.kind == "f" else MOST_WHOLE - 1
    floor, ceiling = -bound, bound
    if kind.kind == "b":
        floor, ceiling = 0, 1
    elif kind.kind in "iu":
        info = np.iinfo(kind)
        floor, ceiling = max(floor, int(info.min)), min(ceiling, int(info.max))
    if least < floor or most > ceiling:
        raise UsageError(
            f"{where}: found values from {least:g} to {most:g}, expected {floor:g} to "
            f"{ceiling:g} for {wanted.datatype}"
        )
    with np.errstate(all="ignore"):
        made: Values = values.astype(kind)
    if kind.kind == "f" and (made.astype(np.float64) != values).any():
        raise UsageError(
            f"{where}: found values that {wanted.datatype} does not hold, expected them rounded "
            "by whoever sends them"
        )
    return made


def short(value: Any) -> str:
    """A value of any kind for one line."""
    if isinstance(value, list | str | bytes):
        value = value[:60]  # what is left out of the line is not made for it either
    return repr(value)[:60]
