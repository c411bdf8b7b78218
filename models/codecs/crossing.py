"""What crosses where several tensors are alive: the greatest by a codec, the others as they are.

A mask that every layer of a text network asks lives beside the tensor that they change. Between
layers the tensors of one sample are one row of float32 values laid end to end, so that whoever runs
layers knows one array alone. On the wire each other tensor keeps its own type: a mask takes a bit a
token. Where one tensor crosses alone (`parts` is empty) it is the codec's, and nothing is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs.interface import Codec, Encoded, Shared
from models.codecs.tensors import NUMPY_TYPES, NamedTensor

Parts = Sequence[NamedTensor]


def split(parts: Parts, rows: Float32s) -> list[Float32s]:
    """The tensors (N, *shape) of rows (N, values), float32 each."""
    found, at = [], 0
    for part in parts:
        found.append(rows[:, at : at + part.values].reshape(len(rows), *part.shape))
        at += part.values
    return found


def first(parts: Parts, batch: Float32s) -> Float32s:
    """The tensor that a codec carries, of a batch (N, ...) of what crosses."""
    return split(parts, batch)[0] if parts else batch


def encode(codec: Codec, parts: Parts, one: npt.NDArray[Any], shared: Shared) -> Encoded:
    """Encode what crosses of one sample: a tensor, or the values of several.

    `codec` carries the first of `parts` (none: `one` is the tensor itself), with what `shared`
    holds of the cut. See `Codec.encode`.
    """
    if not parts:
        return codec.encode(one, shared)
    carried, *others = (tensor[0] for tensor in split(parts, one[None]))
    found = codec.encode(carried, shared)
    tail = [_as_it_is(part, x) for part, x in zip(parts[1:], others, strict=True)]
    return Encoded(b"".join([found.data, *tail]), found.meta)


def decode(
    codec: Codec,
    parts: Parts,
    meta: Mapping[str, Any],
    data: bytes | memoryview,
    shape: tuple[int, ...],
    shared: Shared,
) -> npt.NDArray[Any]:
    """What crossed of one sample, of `shape`.

    `codec` carried the first of `parts` (none: a tensor alone) with what `shared` holds of the cut;
    `meta` and `data` came from the other end. See `Codec.decode`.
    """
    if not parts:
        return codec.decode(meta, data, shape, shared)
    view = memoryview(data)
    beside = others_bytes(parts)
    if len(view) < beside:
        raise UsageError(
            f"codec '{codec.name}': found {len(view)} bytes, expected {beside} or more for the "
            "tensors beside the one that it carries"
        )
    at = len(view) - beside
    values = [codec.decode(meta, view[:at], parts[0].shape, shared).ravel()]
    for part in parts[1:]:
        values.append(_values(part, view[at : at + part.packed_bytes]))
        at += part.packed_bytes
    return np.concatenate(values).astype(np.float32)


def size(codec: Codec, parts: Parts, shape: tuple[int, ...]) -> int | None:
    """Bytes of what crosses of one sample; None where they depend on what it holds."""
    own = codec.size(parts[0].shape if parts else shape)
    return None if own is None else own + others_bytes(parts)


def others_bytes(parts: Parts) -> int:
    """What the tensors beside the one that a codec carries take on the wire."""
    return sum(part.packed_bytes for part in parts[1:])


def round_trip(codec: Codec, parts: Parts, batch: Float32s, shared: Shared) -> Float32s:
    """What the other end sees of each sample of a `batch` (N, ...).

    `codec` carries the first of `parts` (none: a tensor alone) with what `shared` holds.
    """
    if not parts:
        seen: Float32s = codec.round_trip(batch, shared)
        return seen
    carried = codec.round_trip(first(parts, batch), shared).reshape(len(batch), -1)
    return np.concatenate([carried, batch[:, parts[0].values :]], axis=1).astype(np.float32)


def _as_it_is(part: NamedTensor, x: Float32s) -> bytes:
    if part.datatype == "BOOL":
        return np.packbits(x.ravel() != 0).tobytes()
    return x.astype(NUMPY_TYPES[part.datatype]).tobytes()


def _values(part: NamedTensor, data: memoryview) -> Float32s:
    if part.datatype == "BOOL":
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=part.values)
        return bits.astype(np.float32)
    return np.frombuffer(data, NUMPY_TYPES[part.datatype]).astype(np.float32)
