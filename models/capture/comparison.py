"""By how much two answers to the same samples differ, and how much rounding explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-4
"""Of the greatest magnitude of a tensor: what rounding may make of it.

Chosen by measurement (`python -m experiments.analyses.architectures`): float32 by torch and by ONNX
Runtime differ by at most 2e-5 at every exit and every cut of every architecture of the table that
is lowered right, and by less than 2e-6 at most of them. What an exporter gets wrong differs by 4e-3
and more.
"""


def difference(found: Any, wanted: Any) -> float:
    """The greatest difference, as a share of the greatest finite magnitude of `wanted`.

    Infinite where the shapes differ, or where one has a number and the other has none.
    """
    got: npt.NDArray[Any] = np.asarray(found)
    right: npt.NDArray[Any] = np.asarray(wanted)
    if got.shape != right.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(right)
        same = np.array_equal(got[~finite], right[~finite], equal_nan=True)
        if not same or not np.isfinite(got[finite]).all():
            return float("inf")
        worst = float(np.abs(got[finite].astype(float) - right[finite]).max(initial=0.0))
    greatest = float(np.abs(right[finite]).max(initial=0.0))
    if worst == 0.0:
        return 0.0
    return worst / greatest if greatest > 0.0 else float("inf")
