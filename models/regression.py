"""Edgent's regression predictors: a layer's seconds from its sizes, by layer kind.

(Li et al., IEEE TWC 2020, table I: explanatory variables.) Fitted by least squares on profiled
layers and judged on layers held out of the fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from models.layers import LayerSpec, Shape
from models.profiles import FittedPredictor

Reading = Literal["maps", "elements"]
Floats = npt.NDArray[np.float64]

FLOOR_S = 1e-6
"""No layer takes less than a microsecond; predictions are clamped here."""

VARIABLES: dict[str, tuple[str, ...]] = {
    "conv": ("input_maps", "filter_cost"),
    "relu": ("input",),
    "lrn": ("input",),
    "dropout": ("input",),
    "flatten": ("input",),
    "pool": ("input", "output"),
    "fc": ("input", "output"),
}


def features(layer: LayerSpec, shape: Shape, reading: Reading = "maps") -> tuple[float, ...]:
    """Explanatory variables of a layer for an input of `shape`.

    conv: x1 is the number of input channels ('maps', our reading of the paper's "input feature
    maps") or of input elements ('elements'); x2 = (filter / stride)^2 x filters. All other sizes
    are elements.
    """
    inputs = float(math.prod(shape))
    outputs = float(math.prod(layer.output_shape(shape)))
    if layer.kind == "conv":
        first = float(shape[0]) if reading == "maps" else inputs
        return (first, (layer.kernel / layer.stride) ** 2 * layer.channels)
    if layer.kind in ("pool", "fc"):
        return (inputs, outputs)
    return (inputs,)


def predict(
    coefficients: Sequence[float], intercept: float, variables: Sequence[float]
) -> float:
    """Predicted seconds, clamped below at `FLOOR_S`."""
    value = intercept + sum(c * v for c, v in zip(coefficients, variables, strict=True))
    return max(value, FLOOR_S)


def fit_predictor(
    kind: str, layers: Sequence[tuple[float, ...]], seconds: Sequence[float], folds: int = 5
) -> FittedPredictor:
    """Fit one kind on all its layers; errors by cross-validation over `folds` held-out groups.

    The relative error is what matters over four decades of sizes, so the squares are weighed by
    1 / seconds. Needs two layers more than variables.
    """
    x, y = np.array(layers, dtype=np.float64), np.array(seconds, dtype=np.float64)
    width = len(VARIABLES[kind])
    if x.ndim != 2 or x.shape != (len(y), width) or len(y) < width + 2:
        raise UsageError(
            f"regression of '{kind}': found {x.shape} variables of {len(y)} layers, expected "
            f"at least {width + 2} layers with {width} variables"
        )
    predicted = np.empty_like(y)
    groups = np.arange(len(y)) % min(folds, len(y))
    for group in np.unique(groups):
        out = groups == group
        solution = _least_squares(x[~out], y[~out])
        predicted[out] = np.maximum(_design(x[out]) @ solution, FLOOR_S)
    solution = _least_squares(x, y)
    spread = float(((y - y.mean()) ** 2).sum())
    return FittedPredictor(
        kind,
        VARIABLES[kind],
        tuple(float(c) for c in solution[:-1]),
        float(solution[-1]),
        len(y),
        len(y),
        float(np.mean(np.abs(predicted - y) / y)),
        1.0 - float(((predicted - y) ** 2).sum()) / spread if spread > 0 else 0.0,
    )


def _design(x: Floats) -> Floats:
    return np.column_stack([x, np.ones(len(x))])


def _least_squares(x: Floats, y: Floats) -> Floats:
    weight = 1.0 / np.maximum(y, FLOOR_S)
    design = _design(x) * weight[:, None]
    # columns of very different size: scaled, or the small ones are lost to rounding
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    solution, *_ = np.linalg.lstsq(design / scale, y * weight, rcond=None)
    return np.asarray(solution / scale)
