"""Confidence: temperatures, calibration error, gates, and what a curve may claim."""

import numpy as np
import pytest

from artefacts import ArtefactError
from experiments.analyses.confidence.curves import confidence_figures, exit_costs
from experiments.analyses.confidence.gates import train_gates
from models.facts.cards import load_model
from models.facts.confidence import (
    calibration_error,
    entropy,
    fit_temperature,
    gate_features,
    greatest,
    margin,
    probabilities,
)
from models.facts.outcomes import read_outcomes, save_outcomes
from models.networks.publishing import fitted_temperatures


def drawn(rng, samples, sharpness):
    """Logits whose classes are drawn from their own softmax, then sharpened."""
    logits = rng.normal(0.0, 1.5, (samples, 4))
    p = probabilities(logits)
    labels = (p.cumsum(axis=1) > rng.random((samples, 1))).argmax(axis=1)
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_sharpened(sharpness):
    logits, labels = drawn(np.random.default_rng(0), 20_000, sharpness)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(sharpness, rel=0.05)
    sure = greatest(probabilities(logits, found))
    assert calibration_error(sure, logits.argmax(axis=1) == labels) < 0.02


def test_calibration_error_is_the_gap_by_hand():
    sure = np.array([0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False])
    assert calibration_error(sure, right) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)


def test_scores_by_hand():
    p = np.array([0.7, 0.2, 0.1])
    assert greatest(p) == pytest.approx(0.7)
    assert margin(p) == pytest.approx(0.5)
    assert entropy(p) == pytest.approx(-(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)))
    squares = p**2 / (p**2).sum()
    assert gate_features(p) == pytest.approx([0.7, float(entropy(p)), 0.5, float(entropy(squares))])


def test_gates_stop_easy_samples_and_pass_hard_ones():
    """Exit 1 knows half of the samples for sure and nothing of the others; exit 2 knows all."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 600)
    easy = rng.random(600) < 0.5
    sure = 8.0 * np.eye(3)[labels]
    first = np.where(easy[:, None], sure, rng.normal(0.0, 0.1, (600, 3)))
    p = probabilities(np.stack([first, sure]))
    cost = np.array([0.3, 1.0])
    ended = train_gates(p, labels, cost, price=0.5).ends(p)[0]
    assert ended[easy].mean() > 0.98
    assert ended[~easy].mean() < 0.02
    assert train_gates(p, labels, cost, price=50.0).ends(p)[0].all()


@pytest.fixture(scope="module")
def shipped_figures():
    """Of both shipped networks, by their names."""
    return {name: confidence_figures(load_model(name)) for name in ("alexnet", "mobilenetv2")}


def test_figures_of_the_shipped_network_are_sane(shipped_figures):
    model, figures = load_model("alexnet"), shipped_figures["alexnet"]
    cost = exit_costs(model.spec)
    assert np.all(np.diff(cost) > 0)
    assert cost[-1] == 1.0
    assert [c.method for c in figures.curves][:5] == [
        "one exit, no gate", "max softmax", "entropy", "calibrated", "learned gate",
    ]  # fmt: skip
    first, last = figures.calibration[0].accuracy, figures.calibration[-1].accuracy
    for curve in figures.curves:
        assert min(first, last) - 0.02 < curve.area < last + 0.02
        assert np.all(np.array(curve.compute) <= np.array(curve.budget) + 0.03)
    assert figures.calibration[-1].ece_after < figures.calibration[-1].ece_before


def test_outcomes_without_logits_are_refused(tmp_path):
    import dataclasses
    import shutil

    model = load_model("alexnet")
    folder = tmp_path / "model"
    shutil.copytree(model.folder, folder)
    bare = dataclasses.replace(read_outcomes(folder / "outcomes.npz"), logits=None)
    save_outcomes(folder / "outcomes.npz", bare)
    with pytest.raises(ArtefactError, match="field 'logits': found nothing"):
        confidence_figures(load_model(folder))


def test_the_cards_hold_the_temperatures_of_the_held_back_pictures(shipped_figures):
    for name, figures in shipped_figures.items():
        model = load_model(name)
        held = read_outcomes(model.folder / "held_back.npz")
        assert model.temperatures == fitted_temperatures(held)
        assert [c.temperature for c in figures.calibration] == pytest.approx(
            model.temperatures, abs=1e-4
        )


def test_shares_of_a_gate_are_probabilities():
    rng = np.random.default_rng(3)
    p = probabilities(rng.normal(0.0, 2.0, (3, 50, 4)))
    labels = rng.integers(0, 4, 50)
    gates = train_gates(p, labels, np.array([0.2, 0.6, 1.0]), 0.1)
    share = gates.shares(p)
    assert share.shape == (3, 50)
    assert share.min() >= 0
    assert share.sum(axis=0) == pytest.approx(np.ones(50))
    # who surely stops at exit 1 goes nowhere else
    sure = gates.ends(p)[0]
    assert share[0][sure].min() >= 0.5


def test_the_curves_are_drawn(tmp_path, shipped_figures):
    from experiments.analyses.figures.confidence import draw_confidence

    draw_confidence(shipped_figures["alexnet"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
