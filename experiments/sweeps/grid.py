"""The cells of a sweep, and what makes a cell the same one again.

A cell's id is the digest of everything that decides its figures: scenario, model, profiles,
recorded outcomes, traces, all the training's arguments, how it is judged, and the sources that do
it: no table mixes rows of two versions.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from artefacts import UsageError, digest_bytes
from controller.scenarios import NO_PRICES, Prices, Scenario, Setting
from experiments.evaluation.digests import code_digest
from experiments.learning.training_args import TrainArgs
from experiments.sweeps.definition import EvaluationSection, Sweep
from traces.generator import read_fit
from traces.library import TraceSet

ID_LENGTH = 20
"""Hex digits of the digest: 80 bits, and a folder's name that can still be read."""
TRAINING_PARTS = ("train", "validation")


class Cell(msgspec.Struct, frozen=True):
    """One training and what it is judged on; crosses processes and machines as JSON."""

    id: str
    scenario: Scenario
    args: dict[str, Any]
    """Every field of the training's arguments, as plain data."""
    evaluation: EvaluationSection
    prices: tuple[float, float] | None = None
    """In the place of the scenario's."""

    @property
    def algorithm(self) -> str:
        """What it is trained by."""
        return str(self.args["algorithm"])

    @property
    def label(self) -> str:
        """How a person tells it from others."""
        return f"{self.scenario.name}, {self.algorithm}, seed {self.args['seed']} ({self.id})"


def combinations(sweep: Sweep, kind: type[Any] = TrainArgs) -> Iterator[tuple[Scenario, Any]]:
    """Scenario and arguments of every cell, the seeds slowest.

    So a sweep that is cut short has tried everything with its first seeds.
    """
    names = ("algorithm", *sweep.grid)
    axes = (sweep.seeds, sweep.scenarios, sweep.algorithms, *sweep.grid.values())
    for seed, scenario, *values in itertools.product(*axes):
        yield scenario, kind(seed=seed, **dict(zip(names, values, strict=True)))


def expand(sweep: Sweep) -> tuple[Cell, ...]:
    """Every cell of a sweep; loads what the scenarios name."""
    known = {s: basis(at_prices(s, sweep.prices), sweep.evaluation) for s in sweep.scenarios}
    cells = tuple(
        make_cell(scenario, args, sweep.evaluation, known[scenario], sweep.prices)
        for scenario, args in combinations(sweep)
    )
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in seen:
            raise UsageError(
                f"sweep: found scenario '{cell.scenario.name}' twice, expected different ones"
            )
        seen[cell.id] = cell
    return cells


def at_prices(scenario: Scenario, prices: tuple[float, float] | None) -> Setting:
    """The scenario loaded, at its own prices or at those given."""
    return NO_PRICES.applied(scenario) if prices is None else Prices(*prices).applied(scenario)


def make_cell(
    scenario: Scenario,
    args: Any,
    evaluation: EvaluationSection,
    known: dict[str, Any],
    prices: tuple[float, float] | None = None,
) -> Cell:
    """A cell with its id; `known` is the `basis` of its scenario.

    `scenario` is trained for by `args` at `prices`, and judged as `evaluation` says.
    """
    plain = msgspec.json.decode(msgspec.json.encode(asdict(args)))
    cell = Cell("", scenario, plain, evaluation, prices)
    return msgspec.structs.replace(cell, id=cell_id(cell, known))


def cell_id(cell: Cell, known: dict[str, Any]) -> str:
    """Digest of everything that decides a cell's figures."""
    content = {
        "basis": known,
        "args": cell.args,
        "evaluation": msgspec.to_builtins(cell.evaluation),
    }
    return digest_bytes(msgspec.json.encode(content, order="deterministic"))[:ID_LENGTH]


def basis(setting: Setting, evaluation: EvaluationSection) -> dict[str, Any]:
    """Digests of what a scenario names, as found here."""
    parts = dict.fromkeys((*TRAINING_PARTS, *evaluation.parts))
    family = setting.scenario.traces.family
    given = setting.given_prices
    priced = {} if given is None else {"prices": msgspec.to_builtins(given)}
    return priced | {
        "scenario": setting.scenario.digest,
        "model": setting.model.digest,
        "inputs": setting.inputs_digest,
        "code": code_digest("experiments/learning", "experiments/sweeps/cell.py"),
        "traces": {part: _traces_digest(family, setting.traces(part)) for part in parts},
    }


def _traces_digest(family: str, traces: TraceSet) -> str:
    if traces.generated:
        # made by seed; their last bits may differ between processors, what they are does not
        made = [traces.source, [t.name for t in traces.traces], read_fit(family)]
        return digest_bytes(msgspec.json.encode(made))
    digest = hashlib.sha256()
    for trace in traces.traces:
        digest.update(trace.name.encode())
        for values in (trace.times_s, trace.rates_bps, [trace.duration_s]):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
