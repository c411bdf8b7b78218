"""What a device tells its edge as they greet, and expects of it: from the plans' stages."""

from __future__ import annotations

from controller.physics import PlanTable, plan_stages
from controller.physics.costs import reply_tensor_bytes
from controller.physics.stages import Layers, Reply, on_node


def most_reply_bytes(table: PlanTable) -> int:
    """Of the longest tensor that an edge gives back by any plan (0: all of them end there)."""
    downlink = table.topology.links[0].downlink
    replies = {
        work
        for plan in table.plans
        for stage in plan_stages(table.spec, plan, table.topology).on(downlink)
        for work in stage.work
        if isinstance(work, Reply)
    }
    return max((reply_tensor_bytes(table.spec, reply) for reply in replies), default=0)


def asked_intervals(table: PlanTable) -> list[tuple[int, int, int]]:
    """(exit, start, stop) of all that the first node beyond the device may be asked to compute.

    It is said in the greeting, so that the node makes them ready.
    """
    node = table.topology.links[0].far
    work = on_node(table.spec, table.plans, node, table.topology)
    return sorted((w.branch, w.start, w.stop) for w in work if isinstance(w, Layers))
