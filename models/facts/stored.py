"""Weights in a quarter of the bytes: a matrix as int8 with one scale for each of its rows.

`weights.safetensors` then holds `NAME` (int8, the matrix's shape) and `NAME.scale` (float32, one
value a row, or a column; all other sizes 1). What is loaded is float32 again, their product, and
that is what a model's digest covers. Torch-free: the device reads them too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError
from artefacts.arrays import Float32s

LEAST_VALUES = 4096
"""A tensor of fewer stays float32: its scales would save little."""
LEVELS = 127
SCALE_BITS = 16
"""Of a scale's fraction: a product with 7 bits more is exact in float32, so that rounding twice
gives the same as rounding once."""
LEAST_SCALE = float(np.float32(2.0**-100))
SUFFIX = ".scale"


def rounded(state: Mapping[str, Float32s], kept: Collection[str] = ()) -> dict[str, Float32s]:
    """Parameters as they come back from int8; those called in `kept` as they are.

    Whoever stores a model so judges it so, and takes its digest from these.
    """
    stored = packed(state, kept)
    return _floats(stored, {name for name, values in stored.items() if values.dtype == np.int8})


def packed(
    state: Mapping[str, Float32s], kept: Collection[str] = ()
) -> dict[str, npt.NDArray[Any]]:
    """Parameters as they are stored: int8 and scales of every matrix of `LEAST_VALUES` or more.

    Rows or columns have the scales, whichever is closer to the values. Those called in `kept` stay
    float32, and so does what is no matrix or not finite.
    """
    made: dict[str, npt.NDArray[Any]] = {}
    for name, values in state.items():
        made[name] = values
        large = values.ndim >= 2 and values.size >= LEAST_VALUES and np.isfinite(values).all()
        if not large or name in kept or name + SUFFIX in state:
            continue
        options = [_levels(values, axis) for axis in (0, values.ndim - 1)]
        levels, scale = min(
            options, key=lambda o: float(np.abs(o[0] * o[1] - values).sum(dtype=float))
        )
        made[name], made[name + SUFFIX] = levels, scale
    return made


def unpacked(
    path: Path, stored: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[Any]]:
    """What was read from `path`, with float32 for every int8 tensor of `wanted` and its scales.

    `wanted`: shapes by name. Raises `ArtefactError` where int8 levels or scales do not fit; what is
    float32 stays as it is, unchecked.
    """
    halves = {name for name in wanted if name in stored and stored[name].dtype == np.int8}
    for name in sorted(halves):
        _check(path, name, stored[name], stored.get(name + SUFFIX), wanted[name])
    return _floats(stored, halves)


def _floats(
    stored: Mapping[str, npt.NDArray[Any]], halves: Collection[str]
) -> dict[str, npt.NDArray[Any]]:
    """The products in place of levels and scales."""
    scales = {name + SUFFIX for name in halves}
    return {
        name: values.astype(np.float32) * stored[name + SUFFIX] if name in halves else values
        for name, values in stored.items()
        if name not in scales
    }


def _levels(values: Float32s, axis: int) -> tuple[npt.NDArray[np.int8], Float32s]:
    """int8 levels and scales (size 1 but along `axis`) of a matrix's rows or columns."""
    others = tuple(k for k in range(values.ndim) if k != axis)
    most = np.abs(values).max(axis=others, keepdims=True).astype(np.float64)
    fraction, exponent = np.frexp(most / LEVELS)
    # upwards, so that no level is beyond the last
    scale = np.ldexp(np.ceil(fraction * 2**SCALE_BITS) / 2**SCALE_BITS, exponent)
    scale = np.where(most > 0, np.maximum(scale, LEAST_SCALE), 0.0)
    levels = np.rint(values / np.where(scale > 0, scale, 1.0))
    return levels.astype(np.int8), scale.astype(np.float32)


def _check(
    path: Path,
    name: str,
    levels: npt.NDArray[Any],
    scale: npt.NDArray[Any] | None,
    wanted: tuple[int, ...],
) -> None:
    """Refuse levels of another shape, and scales that are not one a row (or a column) of them."""
    if levels.shape != wanted or levels.ndim < 2:
        kinds = "int8 or float32" if len(wanted) >= 2 else "float32"
        raise ArtefactError(
            path, field=name, found=f"int8 {levels.shape}", expected=f"{kinds} {wanted}"
        )
    axes = (0, levels.ndim - 1)
    shapes = {tuple(n if k == axis else 1 for k, n in enumerate(wanted)) for axis in axes}
    fits = scale is not None and scale.dtype == np.float32 and scale.shape in shapes
    if scale is None or not fits or not np.isfinite(scale).all():
        found = "nothing" if scale is None else f"{scale.dtype} {scale.shape}"
        listed = " or ".join(map(str, sorted(shapes)))
        raise ArtefactError(
            path, field=name + SUFFIX, found=found, expected=f"finite float32 {listed}"
        )
