"""What turns an observation into a choice: the two kinds of networks, in numpy.

`ScorerWeights` scores every candidate by itself (what `coinfer train` trains); `MlpWeights` is the
plain network of a stable-baselines3 `MlpPolicy` (what `coinfer.export_policy` writes).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError
from artefacts.arrays import Float32s, Floats, Ints
from controller.policies.arrays import Taker
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, MOST_OBSERVED, WIDTH

Activation = Literal["elu", "gelu", "leaky-relu", "relu", "sigmoid", "silu", "tanh"]

ABSENT = np.float32(1e4)
"""What is taken from the score of a candidate that is not there."""


KindT = TypeVar("KindT", bound="Weights")
MOST_PRODUCTS = 2**22
"""Multiplications that one decision may take: some milliseconds of a Raspberry Pi."""
MOST_SCORE = 1e30
"""What a score may come to: far from where single precision overflows."""


class Weights(Protocol):
    """A network that scores candidates."""

    @property
    def products(self) -> int:
        """Multiplications that one decision takes."""
        ...

    def most_score(self) -> float:
        """What no score of any observation exceeds, nor any number on the way to it."""
        ...

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of rows of `Observation.flat` (L, WIDTH); absent candidates come last."""
        ...

    def decide(self, flat: Float32s) -> Ints:
        """Which candidate (L,) of each row: that of greatest score."""
        ...

    def single(self) -> SingleChoice:
        """`decide` of one row, for a device."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name, as an artefact holds them."""
        ...


SingleChoice = Callable[[Float32s, Float32s, int], int]
"""Which candidate, given the context and a 1 (C + 1,), what is described of the candidates and a 1
(F + 1, K), and how many of them there are."""


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

    @property
    def products(self) -> int:
        """See `Weights`."""
        context, described, hidden = len(CONTEXT), len(DESCRIBED), len(self.out)
        return hidden * context + CANDIDATES * hidden * (described + hidden + 1)

    def most_score(self) -> float:
        """See `Weights`."""
        seen = np.concatenate([self.context, self.described])
        hidden = _most(seen, np.full(len(seen), MOST_OBSERVED), self.context_bias)
        hidden = _most(self.middle, hidden, self.middle_bias)
        scores = _most(self.out[:, None], hidden, np.zeros(1))
        return float(scores[0] + MOST_OBSERVED * abs(float(self.sharpness[0])))

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

    def single(self) -> SingleChoice:
        """`decide` of one row, for a device: biases are rows of the matrices."""
        context = np.concatenate([self.context, self.context_bias[None]])
        # the last row takes what the context comes to
        described = np.concatenate([self.described, np.zeros_like(self.context_bias)[None]])
        middle = np.concatenate([self.middle, self.middle_bias[None]])
        out, hidden = np.concatenate([self.out, self.sharpness]), len(self.out)
        first = np.ones((hidden + 1, CANDIDATES), dtype=np.float32)
        second = np.ones((hidden + 1, CANDIDATES), dtype=np.float32)
        scores, zero = np.empty(CANDIDATES, dtype=np.float32), np.zeros((), dtype=np.float32)
        # what stands in the way of the loop is looked up once
        about, by_number, by_middle = described[-1], described.T, middle.T
        one, two, advantage = first[:-1], second[:-1], second[-1]

        def choose(seen: Float32s, candidates: Float32s, present: int) -> int:
            seen.dot(context, out=about)
            by_number.dot(candidates, out=one)
            np.maximum(one, zero, out=one)
            by_middle.dot(first, out=two)
            np.maximum(two, zero, out=two)
            advantage[:] = candidates[0]
            out.dot(second, out=scores)
            return int(scores[:present].argmax())

        return choose

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

    @property
    def products(self) -> int:
        """See `Weights`."""
        return sum(matrix.size for matrix in self.matrices)

    def most_score(self) -> float:
        """See `Weights`."""
        most = np.full(WIDTH, MOST_OBSERVED)
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            # no activation gives more than it was given, or than one
            most = np.maximum(_most(matrix, most, bias), 1.0)
        return float(most.max())

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

    def single(self) -> SingleChoice:
        """`decide` of one row, for a device."""
        flat = np.zeros((1, WIDTH), dtype=np.float32)

        def choose(seen: Float32s, candidates: Float32s, present: int) -> int:
            flat[0, : len(CONTEXT)] = seen[:-1]
            flat[0, len(CONTEXT) : -CANDIDATES] = candidates[:-1].T.reshape(-1)
            flat[0, -CANDIDATES:][:present] = 1.0
            return int(self.decide(flat)[0])

        return choose

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights by name, as an artefact holds them."""
        found: dict[str, npt.NDArray[Any]] = {}
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            found |= {f"layer_{k}_matrix": matrix, f"layer_{k}_bias": bias}
        return found


def _most(matrix: npt.NDArray[Any], most: Floats, bias: npt.NDArray[Any]) -> Floats:
    """What the sums of a layer, and any part of them, come to at most; `most` of its inputs."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums: Floats = most @ np.abs(matrix, dtype=np.float64) + np.abs(bias, dtype=np.float64)
    return np.nan_to_num(sums, nan=math.inf, posinf=math.inf)


def unfit(weights: Weights) -> tuple[str, str] | None:
    """What is found and what is expected of a network that takes too long to decide, or whose
    scores may be no numbers; None of others.
    """
    if weights.products > MOST_PRODUCTS:
        found = f"{weights.products:,} multiplications a decision"
        return found, f"at most {MOST_PRODUCTS:,}"
    most = weights.most_score()
    if not most <= MOST_SCORE:
        found = f"scores that may come to {most:.1g}"
        return found, f"at most {MOST_SCORE:g}: such weights come of no training"
    return None


def _checked(take: Taker, weights: KindT) -> KindT:
    if (wrong := unfit(weights)) is not None:
        found, expected = wrong
        raise ArtefactError(take.path, field="weights", found=found, expected=expected)
    return weights


def taken_scorer(take: Taker, hidden: int) -> ScorerWeights:
    """The scorer's weights from an artefact's arrays; refused where they serve no decision."""
    c, f, h = len(CONTEXT), len(DESCRIBED), hidden
    made = ScorerWeights(
        take("weights_context", (c, h)), take("weights_context_bias", (h,)),
        take("weights_described", (f, h)), take("weights_middle", (h, h)),
        take("weights_middle_bias", (h,)), take("weights_out", (h,)),
        take("weights_sharpness", (1,)),
    )  # fmt: skip
    return _checked(take, made)


def taken_mlp(take: Taker, widths: tuple[int, ...], activation: Activation) -> MlpWeights:
    """A plain network's weights from an artefact's arrays; refused as a scorer's are."""
    sizes = (WIDTH, *widths, CANDIDATES)
    pairs = list(itertools.pairwise(sizes))
    made = MlpWeights(
        tuple(take(f"layer_{k}_matrix", pair) for k, pair in enumerate(pairs)),
        tuple(take(f"layer_{k}_bias", pair[1:]) for k, pair in enumerate(pairs)),
        activation,
    )
    return _checked(take, made)
