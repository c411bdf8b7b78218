"""What a gated plan becomes once its gates have been asked: a row for every way it may end.

A plan without gates has one way, itself. Row p < P is plan p of a frame that no gate ended; the
rows behind are frames that one did: a local plan that ends with that gate's answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.physics.table import PlanTable
from controller.plans import device_only


@dataclass(frozen=True)
class GateRows:
    """`table` of R = P + G rows; `row[p, g]` is where plan p ends at its g-th gate (-1: none)."""

    table: PlanTable
    row: Ints
    owner: Ints
    """The plan of every row, (R,)."""

    def mixed(self, values: Floats, share: Floats) -> Floats:
        """Expectation (..., P) of values (..., R) of rows that happen with `share` (R,)."""
        plans = len(self.row)
        if len(self.owner) == plans:
            return values
        weighed = values * share
        found = weighed[..., :plans].copy()
        for g in range(self.row.shape[1]):
            has = np.flatnonzero(self.row[:, g] >= 0)
            found[..., has] += weighed[..., self.row[has, g]]
        return found


def with_gates(table: PlanTable) -> GateRows:
    """The rows of every plan of a table."""
    plans, gates = table.early_exit.shape
    row = np.full((plans, gates), -1, dtype=np.int64)
    owner, place = np.nonzero(table.early_exit >= 0)
    if not len(owner):
        return GateRows(table, row, np.arange(plans))
    row[owner, place] = plans + np.arange(len(owner))
    exits = table.early_exit[owner, place]
    own = table.take(owner)
    # gates before the one that answered have been asked, and answered, too
    asked = np.arange(gates) < place[:, None]
    costs = np.zeros_like(own.costs)
    costs[:, 0] = table.early_s[owner, place]
    ended = replace(
        own,
        plans=tuple(device_only(table.spec, int(e)) for e in exits),
        costs=costs,
        exit=exits,
        local=np.ones(len(owner), dtype=np.bool_),
        wait_s=np.zeros_like(own.wait_s),
        wait_exit=np.full_like(own.wait_exit, -1),
        wait_pause_s=np.zeros_like(own.wait_pause_s),
        rescue_s=np.full(len(owner), np.inf),
        rescue_pause_s=np.zeros(len(owner)),
        early_s=np.where(asked, own.early_s, 0.0),
        early_exit=np.where(asked, own.early_exit, -1),
        gate_share=np.zeros_like(own.gate_share),
        # which samples end there differs from plan to plan: `OutcomeRows` knows
        accuracy=np.full(len(owner), np.nan),
    )
    rows = np.concatenate([np.arange(plans), owner])
    return GateRows(table.joined(ended), row, rows)
