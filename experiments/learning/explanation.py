"""One decision, explained: what Algorithm 1 chooses at a bandwidth and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.physics import PlanTable
from controller.planners.deadline_rule import choose_plan, occupied_s
from controller.plans import Plan, passed_exits
from controller.scenarios import Setting
from models.graphs.coding import networks_of


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
    """Memory that a plan takes of the device: parameters, greatest activations, and the picture.

    In a frame stream what answers locally while the edge is awaited (the exit passed on the way, a
    rescue) counts.
    """
    spec, anytime = setting.spec, not setting.closed_loop
    length = len(spec.branches[plan.exit])
    picture = math.prod(spec.input_shape)
    if plan.is_local:
        return picture + setting.device.device_bytes((plan.exit, 0, length))
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
    learned = networks_of(spec, plan.codec, plan.start)
    if learned is not None:
        # an encoder runs once the layers before it are done, and before those behind
        held = learned.encoder.parameter_bytes(())
        needed = held + max(needed, learned.encoder.peak_bytes(()))
    return picture + needed


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a plan had to keep to."""

    deadline_s: float
    interval_s: float
    bandwidth_bps: float
    rtt_s: float
    device_bytes: float | None

    def why_not(
        self, table: PlanTable, rows: npt.NDArray[np.int64], needed: npt.NDArray[np.int64]
    ) -> str:
        """Of the given plans the one that came nearest, and what it does not keep to."""
        latency = table.latency_s(self.bandwidth_bps, self.rtt_s)
        busy = occupied_s(table, self.bandwidth_bps)
        too_large = needed > (np.inf if self.device_bytes is None else self.device_bytes)
        broken = [latency > self.deadline_s, busy > self.interval_s, too_large]
        # fewest broken, then the fastest
        order = sorted(rows, key=lambda k: (sum(bool(b[k]) for b in broken), latency[k]))
        best = int(order[0])
        said = []
        if broken[0][best]:
            said.append(f"would take {1000 * latency[best]:.1f} ms")
        if broken[1][best]:
            said.append(f"would keep device or uplink busy for {1000 * busy[best]:.1f} ms a frame")
        if broken[2][best]:
            said.append(f"needs {needed[best] / 2**20:.2f} MiB of the device")
        if not said:
            said.append(
                f"has a codec that costs it accuracy (right in {100 * table.accuracy[best]:.1f} %)"
            )
        return f"{table.plans[best]} {' and '.join(said)}"


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
    bytes_of = [plan_device_bytes(setting, p) for p in table.plans]
    whole, needed = table, np.array(bytes_of) + table.up_bytes.astype(np.int64)
    memory = needed
    if max_device_bytes is not None:
        fits = np.flatnonzero(needed <= max_device_bytes)
        if not len(fits):
            least = int(np.argmin(needed))
            raise UsageError(
                f"device memory: found {max_device_bytes / 2**20:.2f} MiB, expected "
                f"{needed[least] / 2**20:.2f} MiB or more (the least any plan takes: "
                f"{table.plans[least]})"
            )
        table, memory = table.take(fits), needed[fits]
    rtt_s = setting.scenario.link.rtt_s
    index, meets = choose_plan(table, bandwidth_bps, deadline_s, rtt_s, setting.interval_s)
    plan, latency = table.plans[index], table.latency_s(bandwidth_bps, rtt_s)
    if not np.isfinite(latency[index]):
        raise UsageError(
            f"bandwidth: found {bandwidth_bps / 1e6:g} Mbit/s, expected more than 0: every plan "
            "that is left uses the link"
        )
    moved = 0.0 if table.local[index] else 8.0 / max(bandwidth_bps, 1e-9)
    parts = {
        "device": float(table.prefix_s[index] + table.suffix_s[index]),
        "uplink": float(table.up_bytes[index] * moved),
        "edge": float(table.edge_s[index]),
        "downlink": float(table.down_bytes[index] * moved),
        "round trip": 0.0 if table.local[index] else rtt_s,
    }
    deadline = f"{1000 * deadline_s:g} ms"
    if meets:
        reason = f"the deepest exit that meets {deadline}"
        if setting.interval_s < np.inf:
            reason += f" and keeps up with a frame every {1000 * setting.interval_s:.1f} ms"
        deeper = np.flatnonzero((whole.exit > plan.exit) & ~whole.gated)
        if len(deeper):
            limits = _Limits(deadline_s, setting.interval_s, bandwidth_bps, rtt_s, max_device_bytes)
            reason += f"; deeper, {limits.why_not(whole, deeper, needed)}"
    else:
        reason = (
            f"no plan meets {deadline} and keeps up with the frames (NULL in Algorithm 1): the "
            "fastest runs"
        )
    if setting.table.gated.any():
        reason += "; plans that end on confidence are none of Algorithm 1's and were not considered"
    return Explanation(
        str(plan), plan.exit + 1, plan.start, plan.stop, plan.codec, float(latency[index]),
        parts, float(table.accuracy[index]), meets, int(memory[index]), reason,
    )  # fmt: skip
