"""One decision, explained: what Algorithm 1 chooses at a bandwidth and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.physics import PlanTable, plan_stages
from controller.physics.costs import device_bytes
from controller.physics.table import CODEC_LOSS
from controller.planners.deadline_rule import choose_plan, occupied_s
from controller.plans import Hop, Plan, prefix_stop, suffix_start
from controller.scenarios import Setting

CLEARLY = 0.005
"""So much more often right is worth a word."""


class KeptOut(msgspec.Struct, frozen=True):
    """A plan that is right more often and in time, and why it was not taken."""

    plan: str
    accuracy: float
    latency_s: float
    why: str


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
    kept_out: KeptOut | None = None
    """The most accurate plan within the deadline, where that is another one."""


def plan_device_bytes(setting: Setting, plan: Plan) -> int:
    """Memory that a plan takes of the device: parameters, greatest activations, and the picture.

    In a frame stream what answers locally while the edge is awaited (the exit passed on the way, a
    rescue) counts.
    """
    anytime = not setting.closed_loop
    stages = plan_stages(setting.spec, plan, setting.topology, anytime=anytime)
    return device_bytes(setting.spec, setting.device, stages, anytime=anytime)


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

    def kept_out(
        self, table: PlanTable, needed: npt.NDArray[np.int64], exit_: int, accuracy: float
    ) -> KeptOut | None:
        """The plan that is right most often of those in time, if clearly above `accuracy`.

        `exit_` and `accuracy` are the plan's that was taken.
        Plans that the device and the link could keep up with come first.
        """
        latency = table.latency_s(self.bandwidth_bps, self.rtt_s)
        busy = occupied_s(table, self.bandwidth_bps)
        better = (latency <= self.deadline_s) & ~table.gated & (table.accuracy > accuracy + CLEARLY)
        too_large = needed > (np.inf if self.device_bytes is None else self.device_bytes)
        lasting = better & (busy <= self.interval_s) & ~too_large
        if not better.any():
            return None
        allowed = lasting if lasting.any() else better
        best = int(np.argmax(np.where(allowed, table.accuracy, -1.0)))
        said = []
        if busy[best] > self.interval_s:
            said.append(
                f"it would keep device or uplink busy for {1000 * busy[best]:.1f} ms, and a frame "
                f"comes every {1000 * self.interval_s:.1f} ms ([frames] rate_fps)"
            )
        if too_large[best]:
            said.append(f"it needs {needed[best] / 2**20:.2f} MiB of the device")
        if not table.faithful[best]:
            mine = int(table.exit[best])
            lost = 100 * (table.exit_accuracy[mine] - table.accuracy[best])
            said.append(
                f"its codec costs exit {mine + 1} {lost:.1f} points, and Algorithm 1 takes one "
                f"that costs at most {100 * CODEC_LOSS:g}"
            )
        if not said and table.exit[best] == exit_:
            said.append("of an exit's plans Algorithm 1 takes the fastest")
        elif not said:
            said.append("Algorithm 1 takes the deepest exit, which is less accurate here")
        if lasting[best]:
            said.append("planners that weigh accuracy take such a plan ('coinfer compare')")
        return KeptOut(
            str(table.plans[best]), float(table.accuracy[best]), float(latency[best]),
            "; ".join(said),
        )  # fmt: skip


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

    `setting` has the plans. The link carries `bandwidth_bps` in bit/s; a plan may take
    `max_latency_s` seconds (None: the scenario's deadline).
    """
    deadline_s = setting.scenario.frames.deadline_s if max_latency_s is None else max_latency_s
    if not deadline_s > 0:
        raise UsageError(f"latency: found {1e3 * deadline_s:g} ms, expected more than 0")
    whole = _ordered(setting, order)
    sizes = [plan_device_bytes(setting, p) for p in whole.plans]
    needed = np.array(sizes) + whole.up_bytes.astype(np.int64)
    table, memory = whole, needed
    if max_device_bytes is not None:
        fits = _fitting(whole, needed, max_device_bytes)
        table, memory = whole.take(fits), needed[fits]
    rtt_s = setting.scenario.link.rtt_s
    index, meets = choose_plan(table, bandwidth_bps, deadline_s, rtt_s, setting.interval_s)
    plan, latency = table.plans[index], table.latency_s(bandwidth_bps, rtt_s)
    if not np.isfinite(latency[index]):
        raise UsageError(
            f"bandwidth: found {bandwidth_bps / 1e6:g} Mbit/s, expected more than 0: every plan "
            "that is left uses the link"
        )
    limits = _Limits(deadline_s, setting.interval_s, bandwidth_bps, rtt_s, max_device_bytes)
    reason = _reason(limits, whole, needed, plan) if meets else (
        f"no plan meets {_ms(deadline_s)} and keeps up with the frames (NULL in Algorithm 1): the "
        "fastest runs"
    )  # fmt: skip
    if setting.table.gated.any():
        reason += "; plans that end on confidence are none of Algorithm 1's and were not considered"
    first = plan.hops[0] if plan.hops else Hop("", *2 * (prefix_stop(setting.spec, plan),))
    return Explanation(
        str(plan), plan.exit + 1, first.start, suffix_start(setting.spec, plan), first.codec,
        float(latency[index]), _parts_s(table, index, bandwidth_bps, rtt_s),
        float(table.accuracy[index]), meets, int(memory[index]), reason,
        limits.kept_out(whole, needed, plan.exit, float(table.accuracy[index])),
    )  # fmt: skip


def _ordered(setting: Setting, order: str) -> PlanTable:
    """The scenario's plans that an order allows."""
    spec, table = setting.spec, setting.candidates
    allowed: dict[str, Callable[[Plan], bool]] = {
        "any": lambda p: True,
        "edge-first": lambda p: p.is_local or prefix_stop(spec, p) == 0,
        "device-first": lambda p: suffix_start(spec, p) == len(spec.branches[p.exit]),
    }
    if order not in allowed:
        raise UsageError(f"order: found '{order}', expected any, edge-first or device-first")
    return table.take([k for k, p in enumerate(table.plans) if allowed[order](p)])


def _fitting(
    table: PlanTable, needed: npt.NDArray[np.int64], max_device_bytes: float
) -> npt.NDArray[np.int64]:
    """The plans that fit into so much memory of the device; refuses too little for any."""
    fits = np.flatnonzero(needed <= max_device_bytes)
    if not len(fits):
        least = int(np.argmin(needed))
        raise UsageError(
            f"device memory: found {max_device_bytes / 2**20:.2f} MiB, expected "
            f"{needed[least] / 2**20:.2f} MiB or more (the least any plan takes: "
            f"{table.plans[least]})"
        )
    return fits


def _reason(limits: _Limits, table: PlanTable, needed: npt.NDArray[np.int64], plan: Plan) -> str:
    """Why a plan that keeps to the limits was chosen, and no deeper one."""
    said = f"the deepest exit that meets {_ms(limits.deadline_s)}"
    if limits.interval_s < np.inf:
        said += f" and keeps up with a frame every {1000 * limits.interval_s:.1f} ms"
    deeper = np.flatnonzero((table.exit > plan.exit) & ~table.gated)
    if len(deeper):
        said += f"; deeper, {limits.why_not(table, deeper, needed)}"
    return said


def _parts_s(table: PlanTable, index: int, bandwidth_bps: float, rtt_s: float) -> dict[str, float]:
    """Where a plan's seconds go: by node, by link and direction, and in round trips."""
    topology, crosses = table.topology, not table.local[index]
    parts: dict[str, float] = dict.fromkeys(topology.nodes[:1], 0.0)
    trips = 0.0
    for slot, cost in zip(topology.slots, table.costs[index].tolist(), strict=True):
        if slot.kind == "compute":
            node = topology.nodes[slot.index]
            parts[node] = parts.get(node, 0.0) + cost
            continue
        link = topology.links[slot.index]
        own = slot.index == 0
        rate_bps = bandwidth_bps if own or link.rate_bps is None else link.rate_bps
        name = f"{slot.kind}link" + ("" if own else f" {link.far}")
        parts[name] = cost * (8.0 / max(rate_bps, 1e-9)) if cost > 0 else 0.0
        trips += (rtt_s if own else link.model.rtt_s) / 2 if cost > 0 else 0.0
    return parts | {"round trip": trips if crosses else 0.0}


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:g} ms"
