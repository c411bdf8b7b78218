"""What turns an observation into a choice: the two kinds of networks, in numpy.

`ScorerWeights` scores every candidate by itself (what `coinfer train` trains); `MlpWeights` is the
plain network of a stable-baselines3 `MlpPolicy` (what `coinfer.export_policy` writes).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Float32s, Ints
from controller.policies.arrays import Taker
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, WIDTH

Activation = Literal["elu", "gelu", "leaky-relu", "relu", "sigmoid", "silu", "tanh"]

ABSENT = np.float32(1e4)
"""What is taken from the score of a candidate that is not there."""


class Weights(Protocol):
    """A network that scores candidates."""

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of rows of `Observation.flat` (L, WIDTH); absent candidates come last."""
        ...

    def decide(self, flat: Float32s) -> Ints:
        """Which candidate (L,) of each row: that of greatest score."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name, as an artefact holds them."""
        ...


@dataclass(frozen=True, slots=True)
class ScorerWeights:
    """One small network that scores every candidate by itself; H hidden units.

    score = w_out . relu(M relu(A context + B description + a) + m) + sharpness x advantage, with
    the 20-fold advantage that the description begins with: at w_out = 0 it is planning alone.
    """

    context: Float32s
    context_bias: Float32s
    described: Float32s
    middle: Float32s
    middle_bias: Float32s
    out: Float32s
    sharpness: Float32s

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of rows of `Observation.flat` (L, WIDTH); absent candidates come last."""
        lanes, c = len(flat), len(CONTEXT)
        described = flat[:, c:-CANDIDATES].reshape(lanes, CANDIDATES, len(DESCRIBED))
        about = flat[:, :c] @ self.context + self.context_bias
        hidden = np.maximum(about[:, None, :] + described @ self.described, 0.0)
        hidden = np.maximum(hidden @ self.middle + self.middle_bias, 0.0)
        scores = hidden @ self.out + self.sharpness[0] * described[:, :, 0]
        return np.asarray(scores - ABSENT * (1.0 - flat[:, -CANDIDATES:]), dtype=np.float32)

    def decide(self, flat: Float32s) -> Ints:
        """Which candidate (L,) of each row: that of greatest score."""
        return np.asarray(np.argmax(self.scores(flat), axis=-1))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name, as an artefact holds them."""
        return {f"weights_{name}": getattr(self, name) for name in ScorerWeights.__slots__}


def planning_weights() -> ScorerWeights:
    """A scorer that adds nothing to planning: the first candidate is always its choice."""
    c, f = len(CONTEXT), len(DESCRIBED)

    def nothing(*shape: int) -> Float32s:
        return np.zeros(shape, dtype=np.float32)

    return ScorerWeights(
        nothing(c, 1), nothing(1), nothing(f, 1), nothing(1, 1), nothing(1), nothing(1),
        np.ones(1, dtype=np.float32),
    )  # fmt: skip


def _sigmoid(x: Float32s) -> Float32s:
    # by tanh: the exponential of a great number would overflow
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=np.float32)


_erf = np.frompyfunc(math.erf, 1, 1)


def _gelu(x: Float32s) -> Float32s:
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)).astype(np.float32)), np.float32)


ACTIVATIONS: dict[Activation, Callable[[Float32s], Float32s]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "gelu": _gelu,
    "leaky-relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "relu": lambda x: np.maximum(x, np.float32(0.0)),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": lambda x: np.tanh(x),
}
"""What may stand between the layers of an `MlpWeights`, by name (parameters as torch's usual ones).
"""


@dataclass(frozen=True, slots=True)
class MlpWeights:
    """A fully connected network of observations to one number for every candidate.

    Layer k maps (L, n_k) to (L, n_k+1) by `matrices[k]` (n_k, n_k+1) and `biases[k]` (n_k+1,); the
    first takes WIDTH numbers, the last gives CANDIDATES. `activation` stands between layers.
    """

    matrices: tuple[Float32s, ...]
    biases: tuple[Float32s, ...]
    activation: Activation

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers between the layers."""
        return tuple(matrix.shape[1] for matrix in self.matrices[:-1])

    def outputs(self, flat: Float32s) -> Float32s:
        """What the network gives for rows of `Observation.flat` (L, WIDTH): (L, CANDIDATES)."""
        between, x = ACTIVATIONS[self.activation], flat
        last = len(self.matrices) - 1
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = np.asarray(x @ matrix + bias, dtype=np.float32)
            if k < last:
                x = np.asarray(between(x), dtype=np.float32)
        return x

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of rows of `Observation.flat` (L, WIDTH); absent candidates come last.

        In the environment an absent candidate stands for the first: what the network gives for it
        counts for the first.
        """
        given, present = self.outputs(flat), flat[:, -CANDIDATES:] > 0
        absent = np.where(present, -np.inf, given).max(axis=1)
        scores = given - ABSENT * (1.0 - flat[:, -CANDIDATES:])
        scores[:, 0] = np.maximum(given[:, 0], absent)
        return np.asarray(scores, dtype=np.float32)

    def decide(self, flat: Float32s) -> Ints:
        """Which candidate (L,) of each row: that of greatest score."""
        return np.asarray(np.argmax(self.scores(flat), axis=-1))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name, as an artefact holds them."""
        found: dict[str, npt.NDArray[Any]] = {}
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            found |= {f"layer_{k}_matrix": matrix, f"layer_{k}_bias": bias}
        return found


def taken_scorer(take: Taker, hidden: int) -> ScorerWeights:
    """The scorer's weights from an artefact's arrays."""
    c, f, h = len(CONTEXT), len(DESCRIBED), hidden
    return ScorerWeights(
        take("weights_context", (c, h)), take("weights_context_bias", (h,)),
        take("weights_described", (f, h)), take("weights_middle", (h, h)),
        take("weights_middle_bias", (h,)), take("weights_out", (h,)),
        take("weights_sharpness", (1,)),
    )  # fmt: skip


def taken_mlp(take: Taker, widths: tuple[int, ...], activation: Activation) -> MlpWeights:
    """A plain network's weights from an artefact's arrays."""
    sizes = (WIDTH, *widths, CANDIDATES)
    pairs = list(itertools.pairwise(sizes))
    return MlpWeights(
        tuple(take(f"layer_{k}_matrix", pair) for k, pair in enumerate(pairs)),
        tuple(take(f"layer_{k}_bias", pair[1:]) for k, pair in enumerate(pairs)),
        activation,
    )
