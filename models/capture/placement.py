"""Where exits are put: marks on the compute, and why an exit stands where it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from models.capture.cost import Costs
from models.capture.exits import NEAR_END, Probe, candidate_points
from models.capture.graph import CapturedModel, Cut

RENAMED = {"pareto": "front", "pareto-memory": "front-memory"}
"""What placements were called before."""
PLACEMENTS = ("linear", "pareto-marks", "front", "front-memory")
PARETO_BASE = 0.8


@dataclass(frozen=True, slots=True)
class Placed:
    """A place of an exit, and why it was taken, in one line."""

    cut: Cut
    why: str


def linear_marks(count: int) -> tuple[float, ...]:
    """Shares of the compute that are evenly spaced: i / (count + 1)."""
    return tuple(i / (count + 1) for i in range(1, count + 1))


def pareto_marks(count: int) -> tuple[float, ...]:
    """Shares of the compute whose distance shrinks by a fifth: 1 - 0.8^i."""
    return tuple(1.0 - PARETO_BASE**i for i in range(1, count + 1))


MARKS: dict[str, Callable[[int], tuple[float, ...]]] = {
    "linear": linear_marks,
    "pareto-marks": pareto_marks,
}


def marked_points(
    model: CapturedModel,
    costs: Costs,
    marks: Sequence[float],
    allowed: Sequence[Cut] | None = None,
) -> tuple[Placed, ...]:
    """For each mark the place whose share of the compute before it is nearest.

    `marks` are shares from 0 to 1 of the multiply-adds in `costs`. Where only some places are
    `allowed`, the marks are shares of what is computed up to the last of them. Refuses more marks
    than `model` has places. A place as dear as the end (`NEAR_END`) is left out, and one behind
    nothing but padding: there may be fewer places than marks then, and none at all.
    """
    points = candidate_points(model) if allowed is None else tuple(allowed)
    if not points:
        raise UsageError(
            f"exits of '{model.name}': found {len(marks)}, expected none: there is no place inside "
            "where one float32 tensor crosses"
        )
    if not 1 <= len(marks) <= len(points):
        raise UsageError(
            f"exits of '{model.name}': found {len(marks)}, expected 1 to {len(points)} (places "
            "where one float32 tensor crosses)"
        )
    shares = np.array([costs.share_before(p.at) for p in points])
    whole = 1.0 if allowed is None else float(shares[-1])
    chosen: dict[int, float] = {}
    learnt = np.array([costs.learnt_before(p.at) for p in points])
    # a network without parameters has nothing to tell its places by
    left_out = np.flatnonzero((shares >= NEAR_END) | (~learnt & learnt.any()))
    for mark in marks[: len(points) - len(left_out)]:
        distance = np.abs(shares - whole * mark)
        distance[[*chosen, *left_out]] = np.inf
        # the deeper points of equal compute: an activation costs nothing and helps a head
        chosen[int(len(points) - 1 - np.argmin(distance[::-1]))] = whole * mark
    return tuple(
        Placed(
            points[k],
            f"{100 * shares[k]:.1f} % of the compute is before it, the mark is "
            f"{100 * chosen[k]:.1f} %",
        )
        for k in sorted(chosen)
    )


def within(
    model: CapturedModel,
    points: Sequence[Cut],
    price: Callable[[Cut], float],
    limit: float,
    what: str,
) -> tuple[Cut, ...]:
    """Those of `points` whose `price` is at most `limit`; refuses a limit that none keeps.

    `points` are places in `model`. `what` names the limit and formats a price, as in
    '--max-latency: {:.4f} s'.
    """
    prices = [price(p) for p in points]
    found = tuple(p for p, paid in zip(points, prices, strict=True) if paid <= limit)
    if not found:
        raise UsageError(
            f"{what.format(limit)}: found no place for an exit of '{model.name}' that keeps it, "
            f"expected at least {what.partition(': ')[2].format(min(prices, default=0.0))}"
        )
    return found


def probed(
    points: Sequence[Cut], probes: Sequence[Probe], of: str, unit: str
) -> tuple[Placed, ...]:
    """`points` with what `probes` found there: `of` says by which rule they were taken.

    `unit` formats a probe's price, as in '{:.1f} ms'.
    """
    known = {p.cut.at: p for p in probes}
    return tuple(
        Placed(
            cut,
            f"{of}: a linear probe is right {100 * known[cut.at].accuracy:.1f} % for "
            f"{unit.format(known[cut.at].cost)}",
        )
        for cut in points
    )
