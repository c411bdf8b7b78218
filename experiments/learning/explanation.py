"""One decision, explained: what Algorithm 1 chooses at a bandwidth and why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from artefacts import UsageError
from controller.planners.deadline_rule import choose_plan
from controller.plans import Plan, passed_exits
from controller.scenario import Setting
from models.codecs import LEARNED


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
    device_bytes: int
    reason: str


def plan_device_bytes(setting: Setting, plan: Plan) -> int:
    """Memory that a plan takes of the device: its layers' parameters and greatest activations.

    In a frame stream what answers locally while the edge is awaited (the exit passed on the way, a
    rescue) counts.
    """
    spec, anytime = setting.spec, not setting.closed_loop
    length = len(spec.branches[plan.exit])
    if plan.is_local:
        return setting.device.device_bytes((plan.exit, 0, length))
    parts = [(plan.exit, 0, plan.start), (plan.exit, plan.stop, length)]
    passed = passed_exits(spec, plan)
    if anytime and plan.hedge:
        for j in range(passed[-1] if passed else 0, plan.exit + 1):
            after = spec.exits[j].after
            parts.append((j, min(plan.start, after), len(spec.branches[j])))
    elif anytime and passed:
        parts.append((passed[-1], spec.exits[passed[-1]].after, len(spec.branches[passed[-1]])))
    elif anytime and plan.rescue:
        parts.append((0, min(plan.start, spec.exits[0].after), len(spec.branches[0])))
    needed = setting.device.device_bytes(*parts)
    learned = spec.bottleneck(plan.start) if plan.codec == LEARNED else None
    if learned is not None:
        # an encoder runs once the layers before it are done, and before those behind
        held = learned.encoder.parameter_bytes(())
        needed = held + max(needed, learned.encoder.peak_bytes(()))
    return needed


def explain_plan(
    setting: Setting,
    bandwidth_bps: float,
    max_latency_s: float | None,
    order: str = "any",
    max_device_bytes: float | None = None,
) -> Explanation:
    """Algorithm 1's plan at a constant bandwidth, and where its latency goes.

    Over every plan the scenario allows, the less accurate deep exits included: Algorithm 1 ranks
    exits by depth. `order` limits the plans to 'edge-first' or 'device-first' ('any': both);
    `max_device_bytes` to those whose part on the device fits into that memory.
    """
    deadline_s = setting.scenario.frames.deadline_s if max_latency_s is None else max_latency_s
    if not deadline_s > 0:
        raise UsageError(f"latency: found {1e3 * deadline_s:g} ms, expected more than 0")
    table = setting.candidates
    allowed: dict[str, Callable[[Plan], bool]] = {
        "any": lambda p: True,
        "edge-first": lambda p: p.is_local or p.start == 0,
        "device-first": lambda p: p.is_local or p.stop == len(setting.spec.branches[p.exit]),
    }
    if order not in allowed:
        raise UsageError(f"order: found '{order}', expected any, edge-first or device-first")
    table = table.take([k for k, p in enumerate(table.plans) if allowed[order](p)])
    deepest = int(table.exit.max())
    memory = np.array([plan_device_bytes(setting, p) for p in table.plans])
    if max_device_bytes is not None:
        fits = np.flatnonzero(memory <= max_device_bytes)
        if not len(fits):
            least = int(np.argmin(memory))
            raise UsageError(
                f"device memory: found {max_device_bytes / 2**20:.2f} MiB, expected "
                f"{memory[least] / 2**20:.2f} MiB or more (the least any plan takes: "
                f"{table.plans[least]})"
            )
        table, memory = table.take(fits), memory[fits]
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
        deeper = np.flatnonzero((table.exit > plan.exit) & ~table.gated)
        reason = f"the deepest exit that meets {1000 * deadline_s:g} ms"
        best = int(deeper[np.argmin(latency[deeper])]) if len(deeper) else None
        if best is not None and latency[best] <= deadline_s:
            reason += (
                f" with a codec that costs it nothing; {table.plans[best]} would take "
                f"{1000 * latency[best]:.1f} ms and be right in {100 * table.accuracy[best]:.1f} %"
            )
        elif best is not None:
            reason += (
                f"; the next deeper would take {1000 * latency[best]:.1f} ms ({table.plans[best]})"
            )
        elif max_device_bytes is not None and plan.exit < deepest:
            reason += f"; no deeper one fits into {max_device_bytes / 2**20:.2f} MiB of the device"
    else:
        reason = f"no plan meets {1000 * deadline_s:g} ms (NULL in Algorithm 1): the fastest runs"
    if setting.table.gated.any():
        reason += "; plans that end on confidence are none of Algorithm 1's and were not considered"
    return Explanation(
        str(plan), plan.exit + 1, plan.start, plan.stop, plan.codec, float(latency[index]),
        parts, float(table.accuracy[index]), meets, int(memory[index]), reason,
    )  # fmt: skip
