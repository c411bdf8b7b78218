"""What a gated plan becomes once its gates have been asked: a row for every way it may end.

A plan without gates has one way, itself. Row p < P is plan p of a frame that no gate stopped; the
rows behind are frames that one stopped: a local plan that ends with that gate's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.physics.table import Floats, Ints, PlanTable
from controller.plans import device_only


@dataclass(frozen=True)
class StopRows:
    """`table` of R = P + S rows; `row[p, g]` is where plan p ends at its g-th gate (-1: none)."""

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


def with_stops(table: PlanTable) -> StopRows:
    """The rows of every plan of a table."""
    plans, gates = table.early_exit.shape
    row = np.full((plans, gates), -1, dtype=np.int64)
    owner, place = np.nonzero(table.early_exit >= 0)
    if not len(owner):
        return StopRows(table, row, np.arange(plans))
    row[owner, place] = plans + np.arange(len(owner))
    exits = table.early_exit[owner, place]
    zero, none = np.zeros(len(owner)), np.full(len(owner), np.inf)
    # gates before the one that stopped have been asked, and answered, too
    asked = np.arange(gates) < place[:, None]
    wait = table.wait_s.shape[1]

    def joined(first: Floats, second: Floats) -> Floats:
        return np.concatenate([first, second])

    whole = PlanTable(
        spec=table.spec,
        plans=(*table.plans, *(device_only(table.spec, int(e)) for e in exits)),
        head_s=joined(table.head_s, table.early_s[owner, place]),
        up_bytes=joined(table.up_bytes, zero),
        edge_s=joined(table.edge_s, zero),
        down_bytes=joined(table.down_bytes, zero),
        tail_s=joined(table.tail_s, zero),
        exit=np.concatenate([table.exit, exits]),
        local=np.concatenate([table.local, np.ones(len(owner), dtype=np.bool_)]),
        wait_s=joined(table.wait_s, np.zeros((len(owner), wait))),
        wait_exit=np.concatenate(
            [table.wait_exit, np.full((len(owner), wait), -1, dtype=np.int64)]
        ),
        rescue_s=joined(table.rescue_s, none),
        early_s=joined(table.early_s, np.where(asked, table.early_s[owner], 0.0)),
        early_exit=np.concatenate([table.early_exit, np.where(asked, table.early_exit[owner], -1)]),
        stop_share=joined(table.stop_share, np.zeros((len(owner), gates))),
        # which samples end there differs from plan to plan: `OutcomeRows` knows
        accuracy=joined(table.accuracy, np.full(len(owner), np.nan)),
        exit_accuracy=table.exit_accuracy,
        device_sigma=table.device_sigma,
        edge_sigma=table.edge_sigma,
    )
    return StopRows(whole, row, np.concatenate([np.arange(plans), owner]))
