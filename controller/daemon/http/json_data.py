"""A tensor's contents as JSON: numbers, flat or nested as the shape is, or texts.

Held against the shape before anything is made of them, and read by the datatype alone: what is no
value of it costs no more than its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from artefacts import UsageError
from controller.daemon.inference.tensor_data import BF16, DTYPES, FLOATS, Values

VALUE_BYTES = 64
"""Of JSON for each value of data: its own line and a share of its lists', all of them indented."""
PART_BYTES = 65_536
"""So much is read of data before others have their turn at the interpreter."""
MOST_FIXED = 64
"""A row so short is read as of a fixed length."""
JSON_INTS = 63
"""Bits of a bound that the reader itself holds values against."""


class JsonData:
    """Contents as JSON. `where` is what a refusal calls the input."""

    def __init__(self, text: msgspec.Raw, where: str = "inputs[0]") -> None:
        self._text, self._where = text, where

    def numbers(self, datatype: str, shape: Sequence[int]) -> Values:
        """Checked against the shape before anything is made of them, and read by the type alone."""
        count, text = math.prod(shape), bytes(self._text)
        # as many commas as there are values less one, however they are nested
        if len(text) > count * VALUE_BYTES or text.count(b",") != count - 1:
            raise self._no_numbers(datatype, count, "another number of them")
        inner = text[1:].lstrip()[:1]
        try:
            read = _nested if text[:1] == inner == b"[" else _flat
            found = read(text, shape, datatype)
        except msgspec.ValidationError as error:
            raise self._no_numbers(datatype, count, str(error).replace("`", "'")) from None
        except msgspec.DecodeError as error:
            raise self._no_numbers(datatype, count, str(error)) from None
        return found.reshape(tuple(shape))

    def elements(self, count: int, texts: bool = False) -> list[bytes]:
        """Texts, flat or a list a sample; files are refused: one is no text."""
        if not texts:
            raise UsageError(
                f"{self._where}: found BYTES as JSON, expected JPEG files as binary data"
            )
        found: Any = None
        why = ""
        # of a fixed length where a list could go on for ever
        for kind in _text_types(count):
            try:
                found = msgspec.json.decode(self._text, type=kind)
                break
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                why = why or str(error).replace("`", "'")
        if found is None:
            raise UsageError(f"{self._where}.data: found no {count} texts ({why[:120]})")
        flat = [one for row in found for one in ([row] if isinstance(row, str) else row)]
        # half of a pair of surrogates is no UTF-8: it is refused where that is read
        return [one.encode("utf-8", "surrogatepass") for one in flat]

    def _no_numbers(self, datatype: str, count: int, found: str) -> UsageError:
        return UsageError(
            f"{self._where}.data: found no {count} {_called(datatype)} ({found[:120]}), expected "
            "one a value"
        )


def _text_types(count: int) -> list[Any]:
    """One list of texts, or a list of one for each, or of two where they may be pairs."""
    rows: list[Any] = [str, tuple[str]] + ([tuple[str, str]] if count % 2 == 0 else [])
    counts = (count, count, count // 2)
    return [
        tuple[(row,) * most]  # type: ignore[misc]
        for row, most in zip(rows, counts, strict=False)
    ]


def _called(datatype: str) -> str:
    """What values of a datatype are called in a refusal."""
    if datatype == "BOOL":
        return "values true or false"
    if datatype in FLOATS:
        return f"numbers of {datatype}"
    info = np.iinfo(DTYPES[datatype])
    return f"whole numbers from {info.min} to {info.max}"


def _value_type(datatype: str) -> Any:
    """What the reader takes for one value."""
    if datatype == "BOOL":
        return bool
    if datatype in FLOATS:
        return float
    info = np.iinfo(DTYPES[datatype])
    if info.max >= 2**JSON_INTS - 1:
        return int  # the reader knows no such bounds: whole numbers of any size, held against later
    return Annotated[int, msgspec.Meta(ge=int(info.min), le=int(info.max))]


def _array(values: Any, datatype: str) -> Values:
    """Read values as an array; whole ones beyond the datatype are refused."""
    kind = DTYPES[datatype]
    try:
        found = np.array(values, dtype=np.float64 if kind.kind == "f" else kind)
    except OverflowError:
        raise msgspec.DecodeError("values beyond it") from None
    if kind.kind != "f":
        return found
    with np.errstate(over="ignore"):
        narrow: Values = _bf16(found) if datatype == BF16 else found.astype(kind)
    if not np.isfinite(narrow).all():
        raise msgspec.DecodeError("values beyond it")
    return narrow


def _bf16(values: Values) -> Values:
    """Rounded to the nearest of BF16, as float32."""
    bits = values.astype("<f4").view("<u4")
    up = (bits >> 16 & 1) + 0x7FFF
    rounded: Values = ((bits + up) & np.uint32(0xFFFF0000)).view("<f4")
    return rounded


def _flat(text: bytes, shape: Sequence[int], datatype: str) -> Values:
    """One list. It is read in parts that end with a comma: each is a list of its own."""
    kind: Any = list[_value_type(datatype)]  # type: ignore[misc]
    if not (text.startswith(b"[") and text.endswith(b"]")):
        msgspec.json.decode(text, type=kind)  # says what it is instead
        raise msgspec.DecodeError("it is no list")
    found, at, last = [], 1, len(text) - 1
    while at < last:
        stop = text.find(b",", at + PART_BYTES, last)
        stop = last if stop < 0 else stop
        found.append(_array(msgspec.json.decode(b"[%b]" % text[at:stop], type=kind), datatype))
        at = stop + 1
    whole = np.concatenate(found) if found else np.empty(0)
    if whole.size != math.prod(shape):
        raise msgspec.DecodeError(f"{whole.size} of them")
    return whole


def _nested(text: bytes, shape: Sequence[int], datatype: str) -> Values:
    """Lists as deep as the shape, each as long as it says; one sample at a time."""
    # of a fixed length where a list could be empty, or go on for ever
    kind: Any = _value_type(datatype)
    if len(shape) > 1:
        kind = _row(kind, shape[-1])
        for _ in shape[1:-1]:
            kind = list[kind]
    samples: Any = tuple[(msgspec.Raw,) * shape[0]]  # type: ignore[misc]
    whole = msgspec.json.decode(text, type=samples)
    try:
        found = [_array(msgspec.json.decode(one, type=kind), datatype) for one in whole]
    except msgspec.ValidationError:
        raise
    except ValueError as error:
        if isinstance(error, msgspec.DecodeError):
            raise
        raise msgspec.DecodeError("rows of different lengths") from None
    for one in found:
        if one.shape != tuple(shape[1:]):
            raise msgspec.DecodeError(f"the shape {[len(found), *one.shape]}")
    return np.stack(found)


def _row(kind: Any, length: int) -> Any:
    if length <= MOST_FIXED:
        return tuple[(kind,) * length]  # type: ignore[misc]
    return Annotated[list[kind], msgspec.Meta(min_length=length, max_length=length)]
