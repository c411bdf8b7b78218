"""Which of a network's exits are asked: by marks on its cumulative multiply-adds.

The exits are those that the network has. Each mark takes the exit nearest to it, and no exit is
taken twice.
"""

from __future__ import annotations

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from models.facts.branchy import BranchySpec

PLACEMENTS = ("linear", "pareto")
PARETO_LEFT = 0.8
"""What a mark of `pareto` leaves of the compute that the mark before it left."""


def marks(placement: str, count: int) -> tuple[float, ...]:
    """Shares of the compute at which `count` exits are wished, in rising order.

    `linear` spaces them evenly, i / (count + 1); `pareto` takes a fifth of what is left each time,
    1 - 0.8^i, so that exits stand early.
    """
    if placement not in PLACEMENTS:
        raise UsageError(f"placement: found '{placement}', expected {' or '.join(PLACEMENTS)}")
    if placement == "linear":
        return tuple(i / (count + 1) for i in range(1, count + 1))
    return tuple(1.0 - PARETO_LEFT**i for i in range(1, count + 1))


def shares_before(spec: BranchySpec) -> Floats:
    """Share of the trunk's multiply-adds before every early exit, (E - 1,)."""
    own = [x.multiply_adds(s) for x, s in zip(spec.trunk, spec.shapes[-1], strict=False)]
    before = np.concatenate([[0.0], np.cumsum(own)]) / max(sum(own), 1)
    return np.array([before[e.after] for e in spec.exits[:-1]], dtype=np.float64)


def placed_exits(spec: BranchySpec, placement: str, count: int) -> tuple[int, ...]:
    """The exits (from 0) nearest to the marks; `UsageError` where the network has too few."""
    shares = shares_before(spec)
    if not 1 <= count <= len(shares):
        raise UsageError(
            f"exits: found {count}, expected 1 to {len(shares)} (the early exits of '{spec.name}')"
        )
    chosen: list[int] = []
    for mark in marks(placement, count):
        distance = np.abs(shares - mark)
        distance[chosen] = np.inf
        chosen.append(int(np.argmin(distance)))
    return tuple(sorted(chosen))
