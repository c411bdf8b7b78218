from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from models.facts.layers import LayerSpec
from models.facts.regression import FLOOR_S, errors, features, fit_predictor, predict, variables

CONV = LayerSpec("c", "conv", channels=64, kernel=5, stride=2, padding=2)


@pytest.mark.parametrize(
    ("layer", "shape", "reading", "expected"),
    [
        (CONV, (32, 16, 16), "maps", (32.0, 400.0)),
        (CONV, (32, 16, 16), "elements", (8192.0, 400.0)),
        (CONV, (32, 16, 16), "operations", (64 * 32 * 25 * 64.0, 4096.0)),
        (LayerSpec("p", "pool", kernel=3, stride=2, padding=1), (8, 6, 6), "maps", (288.0, 72.0)),
        (LayerSpec("f", "fc", channels=10), (8, 4, 4), "maps", (128.0, 10.0)),
        (LayerSpec("r", "relu"), (8, 4, 4), "elements", (128.0,)),
        (LayerSpec("n", "lrn"), (8, 4, 4), "maps", (128.0,)),
        (LayerSpec("d", "dropout"), (128,), "operations", (128.0,)),
    ],
)
def test_explanatory_variables_by_hand(layer, shape, reading, expected):
    assert features(layer, shape, reading) == expected
    assert len(variables(layer.kind, reading)) == len(expected)


@settings(max_examples=40, deadline=None)
@given(
    a=st.floats(1e-9, 1e-6),
    b=st.floats(1e-8, 1e-5),
    c=st.floats(1e-5, 1e-2),
    seed=st.integers(0, 99),
)
def test_planted_coefficients_are_recovered(a, b, c, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1.0, 5000.0, (30, 2))
    y = a * x[:, 0] + b * x[:, 1] + c
    rows = [tuple(row) for row in x]
    fit = fit_predictor("pool", rows[:20], y[:20], (rows[20:], y[20:]))
    assert [*fit.coefficients, fit.intercept] == pytest.approx([a, b, c], rel=1e-5, abs=1e-12)
    assert (fit.layers, fit.held_out) == (20, 10)
    assert fit.mape < 1e-6
    assert fit.leave_one_out_mape < 1e-6
    assert fit.r2 > 0.999


def test_errors_are_of_layers_the_fit_has_not_seen():
    fitted = [(float(k),) for k in range(1, 11)]
    seconds = [2e-3 * k for k in range(1, 11)]
    # the held-out layers obey another law: twice as slow
    fit = fit_predictor("relu", fitted, seconds, ([(20.0,), (30.0,)], [8e-2, 12e-2]))
    assert fit.mape == pytest.approx(0.5)
    assert fit.leave_one_out_mape == pytest.approx(0.0, abs=1e-9)


def test_leave_one_out_notices_the_odd_layer():
    rows = [(float(k),) for k in range(1, 9)]
    seconds = [1e-3 * k for k in range(1, 9)]
    seconds[3] *= 10
    odd = fit_predictor("relu", rows, seconds, (rows, seconds))
    assert odd.leave_one_out_mape > odd.mape


def test_predictions_are_clamped():
    assert predict((1e-6,), -1.0, (3.0,)) == FLOOR_S
    assert predict((1e-6,), 1.0, (3.0,)) == pytest.approx(1.000003)


def test_errors_by_hand():
    mape, r2 = errors(np.array([1.1, 1.8]), np.array([1.0, 2.0]))
    assert mape == pytest.approx(0.1)
    assert r2 == pytest.approx(1 - 0.05 / 0.5)
    assert errors(np.array([2.0]), np.array([1.0])) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "rows", "seconds", "held", "message"),
    [
        ("relu", [(1.0,), (2.0,)], [1.0, 2.0], ([(3.0,)], [3.0]), "found 2 layers to fit and 1"),
        ("relu", [(1.0,)] * 4, [1.0] * 4, ([], []), "4 layers to fit and 0 held out"),
        ("pool", [(1.0,)] * 4, [1.0] * 4, ([(1.0,)], [1.0]), "expected 2 variables"),
        ("relu", [(1.0,)] * 4, [1.0, 1.0, 0.0, 1.0], ([(1.0,)], [1.0]), "one positive time"),
    ],
)
def test_too_little_to_fit_is_refused(kind, rows, seconds, held, message):
    with pytest.raises(UsageError, match=message):
        fit_predictor(kind, rows, seconds, held)
