"""A named tensor of a network's signature, and what its values may be."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64",
]  # fmt: skip
"""Of a tensor's values, as the Open Inference Protocol calls them."""
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
"""By the protocol's name; BF16 has no type in NumPy and is widened before it comes here."""
MOST_WHOLE = 2**24
"""Whole numbers up to it are the same in float32."""


class NamedTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of a signature: its name, type, and one sample's shape."""

    name: str
    """As whoever made the network calls it."""
    datatype: Datatype = "FP32"
    """Of its values."""
    shape: tuple[int, ...] = ()
    """Of one sample."""

    @property
    def values(self) -> int:
        """How many values one sample has."""
        return math.prod(self.shape)

    @property
    def packed_bytes(self) -> int:
        """What one sample takes as it is: its values' own bytes, eight booleans in one."""
        if self.datatype == "BOOL":
            return -(-self.values // 8)
        return self.values * NUMPY_TYPES[self.datatype].itemsize
