"""Learned gates: a linear one per exit, after JEI-DNN (Regol et al., ICLR 2024).

Each gate looks at four figures of its exit's answer and gives the probability of stopping there,
given that no earlier exit stopped. Gates are trained against the exit that minimises cross-entropy
plus a price on compute, and then, with the exits' losses weighted by the gates' own probabilities
of stopping there, on what that choice costs in the end. Here the exits themselves stay as they are
(`joint` trains their heads together with the gates).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats
from models.facts.confidence import Labels, gate_features

STEPS = 400
RATE = 0.1
DECAY = 1e-3
PRICES = tuple(round(float(p), 4) for p in np.geomspace(0.003, 6.0, 24))
"""Of the whole network's compute, in nats: the settings a curve of gates is made of."""


@dataclass(frozen=True, eq=False)
class Gates:
    """`weights` (E - 1, 5): one row for each exit but the last, the bias last."""

    weights: Floats
    mean: Floats
    std: Floats

    def ends(self, p: Floats) -> npt.NDArray[np.bool_]:
        """Whether each gate ends a sample that reaches it, (E - 1, N), for p (E, N, C)."""
        return np.asarray(self._scores(p) > 0.0)

    def shares(self, p: Floats) -> Floats:
        """Probability of a sample ending at each exit, (E, N): what weighs the exits' losses."""
        each = 1.0 / (1.0 + np.exp(-np.clip(self._scores(p), -30, 30)))
        reached = np.cumprod(np.concatenate([np.ones((1, p.shape[1])), 1.0 - each]), axis=0)
        return np.asarray(reached * np.concatenate([each, np.ones((1, p.shape[1]))]))

    def _scores(self, p: Floats) -> Floats:
        x = self.inputs(p)
        return np.asarray((x * self.weights[:, None, :]).sum(axis=-1))

    def inputs(self, p: Floats) -> Floats:
        """Standardised features and a constant 1, (E - 1, N, 5)."""
        x = (gate_features(p[:-1]) - self.mean[:, None, :]) / self.std[:, None, :]
        return np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=-1)


def train_gates(p: Floats, labels: Labels, cost: Floats, price: float) -> Gates:
    """Gates for exits of probabilities (E, N, C) whose `cost` (E,) is in [0, 1], at `price` a unit.

    Calibrated probabilities: an exit that is too sure of itself has a cross-entropy that says more
    of its temperature than of its answers.

    First logistic regression towards the best exit of each sample, then gradient descent on the
    expected loss under the gates' own stopping probabilities. No randomness.

    `p` are the probabilities, `labels` (N,) the true classes.
    """
    features = gate_features(p[:-1])
    mean, std = features.mean(axis=1), np.maximum(features.std(axis=1), 1e-6)
    start = Gates(np.zeros((len(p) - 1, 5)), mean, std)
    x = start.inputs(p)
    crossed = -np.log(np.maximum(np.take_along_axis(p, labels[None, :, None], -1)[..., 0], 1e-6))
    loss = crossed + price * cost[:, None]
    best = loss.argmin(axis=0)
    weights = np.zeros((len(p) - 1, 5))
    for i in range(len(weights)):
        reached = best >= i
        weights[i] = _logistic(x[i][reached], (best[reached] == i).astype(np.float64))
    return Gates(_expected(weights, x, loss), mean, std)


def _logistic(x: Floats, y: Floats) -> Floats:
    """Ridge logistic regression by Newton's method."""
    w = np.zeros(x.shape[1])
    if not len(y):
        return w
    for _ in range(30):
        s = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (s - y) + DECAY * len(y) * w
        curve = (x * (s * (1 - s))[:, None]).T @ x + DECAY * len(y) * np.eye(len(w))
        w = w - np.linalg.solve(curve, gradient)
    return w


def _expected(weights: Floats, x: Floats, loss: Floats) -> Floats:
    """Descend the mean of sum_i P(stop at i) loss_i, P from the gates themselves (Adam)."""
    w, first, second = weights.copy(), np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, STEPS + 1):
        z = np.clip((x * w[:, None, :]).sum(axis=-1), -30, 30)
        g = 1.0 / (1.0 + np.exp(-z))
        # value[i]: what a sample that reaches exit i is expected to cost from there on
        value = np.empty_like(loss)
        value[-1] = loss[-1]
        for i in range(len(g) - 1, -1, -1):
            value[i] = g[i] * loss[i] + (1.0 - g[i]) * value[i + 1]
        reach = np.ones(loss.shape[1])
        gradient = np.empty_like(w)
        for i in range(len(g)):
            slope = reach * g[i] * (1.0 - g[i]) * (loss[i] - value[i + 1])
            gradient[i] = (x[i] * slope[:, None]).mean(axis=0) + DECAY * w[i]
            reach = reach * (1.0 - g[i])
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        corrected = np.sqrt(second / (1 - 0.99**step)) + 1e-8
        w = w - RATE * (first / (1 - 0.9**step)) / corrected
    return w
