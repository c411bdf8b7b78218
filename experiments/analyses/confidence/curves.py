"""Accuracy against mean compute of every way to stop on confidence, and the area under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError
from artefacts.arrays import Bools, Floats
from experiments.analyses.confidence.gates import PRICES, train_gates
from experiments.analyses.confidence.records import read_record
from models.facts.branchy import BranchySpec
from models.facts.cards import Model
from models.facts.confidence import (
    Labels,
    calibrated,
    calibration_error,
    entropy,
    fit_temperature,
    greatest,
    probabilities,
    stopped,
)
from models.facts.outcomes import Outcomes, read_outcomes

THRESHOLDS = 60
BUDGETS = 41


class ExitCalibration(msgspec.Struct, frozen=True):
    """One exit: its temperature (from held-back pictures), and its error before and after."""

    exit: int
    accuracy: float
    temperature: float
    ece_before: float
    ece_after: float


class Curve(msgspec.Struct, frozen=True):
    """A method at budgets of mean compute (shares of the whole network with every head).

    `compute` and `accuracy` are what it used and gave on the pictures that judge; `area` is the
    mean accuracy over the budgets.
    """

    method: str
    budget: tuple[float, ...]
    compute: tuple[float, ...]
    accuracy: tuple[float, ...]
    area: float


class ConfidenceFigures(msgspec.Struct, frozen=True):
    """What `bench confidence` shows."""

    model: str
    judged_on: str
    calibration: tuple[ExitCalibration, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class _Half:
    logits: npt.NDArray[np.float16]
    labels: Labels


def exit_costs(spec: BranchySpec) -> Floats:
    """Multiply-adds up to and with each exit's head, every earlier head included; last is 1."""
    heads, costs = 0, []
    for i, exit_spec in enumerate(spec.exits):
        layers, shapes = spec.branches[i], spec.shapes[i]
        adds = [x.multiply_adds(s) for x, s in zip(layers, shapes, strict=False)]
        trunk, head = sum(adds[: exit_spec.after]), sum(adds[exit_spec.after :])
        costs.append(trunk + heads + head)
        heads += head
    return np.array(costs, dtype=np.float64) / costs[-1]


def plain_costs(spec: BranchySpec) -> Floats:
    """Multiply-adds of every exit where none before it is asked, in `exit_costs`' unit."""
    own = []
    for branch, shapes in zip(spec.branches, spec.shapes, strict=True):
        own.append(sum(x.multiply_adds(s) for x, s in zip(branch, shapes, strict=False)))
    heads = sum(
        x.multiply_adds(s)
        for e, branch, shapes in zip(spec.exits, spec.branches, spec.shapes, strict=True)
        for x, s in list(zip(branch, shapes, strict=False))[e.after :]
        if e.head
    )
    return np.array(own, dtype=np.float64) / (own[-1] + heads)


def confidence_figures(model: Model) -> ConfidenceFigures:
    """Temperatures, gates and thresholds from held-back pictures; figures from the report half."""
    held_back = _half(model, "held_back.npz", None)
    report = _half(model, "outcomes.npz", "report")
    exits = len(model.spec.exits)
    cost = exit_costs(model.spec)
    temperatures = [fit_temperature(held_back.logits[i], held_back.labels) for i in range(exits)]
    plain = probabilities(report.logits)
    scaled = calibrated(report.logits, temperatures)
    right = report.logits.argmax(axis=-1) == report.labels
    calibration = tuple(
        ExitCalibration(
            i + 1,
            float(right[i].mean()),
            temperatures[i],
            calibration_error(greatest(plain[i]), right[i]),
            calibration_error(greatest(scaled[i]), right[i]),
        )
        for i in range(exits)
    )
    sides = _Side(held_back, temperatures), _Side(report, temperatures)
    alone = plain_costs(model.spec)
    known, judged = (
        np.stack([alone, (half.logits.argmax(axis=-1) == half.labels).mean(axis=1)], axis=1)
        for half in (held_back, report)
    )
    curves = [_curve("one exit, no gate", known, judged, cost)]
    for name in ("max softmax", "entropy", "calibrated"):
        ended = [_thresholds(side.sure[name], sides[0].sure[name]) for side in sides]
        curves.append(_curve(name, *_points(ended, sides, cost), cost))
    gates = [train_gates(sides[0].scaled, held_back.labels, cost, price) for price in PRICES]
    ended = [[g.ends(side.scaled) for g in gates] for side in sides]
    curves.append(_curve("learned gate", *_points(ended, sides, cost), cost))
    joint = read_record(model)
    if joint is not None:
        known = np.array([(p.known_compute, p.known_accuracy) for p in joint.points])
        judged = np.array([(p.compute, p.accuracy) for p in joint.points])
        curves.append(_curve("gates and heads", known, judged, cost))
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    judged_on = f"{outcomes.dataset}, report half"
    return ConfidenceFigures(model.spec.name, judged_on, calibration, tuple(curves))


class _Side:
    """One set of samples: what each method looks at, and which answers are right."""

    def __init__(self, half: _Half, temperatures: list[float]) -> None:
        plain = probabilities(half.logits)
        self.scaled = calibrated(half.logits, temperatures)
        self.sure = {
            "max softmax": greatest(plain),
            "entropy": -entropy(plain),
            "calibrated": greatest(self.scaled),
        }
        self.right = half.logits.argmax(axis=-1) == half.labels

    def point(self, stop: Bools, cost: Floats) -> tuple[float, float]:
        """Mean compute and accuracy where each sample ends at the first exit that ends it."""
        return stopped(stop, self.right, cost)


def _thresholds(sure: Floats, known: Floats) -> list[Bools]:
    """Stop at the first exit at least as sure as a threshold; the same one at every exit.

    Thresholds are quantiles of what held-back pictures give.
    """
    levels = np.quantile(known[:-1], np.linspace(0.0, 1.0, THRESHOLDS))
    return [sure[:-1] >= level for level in levels] + [np.zeros_like(sure[:-1], dtype=np.bool_)]


def _points(
    ended: Sequence[list[Bools]], sides: tuple[_Side, _Side], cost: Floats
) -> tuple[Floats, Floats]:
    """(settings, 2): mean compute and accuracy on held-back, and on judged pictures."""
    known, judged = (
        np.array([side.point(stop, cost) for stop in of_side])
        for side, of_side in zip(sides, ended, strict=True)
    )
    return known, judged


def _curve(method: str, known: Floats, judged: Floats, cost: Floats) -> Curve:
    """At each budget of compute the setting that did best on held-back pictures, judged elsewhere.

    Budgets go from the first exit's compute to the whole network's; the area is the mean accuracy
    over them.
    """
    budgets = np.linspace(float(cost[0]), 1.0, BUDGETS)
    compute, accuracy = [], []
    for budget in budgets:
        allowed = np.flatnonzero(known[:, 0] <= budget + 1e-9)
        if not len(allowed):
            allowed = np.array([int(known[:, 0].argmin())])
        best = allowed[int(known[allowed, 1].argmax())]
        compute.append(float(judged[best, 0]))
        accuracy.append(float(judged[best, 1]))
    return Curve(
        method, tuple(budgets.tolist()), tuple(compute), tuple(accuracy), float(np.mean(accuracy))
    )


def _half(model: Model, name: str, half: str | None) -> _Half:
    path = model.folder / name
    outcomes: Outcomes = read_outcomes(path)
    if outcomes.model_digest != model.digest:
        raise ArtefactError(
            path, field="model_digest", found=outcomes.model_digest, expected=model.digest
        )
    if outcomes.logits is None or outcomes.labels is None:
        raise ArtefactError(
            path, field="logits", found="nothing", expected="logits and labels of every sample"
        )
    index = np.arange(outcomes.samples) if half is None else outcomes.half(half)
    return _Half(outcomes.logits[:, index], outcomes.labels[index].astype(np.int64))
