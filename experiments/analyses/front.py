"""What equal goodput accuracy costs: `python -m experiments.analyses.front --results runs/breadth
...`.

Every evaluation of one scenario, at whatever prices, gives each controller a point: goodput
accuracy against device energy and against bytes. A policy for any prices has many; between two of
them lies what it gives by taking turns. For each point of a rival, what the learned policy spends
at the rival's accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError, UsageError
from controller.registry import SHIPPED
from controller.scenarios import PRICED
from experiments.arguments import LineParser
from experiments.reporting.report import read_results
from experiments.studies.results import Evaluation

OF_A_POLICY = frozenset(e.name for e in SHIPPED if "policy" in e.needs)
"""The learned policy, and what is a part of one: no rivals of it."""
COSTS = {"energy_j_per_frame": (1000.0, "mJ"), "bytes_per_frame": (0.001, "kB")}


class Row(msgspec.Struct, frozen=True):
    """A rival's point in one evaluation; per cost its own, and the learned policy's (None: its
    accuracy is nowhere reached).
    """

    rival: str
    evaluation: str
    accuracy: float
    costs: dict[str, float]
    learned: dict[str, float | None]


def rows_of(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Every deployable rival of evaluations on the same frames, by its accuracy."""
    first = evaluations[0]
    for found in evaluations[1:]:
        if (found.traces_digest, found.frames) != (first.traces_digest, first.frames):
            raise UsageError(
                f"front: found '{first.name}' and '{found.name}' on different traces or frames, "
                "expected the same"
            )
    rows = []
    for found in evaluations:
        for name, own in found.controllers.items():
            if name in OF_A_POLICY or not own.deployable:
                continue
            costs = {c: getattr(own, c) for c in COSTS if getattr(own, c) is not None}
            learned = {c: least_at(own.goodput_accuracy, *points(evaluations, c)) for c in costs}
            rows.append(Row(name, found.name, own.goodput_accuracy, costs, learned))
    # who knows no prices stands in every evaluation at the same place
    once = {(r.rival, r.accuracy, *r.costs.values()): r for r in reversed(rows)}
    return sorted(once.values(), key=lambda r: (-r.accuracy, r.rival))


def points(evaluations: Sequence[Evaluation], cost: str) -> tuple[list[float], list[float]]:
    """Accuracies and costs of the learned policy."""
    found = [e.controllers["learned"] for e in evaluations if "learned" in e.controllers]
    return [c.goodput_accuracy for c in found], [float(getattr(c, cost)) for c in found]


def least_at(accuracy: float, accuracies: Sequence[float], costs: Sequence[float]) -> float | None:
    """The least mean cost of a mix of two points that is as accurate; None where none is."""
    best = None
    a, c = np.asarray(accuracies), np.asarray(costs)
    for k in range(len(a)):
        for other in range(len(a)):
            if a[k] < accuracy:
                continue
            # as much of the other as the accuracy allows, where it costs less
            share = 1.0
            if a[other] < accuracy:
                share = float((a[k] - accuracy) / (a[k] - a[other]))
            mixed = float((1.0 - share) * c[k] + share * c[other])
            best = mixed if best is None else min(best, mixed)
    return best


def line(row: Row) -> str:
    """A row of the Markdown table."""
    cells = [row.rival, row.evaluation, f"{100 * row.accuracy:.2f} %"]
    for cost, (factor, unit) in COSTS.items():
        if cost not in row.costs:
            cells += ["", ""]
            continue
        own, mine = row.costs[cost], row.learned[cost]
        cells.append(f"{factor * own:.1f} {unit}")
        if mine is None:
            cells.append("not reached")
        elif own > 0:
            cells.append(f"{factor * mine:.1f} {unit} ({100 * (mine / own - 1):+.0f} %)")
        else:
            cells.append(f"{factor * mine:.1f} {unit}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a Markdown table."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="a folder of coinfer evaluate")
    parser.add_argument("--scenario", required=True)
    args = parser.parse_args()
    try:
        every = read_results(args.results).evaluations
        name = args.scenario.removesuffix(PRICED) + PRICED
        mine = [e for e in every if e.scenario == name and "learned" in e.controllers
                and e.name.startswith(f"{name}-at-")]  # fmt: skip
        if not mine:
            raise UsageError(
                f"--scenario: found no evaluation '{name}-at-...' in {args.results}, "
                "expected those at several prices (experiments/studies/breadth.toml)"
            )
        print("| rival | evaluation | accuracy | energy | learned | bytes | learned |")
        print("|---|---|---|---|---|---|---|")
        for row in rows_of(mine):
            print(line(row))
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
