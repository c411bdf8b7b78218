"""Nodes beyond the edge: which of them are away, as the edge's answers say, and what is done then.

An edge whose next node is away computes that node's part itself, and says so. The device then plans
without the node until an answer says otherwise, or until it is time to ask again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from controller.interface import Measurement, Situation
from controller.physics import PlanTable
from controller.planners.deadline_rule import choose_plan

AWAY_S = 2.0
"""After so long a node that was away is asked again: by one frame, which the edge answers."""


class FurtherNodes:
    """For the engine's thread; times are of its clock."""

    def __init__(self, table: PlanTable, interval_s: float) -> None:
        """`table` has the plans, of frames that come every `interval_s`."""
        self._table, self._interval_s = table, interval_s
        nearest = table.topology.links[0].far
        self._further = frozenset(table.topology.nodes) - {table.topology.device, nearest}
        self._away: dict[str, float] = {}
        """Until when each is left alone, by its name."""
        self._without = lru_cache(maxsize=16)(self._table_without)

    def heard(self, meta: Mapping[str, Any], now_s: float) -> None:
        """What a reply says: a node is `away`, or has had its part (`hops`)."""
        away = meta.get("away")
        if isinstance(away, str) and away in self._further:
            self._away[away] = now_s + AWAY_S
        elif self._away:
            said = meta.get("hops")
            for one in said if isinstance(said, list) else ():
                self._away.pop(str(one.get("node")) if isinstance(one, dict) else "", None)

    def away(self, now_s: float) -> frozenset[str]:
        """The nodes that are left alone now."""
        return frozenset(name for name, until_s in self._away.items() if now_s < until_s)

    def instead(
        self, chosen: int, situation: Situation, measured: Measurement | None, now_s: float
    ) -> int:
        """The plan `chosen` where all its nodes are there, else Algorithm 1's without them.

        By the rate that was `measured` last; where nothing was, the edge makes the best of it.
        """
        needed = {hop.node for hop in self._table.plans[chosen].hops} & set(self._away)
        for name in needed:
            if now_s >= self._away[name]:  # this frame asks; the next ones wait for what it finds
                self._away[name] = now_s + AWAY_S
                return chosen
        gone = self.away(now_s)
        if not gone or not any(hop.node in gone for hop in self._table.plans[chosen].hops):
            return chosen
        if measured is None or not measured.payload_bytes > 0:
            return chosen
        left_s = situation.deadline_s - 8.0 * situation.uplink_backlog_bytes / measured.rate_bps
        rows, table = self._without(gone, left_s <= situation.rtt_s)
        plan, _ = choose_plan(
            table, measured.rate_bps, left_s if left_s > 0 else situation.deadline_s,
            situation.rtt_s, self._interval_s, situation.device_backlog_s,
        )  # fmt: skip
        return rows[plan]

    def _table_without(
        self, gone: frozenset[str], alone: bool
    ) -> tuple[tuple[int, ...], PlanTable]:
        """Plans that need none of the nodes that are `gone`: their rows, and their table.

        With `alone` they need no other node at all: what waits for the link would make them late.
        """
        rows = tuple(
            p
            for p, plan in enumerate(self._table.plans)
            if plan.is_local or not (alone or any(hop.node in gone for hop in plan.hops))
        )
        return rows, self._table.take(rows)
