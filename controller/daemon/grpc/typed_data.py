"""A tensor's contents in the typed fields of gRPC's messages, one field a group of datatypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from artefacts import UsageError
from controller.daemon.inference.tensor_data import BYTES, DTYPES, Values

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where values of a datatype are; FP16 and BF16 come as raw contents alone."""
WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}
"""What a field holds that several datatypes share."""


class TypedData:
    """Contents in the repeated field of their datatype; a refusal calls the input `where`."""

    def __init__(self, contents: Any, where: str = "inputs[0]") -> None:
        self._contents, self._where = contents, where

    def numbers(self, datatype: str, shape: Sequence[int]) -> Values:
        """Checked against the shape and the type before an array is made."""
        name = FIELDS.get(datatype)
        if name is None:
            raise UsageError(
                f"{self._where}: found {datatype} without raw_input_contents, expected them: it "
                "has no contents of its own"
            )
        found, count, kind = self._only(name), math.prod(shape), DTYPES[datatype]
        if len(found) != count:
            raise UsageError(
                f"{self._where}.contents.{name}: found {len(found)} values, expected {count}"
            )
        values: Values = np.array(found, dtype=WIDE.get(name, kind))
        if values.dtype != kind:
            info = np.iinfo(kind)
            beyond = values[(values < info.min) | (values > info.max)]
            if beyond.size:
                raise UsageError(
                    f"{self._where}.contents.{name}: found {beyond[0]}, expected {info.min} to "
                    f"{info.max}"
                )
        return values.astype(kind).reshape(tuple(shape))

    def elements(self, count: int, texts: bool = False) -> list[bytes]:
        """One element a file, or a text."""
        found = self._only(FIELDS[BYTES])
        if len(found) != count:
            raise UsageError(
                f"{self._where}.contents.bytes_contents: found {len(found)} elements, expected "
                f"{count}"
            )
        return list(found)

    def _only(self, name: str) -> Any:
        """The field where the values must be; refuses values anywhere else."""
        for field, _ in self._contents.ListFields():
            if field.name != name:
                raise UsageError(f"{self._where}.contents: found {field.name}, expected {name}")
        return getattr(self._contents, name)
