"""Edgent's regression predictors: a layer's seconds from its sizes, by layer kind.

(Li et al., IEEE TWC 2020, table I: explanatory variables.) Owns the variables, the least-squares
fit, and how a fit is judged on layers it has not seen. Knows nothing of how seconds are measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from models.facts.layers import LayerKind, LayerSpec, Shape
from models.facts.profiles import FittedPredictor

Reading = Literal["maps", "elements", "operations"]

FLOOR_S = 1e-6
"""No layer takes less than a microsecond; predictions are clamped here."""

READINGS: tuple[Reading, ...] = ("maps", "elements", "operations")


def variables(kind: str, reading: Reading = "maps") -> tuple[str, ...]:
    """Names of a kind's explanatory variables under a reading, in the order of `features`."""
    if reading == "operations" and kind in ("conv", "fc"):
        return ("multiply_adds", "output_elements")
    if kind == "conv":
        first = "input_maps" if reading == "maps" else "input_elements"
        return (first, "filter_cost")
    if kind in ("pool", "fc"):
        return ("input_elements", "output_elements")
    return ("input_elements",)


def features(layer: LayerSpec, input_shape: Shape, reading: Reading = "maps") -> tuple[float, ...]:
    """Explanatory variables of a layer for an input of `input_shape` (one sample).

    conv: x1 is the number of input channels ('maps', our reading of the paper's "input feature
    maps") or of input elements ('elements'); x2 = (filter / stride)^2 x filters. All other sizes
    are elements. 'operations' is not the paper's: conv and fc by multiply-adds and output
    elements, to show what the paper's variables miss.
    """
    inputs = float(math.prod(input_shape))
    outputs = float(math.prod(layer.output_shape(input_shape)))
    if reading == "operations" and layer.kind in ("conv", "fc"):
        return (float(layer.multiply_adds(input_shape)), outputs)
    if layer.kind == "conv":
        first = float(input_shape[0]) if reading == "maps" else inputs
        return (first, (layer.kernel / layer.stride) ** 2 * layer.channels)
    if layer.kind in ("pool", "fc"):
        return (inputs, outputs)
    return (inputs,)


def predict(coefficients: Sequence[float], intercept: float, values: Sequence[float]) -> float:
    """Predicted seconds, clamped below at `FLOOR_S`."""
    value = intercept + sum(c * v for c, v in zip(coefficients, values, strict=True))
    return max(value, FLOOR_S)


def fit_predictor(
    kind: LayerKind,
    layers: Sequence[tuple[float, ...]],
    seconds: Sequence[float],
    held_out: tuple[Sequence[tuple[float, ...]], Sequence[float]],
    reading: Reading = "maps",
) -> FittedPredictor:
    """Fit one kind on `layers` and judge it on `held_out` (variables, seconds), never fitted.

    The layers that are fitted are judged too, each by a fit of all the others (leave one out).
    Needs two layers more than variables, and one held out.

    `kind` is that of all layers. `layers` are their variables, `seconds` what each took; `reading`
    says which variables a kind has.
    """
    x, y = _table(kind, layers, seconds, reading)
    held_x, held_y = _table(kind, held_out[0], held_out[1], reading)
    width = len(variables(kind, reading))
    if len(y) < width + 2 or not len(held_y):
        raise UsageError(
            f"regression of '{kind}': found {len(y)} layers to fit and {len(held_y)} held out, "
            f"expected at least {width + 2} and 1"
        )
    solution = _least_squares(x, y)
    alone = np.empty_like(y)
    for k in range(len(y)):
        others = np.arange(len(y)) != k
        alone[k] = _predictions(x[k : k + 1], _least_squares(x[others], y[others]))[0]
    mape, r2 = errors(_predictions(held_x, solution), held_y)
    return FittedPredictor(
        kind=kind,
        variables=variables(kind, reading),
        coefficients=tuple(float(c) for c in solution[:-1]),
        intercept=float(solution[-1]),
        layers=len(y),
        held_out=len(held_y),
        mape=mape,
        r2=r2,
        leave_one_out_mape=errors(alone, y)[0],
        reading=reading,
    )


def errors(predicted: Floats, measured: Floats) -> tuple[float, float]:
    """Mean absolute percentage error (as a fraction) and R2; R2 of equal measurements is 0."""
    spread = float(((measured - measured.mean()) ** 2).sum())
    missed = float(((predicted - measured) ** 2).sum())
    mape = float(np.mean(np.abs(predicted - measured) / measured))
    return mape, (1.0 - missed / spread if spread > 0 else 0.0)


def _table(
    kind: str, layers: Sequence[tuple[float, ...]], seconds: Sequence[float], reading: Reading
) -> tuple[Floats, Floats]:
    width = len(variables(kind, reading))
    y = np.array(seconds, dtype=np.float64)
    if len(layers) != len(y) or any(len(row) != width for row in layers) or not (y > 0).all():
        raise UsageError(
            f"regression of '{kind}': found {len(layers)} layers and {len(y)} times, expected "
            f"{width} variables and one positive time a layer"
        )
    return np.array(layers, dtype=np.float64).reshape(len(y), width), y


def _predictions(x: Floats, solution: Floats) -> Floats:
    return np.asarray(np.maximum(_design(x) @ solution, FLOOR_S))


def _design(x: Floats) -> Floats:
    return np.column_stack([x, np.ones(len(x))])


def _least_squares(x: Floats, y: Floats) -> Floats:
    # over four decades of sizes the relative error is what matters: squares weigh 1 / seconds
    weight = 1.0 / np.maximum(y, FLOOR_S)
    design = _design(x) * weight[:, None]
    # columns of very different size: scaled, or the small ones are lost to rounding
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    solution, *_ = np.linalg.lstsq(design / scale, y * weight, rcond=None)
    return np.asarray(solution / scale)
