"""A user's samples of any kind, from an npz: token ids, recordings, tensors, and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError
from artefacts.arrays import read_npz
from models.data.datasets import UNLABELLED, Samples
from models.facts.layers import Shape
from models.facts.preprocessing import (
    Preprocessing,
    Raw,
    TensorInput,
    TokenInput,
    raw_type,
)

MOST_BYTES = 2**33


def read_samples(path: Path, preprocessing: Preprocessing, shape: Shape) -> Samples:
    """Samples that a network of input `shape` takes: `x`, or an array for each tensor by its name.

    `y` are their labels, as the answers' judge takes them; an npz without `y` has none. Token ids
    are whole numbers (N, L') with L' at most L: what is short is filled with the padding's id.
    Raises `ArtefactError` naming the array.
    """
    tensors = preprocessing.tensors if isinstance(preprocessing, TensorInput) else ()
    names = tuple(t.name for t in tensors) or ("x",)
    arrays = read_npz(
        path, f"an npz with arrays {', '.join(names)} and y", (*names, "y"), MOST_BYTES
    )
    for name in names:
        if name not in arrays:
            raise ArtefactError(path, field=name, found="nothing", expected="an array")
    count = len(arrays[names[0]]) if arrays[names[0]].ndim else 0
    if count < 1:
        raise ArtefactError(path, field=names[0], found="no samples", expected="one or more")
    if isinstance(preprocessing, TensorInput):
        x = _tensors(path, preprocessing, arrays, count)
    else:
        x = _one(path, preprocessing, shape, arrays["x"])
    y = arrays.get("y", UNLABELLED)
    if "y" in arrays and (y.ndim < 1 or len(y) != count or y.dtype.kind not in "iufb"):
        raise ArtefactError(
            path, field="y", found=f"{y.dtype} {y.shape}", expected=f"labels of {count} samples"
        )
    return Samples(x, y, path=path)


def _one(path: Path, kind: Preprocessing, shape: Shape, x: npt.NDArray[Any]) -> Raw:
    wanted, dtype = kind.raw_shape(shape), raw_type(kind)
    if isinstance(kind, TokenInput):
        if x.ndim == 2 and x.dtype.kind in "iu" and 0 < x.shape[1] <= wanted[0]:
            ids = np.full((len(x), wanted[0]), kind.padding, dtype=np.int32)
            if int(x.min()) >= 0 and int(x.max()) < kind.vocabulary:
                ids[:, : x.shape[1]] = x
                return ids
            raise ArtefactError(
                path, field="x", found=f"ids from {x.min()} to {x.max()}",
                expected=f"0 to {kind.vocabulary - 1}",
            )  # fmt: skip
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}",
            expected=f"token ids (N, {wanted[0]}), or fewer to be filled",
        )  # fmt: skip
    if x.dtype != dtype or tuple(x.shape[1:]) != wanted:
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}",
            expected=f"{dtype} (N, {', '.join(map(str, wanted))})",
        )  # fmt: skip
    return np.ascontiguousarray(x)


def _tensors(path: Path, kind: TensorInput, arrays: dict[str, npt.NDArray[Any]], count: int) -> Raw:
    given = [arrays[t.name] for t in kind.tensors]
    for tensor, array in zip(kind.tensors, given, strict=True):
        if array.shape != (count, *tensor.shape) or array.dtype.kind not in "biuf":
            raise ArtefactError(
                path, field=tensor.name, found=f"{array.dtype} {array.shape}",
                expected=f"{tensor.datatype} ({count}, {', '.join(map(str, tensor.shape))})",
            )  # fmt: skip
    try:
        return np.stack([kind.pack([array[k] for array in given]) for k in range(count)])
    except UsageError as error:
        raise ArtefactError(path, found=str(error), expected="values that fit") from None
