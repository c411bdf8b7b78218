"""Which plans no other plan beats, whatever comes.

Plans are compared column by column: what they cost on every resource, what the device's own answers
on their way take, and how often they are right. There may be thousands of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from artefacts.arrays import Bools, Floats, Ints

if TYPE_CHECKING:
    from controller.physics.table import PlanTable

SLACK = 1e-12
"""Costs that differ by less are equal: sums in another order differ in their last digits."""
MOST_ROWS = 256
"""Compared with all others at once: their table takes a few MB."""


def unbeaten(costs: Floats) -> Ints:
    """The rows of (K, C) that no other row equals or undercuts in every column, in their order.

    Of rows that are equal to within `SLACK` the first stays.
    """
    stays = np.ones(len(costs), dtype=np.bool_)
    # who costs least in all beats most: the others need not be asked any more
    order = np.argsort(costs.sum(axis=1), kind="stable")
    for at in range(0, len(order), MOST_ROWS):
        block = order[at : at + MOST_ROWS]
        mine, left = block[stays[block]], np.flatnonzero(stays)
        no_worse = np.ones((len(mine), len(left)), dtype=np.bool_)
        back = no_worse.copy()
        for column in costs.T:
            one, other = column[mine][:, None], column[left][None, :]
            no_worse &= one <= other + SLACK
            back &= other <= one + SLACK
        beats = no_worse & (~back | (mine[:, None] < left[None, :]))
        stays[left[beats.any(axis=0)]] = False
    return np.flatnonzero(stays)


def undominated_streamed(table: PlanTable, rtt_s: float) -> Ints:
    """Plans of a `table` that none beats in a stream of frames, on a link whose round trip is so.

    One beats another only if it needs no more of any resource, is no less accurate, and whatever
    local answer the other has at some moment it has one as good by then.
    """
    stays = table.gated.copy()  # what those cost depends on the sample
    remote, local = ~table.local & ~table.gated, table.local & ~table.gated
    same = (table.wait_exit, np.isfinite(table.rescue_s)[:, None])
    columns = np.column_stack(
        [
            table.costs, *_seconds(table.wait_s, table.wait_pause_s),
            *_seconds(np.where(np.isfinite(table.rescue_s), table.rescue_s, 0.0)[:, None],
                      table.rescue_pause_s[:, None]),
            -table.accuracy,
        ]
    )  # fmt: skip
    for rows in _alike(np.column_stack(same), remote):
        stays[rows[unbeaten(columns[rows])]] = True
    rows = np.flatnonzero(local)
    stays[rows[unbeaten(np.column_stack([table.costs, -table.accuracy])[rows])]] = True
    return np.flatnonzero(stays & ~(remote & _beaten_locally(table, rtt_s)))


def undominated_idle(table: PlanTable, rtt_s: float) -> Ints:
    """Plans of a `table` that none beats where every frame meets idle resources.

    Seconds count by their sum and bytes by theirs; `rtt_s` is the first link's round trip.
    """
    rows = np.flatnonzero(~table.gated)
    moved = table.up_bytes + table.down_bytes
    costs = np.column_stack([table.idle_s(rtt_s), moved, -table.accuracy])
    return np.union1d(rows[unbeaten(costs[rows])], np.flatnonzero(table.gated))


def undominated_beyond(table: PlanTable) -> Ints:
    """Plans of a `table` that none beats where all is idle but the device and its own link.

    What other nodes and the links between them take counts by its sum.
    """
    stays = table.gated | table.local
    rescued = np.isfinite(table.rescue_s)
    same = np.column_stack([table.wait_exit, rescued])
    columns = np.column_stack(
        [
            table.prefix_s, table.up_bytes, table.remote_s, table.down_bytes, table.suffix_s,
            *_seconds(table.wait_s, table.wait_pause_s),
            *_seconds(np.where(rescued, table.rescue_s, 0.0)[:, None],
                      table.rescue_pause_s[:, None]),
            -table.accuracy,
        ]
    )  # fmt: skip
    for rows in _alike(same, ~stays):
        stays[rows[unbeaten(columns[rows])]] = True
    return np.flatnonzero(stays)


def _seconds(seconds: Floats, pause_s: Floats) -> tuple[Floats, Floats]:
    """What local jobs (P, K) take, and what they take at least: they may be given up."""
    return seconds, np.where(pause_s > 0, pause_s, seconds)


def _alike(keys: Ints, among: Bools) -> list[Ints]:
    """Rows `among` (P,) whose `keys` (P, C) are the same, each in their order."""
    rows = np.flatnonzero(among)
    if not len(rows):
        return []
    _, group = np.unique(keys[rows], axis=0, return_inverse=True)
    group = group.reshape(-1)
    return [rows[group == number] for number in range(int(group.max()) + 1)]


def _beaten_locally(table: PlanTable, rtt_s: float) -> Bools:
    """Plans that an answer of the device's own beats: it is there before any of theirs, (P,).

    Before their first local answer that is, and before what another node gives.
    """
    first = np.where(table.wait_exit[:, 0] >= 0, table.wait_s[:, 0], table.rescue_s)
    away_s = rtt_s + table.remote_s + table.suffix_s
    own_s = np.where(np.isinf(first), 0.0, first)
    soonest = table.prefix_s + np.minimum(own_s, away_s)
    beaten = np.zeros(len(table), dtype=np.bool_)
    for q in np.flatnonzero(table.local & ~table.gated).tolist():
        better = table.accuracy[q] >= table.accuracy
        beaten |= better & (table.prefix_s[q] <= soonest + SLACK)
    return beaten
