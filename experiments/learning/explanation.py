"""One decision, explained: what Algorithm 1 chooses at a bandwidth and why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from artefacts import UsageError
from controller.planners.deadline_rule import choose_plan
from controller.plans import Plan
from controller.scenario import Setting


class Explanation(msgspec.Struct, frozen=True):
    """What `plan --json` prints: the plan, its predicted latency by part, the exit's accuracy."""

    plan: str
    exit: int
    start: int
    stop: int
    codec: str
    latency_s: float
    parts_s: dict[str, float]
    accuracy: float
    meets_deadline: bool
    reason: str


def explain_plan(
    setting: Setting, bandwidth_bps: float, deadline_ms: float | None, order: str = "any"
) -> Explanation:
    """Algorithm 1's plan at a constant bandwidth, and where its latency goes.

    Over every plan the scenario allows, the less accurate deep exits included: Algorithm 1 ranks
    exits by depth. `order` limits the plans to 'edge-first' or 'device-first' ('any': both).
    """
    deadline_s = setting.scenario.frames.deadline_s if deadline_ms is None else deadline_ms / 1e3
    if not deadline_s > 0:
        raise UsageError(f"deadline: found {deadline_ms} ms, expected more than 0")
    table = setting.candidates
    allowed: dict[str, Callable[[Plan], bool]] = {
        "any": lambda p: True,
        "edge-first": lambda p: p.is_local or p.start == 0,
        "device-first": lambda p: p.is_local or p.stop == len(setting.spec.branches[p.exit]),
    }
    if order not in allowed:
        raise UsageError(f"order: found '{order}', expected any, edge-first or device-first")
    table = table.take([k for k, p in enumerate(table.plans) if allowed[order](p)])
    rtt_s = setting.scenario.link.rtt_s
    index, meets = choose_plan(table, bandwidth_bps, deadline_s, rtt_s, setting.interval_s)
    plan, latency = table.plans[index], table.latency_s(bandwidth_bps, rtt_s)
    moved = 0.0 if table.local[index] else 8.0 / max(bandwidth_bps, 1e-9)
    parts = {
        "device": float(table.head_s[index] + table.tail_s[index]),
        "uplink": float(table.up_bytes[index] * moved),
        "edge": float(table.edge_s[index]),
        "downlink": float(table.down_bytes[index] * moved),
        "round trip": 0.0 if table.local[index] else rtt_s,
    }
    if meets:
        deeper = np.flatnonzero(table.exit > plan.exit)
        reason = f"the deepest exit that meets {1000 * deadline_s:g} ms"
        if len(deeper):
            best = deeper[np.argmin(latency[deeper])]
            reason += (
                f"; the next deeper would take {1000 * latency[best]:.1f} ms ({table.plans[best]})"
            )
    else:
        reason = f"no plan meets {1000 * deadline_s:g} ms (NULL in Algorithm 1): the fastest runs"
    return Explanation(
        str(plan), plan.exit + 1, plan.start, plan.stop, plan.codec, float(latency[index]),
        parts, float(table.accuracy[index]), meets, reason,
    )  # fmt: skip
