"""Plans over three tiers on PORTEND's measurements: `python -m experiments.analyses.portend`.

For every network the plan of least mean latency whose accuracy is at most so many points below the
whole network's, by the paper's cost model, beside one tier alone and one cut without exits. With
--time every plan is also found by exhaustive search, and both are timed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from artefacts import CoinferError, UsageError
from experiments.analyses.portend.cost import COMPOSITIONS, Costs, Platform
from experiments.analyses.portend.measurements import (
    folder_of,
    read_networks,
    read_serialisation,
)
from experiments.analyses.portend.planning import (
    Chosen,
    best_plan,
    exhaustive,
    whole_accuracy,
    without_exits,
)
from experiments.arguments import LineParser

NETWORKS = ("ResNet20", "ResNet110", "EfficientNetB0", "VGGish")
RIVALS = {"device": (0,), "base station": (1,), "cloud": (2,)}
CUTS = ((0, 1), (0, 2), (1, 2))
REPEATS = 20


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One network: its plan, and what else it could do."""

    network: str
    chosen: Chosen
    whole: float
    """Accuracy of the whole network."""
    rivals_ms: dict[str, float]
    """Mean latency of the whole network on one tier, and with one cut, without exits."""
    search_s: float = 0.0
    planner_s: float = 0.0


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = LineParser(
        prog="python -m experiments.analyses.portend",
        description=(__doc__ or "").partition("\n\n")[2],
    )
    made.add_argument("--data", type=Path, help="folder of the four tables (the data folder's)")
    made.add_argument("--networks", default=",".join(NETWORKS), help="by commas (%(default)s)")
    made.add_argument(
        "--points", type=float, default=2.0,
        help="of accuracy that may be lost against the whole network (%(default)s; paper: 2 to 4)",
    )  # fmt: skip
    made.add_argument(
        "--composition", choices=COMPOSITIONS, default=COMPOSITIONS[0],
        help="what the last exit makes of samples that others have left (%(default)s)",
    )  # fmt: skip
    made.add_argument("--part", default="validation", help="exits' samples (%(default)s)")
    made.add_argument("--time", action="store_true", help="search exhaustively, too, and time it")
    made.add_argument("--json", action="store_true", help="plans as JSON, by network")
    return made


def rows(args: argparse.Namespace) -> list[Row]:
    """A row for every network that was asked for, as `args` say."""
    folder = folder_of(args.data)
    networks, serialisation = read_networks(folder), read_serialisation(folder)
    if not 0 <= args.points <= 100:
        raise UsageError(f"--points: found {args.points:g}, expected 0 to 100")
    found = []
    for name in (part.strip() for part in args.networks.split(",")):
        if name not in networks:
            raise UsageError(
                f"--networks: found '{name}', expected some of {', '.join(sorted(networks))}"
            )
        network = networks[name]
        if args.part not in network.exits:
            raise UsageError(
                f"--part: found '{args.part}', expected {', '.join(sorted(network.exits))} "
                f"(of {name})"
            )
        costs = Costs(
            network, network.exits[args.part], Platform(), serialisation, args.composition
        )
        found.append(_row(costs, args.points / 100.0, timed=args.time))
    return found


def _row(costs: Costs, loss: float, *, timed: bool) -> Row:
    whole = whole_accuracy(costs)
    floor = whole - loss
    chosen, searched_s, planned_s = best_plan(costs, floor), 0.0, 0.0
    if timed:
        planned_s, _ = _median(lambda: best_plan(costs, floor), REPEATS)
        searched_s, right = _median(lambda: exhaustive(costs, floor), 1)
        apart = abs(right.predicted.latency_ms - chosen.predicted.latency_ms)
        if apart > 1e-9 * right.predicted.latency_ms:
            raise CoinferError(f"{costs.network.name}: the planner missed {right.plan}")
    rivals = {
        name: without_exits(costs, tiers).predicted.latency_ms for name, tiers in RIVALS.items()
    }
    cuts = [without_exits(costs, tiers).predicted.latency_ms for tiers in CUTS]
    return Row(
        costs.network.name, chosen, whole, rivals | {"one cut": min(cuts)}, searched_s, planned_s
    )


def _median(call: Callable[[], Chosen], repeats: int) -> tuple[float, Chosen]:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2], found


def as_json(row: Row) -> dict[str, Any]:
    """What `--json` says of a network."""
    plan, predicted = row.chosen.plan, row.chosen.predicted
    return {
        "tiers": [list(tier) for tier in plan.tiers],
        "threshold": plan.threshold,
        "exit_shares": list(predicted.exit_shares),
        "latency_ms": predicted.latency_ms,
        "accuracy": predicted.accuracy,
    }


def line(row: Row) -> str:
    """One network in a line."""
    plan, predicted = row.chosen.plan, row.chosen.predicted
    tiers = ", ".join(f"tier {tier}: {first} to {last}" for tier, first, last in plan.tiers)
    shares = " ".join(f"{100 * share:.1f}" for share in predicted.exit_shares)
    rivals = ", ".join(
        f"{name} {ms:.1f} ms ({100 * (1 - predicted.latency_ms / ms):+.1f} %)"
        for name, ms in row.rivals_ms.items()
    )
    timing = (
        f"; exhaustive search {1e3 * row.search_s:.1f} ms, the planner "
        f"{1e3 * row.planner_s:.2f} ms: {row.search_s / row.planner_s:.0f} times"
        if row.planner_s
        else ""
    )
    return (
        f"{row.network}: {tiers}; threshold {plan.threshold:g}; leave {shares} %; "
        f"{predicted.latency_ms:.2f} ms, {100 * predicted.accuracy:.2f} % right (whole "
        f"{100 * row.whole:.2f} %); saved against {rivals}{timing}"
    )


def main(argv: list[str] | None = None) -> int:
    """The command."""
    made = parser()
    args = made.parse_args(argv)
    try:
        found = rows(args)
    except CoinferError as error:
        made.error(str(error))
    if args.json:
        print(json.dumps({row.network: as_json(row) for row in found}, indent=1))
    else:
        for row in found:
            print(line(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
