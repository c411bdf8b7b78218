"""Tables of the page of plans over three tiers: made of PORTEND's measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analyses.portend.__main__ import Row

PAGE = "portend"
POINTS = ("0.5", "1", "2", "4")
COMPOSITIONS = ("bound", "independent", "nested")
Rows = list[tuple[str, ...]]


def _rows(*options: str) -> list[Row]:
    from experiments.analyses.portend.__main__ import parser, rows

    return rows(parser().parse_args(list(options)))


def _plan(row: Row) -> tuple[str, ...]:
    plan, predicted = row.chosen.plan, row.chosen.predicted
    tiers = ", ".join(
        f"{tier}: {first}" if first == last else f"{tier}: {first} to {last}"
        for tier, first, last in plan.tiers
    )
    exits = len(plan.tiers) > 1
    return (
        tiers,
        f"{plan.threshold:g}" if exits else "",
        " ".join(f"{100 * share:.1f}" for share in predicted.exit_shares) if exits else "",
        f"{predicted.latency_ms:.1f}",
        f"{100 * predicted.accuracy:.2f} %",
    )


def _plans(_: Callable[..., Any]) -> Rows:
    """Of every network, within so many points of accuracy."""
    found: Rows = []
    by_points = {points: _rows("--points", points) for points in POINTS}
    for k, row in enumerate(by_points[POINTS[0]]):
        for points in POINTS:
            name = row.network if points == POINTS[0] else ""
            found.append((name, points, *_plan(by_points[points][k])))
    return found


def _rivals(_: Callable[..., Any]) -> Rows:
    """The whole network on one tier, and with one cut, without exits."""
    return [
        (
            row.network,
            f"{100 * row.whole:.2f} %",
            f"{row.chosen.predicted.latency_ms:.1f}",
            *(f"{ms:.1f}" for ms in row.rivals_ms.values()),
        )
        for row in _rows()
    ]


def _compositions(_: Callable[..., Any]) -> Rows:
    found: Rows = []
    rows = {composition: _rows("--composition", composition) for composition in COMPOSITIONS}
    for k, row in enumerate(rows[COMPOSITIONS[0]]):
        for composition in COMPOSITIONS:
            name = row.network if composition == COMPOSITIONS[0] else ""
            found.append((name, composition, *_plan(rows[composition][k])))
    return found


MADE: dict[tuple[str, str], Callable[[Callable[..., Any]], Rows]] = {
    (PAGE, "plans"): _plans,
    (PAGE, "rivals"): _rivals,
    (PAGE, "compositions"): _compositions,
}
"""By (page, table): its rows."""
