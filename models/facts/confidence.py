"""How sure an exit is of a sample, from its logits; temperatures and calibration error.

Torch-free: the device ends frames on these scores, the environments on the same ones as recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Bools, Floats

Labels = npt.NDArray[np.int64]

ECE_BINS = 15
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def probabilities(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Softmax (..., C) of logits divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def calibrated(logits: npt.NDArray[np.floating], temperatures: Sequence[float]) -> Floats:
    """Probabilities (E, N, C) of every exit's logits, each at its own temperature."""
    pairs = zip(logits, temperatures, strict=True)
    return np.stack([probabilities(one, t) for one, t in pairs])


def stopped(stop: Bools, right: Bools, cost: Floats) -> tuple[float, float]:
    """Mean cost and accuracy where each sample ends at the first exit that ends it.

    `stop` (E - 1, N), `right` (E, N), `cost` (E,); what nothing ends before ends at the last exit.
    """
    at = np.where(stop.any(axis=0), stop.argmax(axis=0), len(cost) - 1)
    return float(cost[at].mean()), float(right[at, np.arange(len(at))].mean())


def greatest(p: Floats) -> Floats:
    """The greatest probability."""
    return np.asarray(p.max(axis=-1))


def entropy(p: Floats) -> Floats:
    """Entropy in nats."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1))


def margin(p: Floats) -> Floats:
    """The greatest probability less the second."""
    two = np.partition(p, -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])


def gate_features(p: Floats) -> Floats:
    """(..., 4): greatest probability, entropy, margin, entropy of the normalised squares.

    The features of a JEI-DNN gate (Regol et al., ICLR 2024, section 4).
    """
    squares = p**2 / (p**2).sum(axis=-1, keepdims=True)
    return np.stack([greatest(p), entropy(p), margin(p), entropy(squares)], axis=-1)


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], labels: Labels, temperature: float = 1.0
) -> float:
    """Mean over samples (N, C), in nats."""
    p = probabilities(logits, temperature)
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12)).mean())


def fit_temperature(logits: npt.NDArray[np.floating], labels: Labels) -> float:
    """The temperature of least negative log-likelihood (Guo et al., ICML 2017), 0.05 to 20."""
    low, high = np.log(0.05), np.log(20.0)
    while high - low > 1e-4:
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        left = negative_log_likelihood(logits, labels, float(np.exp(a)))
        if left <= negative_log_likelihood(logits, labels, float(np.exp(b))):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2.0))


def calibration_error(sure: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error over `ECE_BINS` bins of equal width."""
    bins = np.minimum((sure * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    count = np.bincount(bins, minlength=ECE_BINS)
    gap = np.bincount(bins, sure - right, ECE_BINS)
    return float(np.abs(gap[count > 0]).sum() / max(len(sure), 1))
