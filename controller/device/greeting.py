"""What a device tells its edge as they greet, and expects of it: from the plans' stages."""

from __future__ import annotations

from artefacts import UsageError
from controller.physics import PlanTable, plan_stages
from controller.physics.costs import reply_tensor_bytes
from controller.physics.stages import Layers, Reply, on_node
from controller.wire.inbox import MAX_TENSOR_BYTES
from models.facts.answers import CLASSES, Answers


def most_reply_bytes(table: PlanTable, answers: Answers = CLASSES) -> int:
    """Of the longest tensor that an edge gives back by any plan (0: all of them end there).

    A class needs none; `answers` of another kind come back as an exit's row. Raises `UsageError`
    where that is more than crosses a link.
    """
    row_bytes = 0 if answers.one_class else 4 * table.spec.classes
    if row_bytes > MAX_TENSOR_BYTES:
        raise UsageError(
            f"network '{table.spec.name}': found answers of {row_bytes:,} bytes, expected at most "
            f"{MAX_TENSOR_BYTES:,}, as much as crosses a link"
        )
    downlink = table.topology.links[0].downlink
    replies = {
        work
        for plan in table.plans
        for stage in plan_stages(table.spec, plan, table.topology).on(downlink)
        for work in stage.work
        if isinstance(work, Reply)
    }
    ends = [reply_tensor_bytes(table.spec, reply) or row_bytes for reply in replies]
    return max(ends, default=0)


def asked_intervals(table: PlanTable) -> list[tuple[int, int, int]]:
    """(exit, start, stop) of all that the first node beyond the device may be asked to compute.

    It is said in the greeting, so that the node makes them ready. Raises `UsageError` for plans
    of a node that does not stand behind that one: a device has one link.
    """
    node = table.topology.links[0].far
    for plan in table.plans:
        for hop in plan.hops:
            if hop.node != node and not table.topology.way(node, hop.node):
                raise UsageError(
                    f"topology: found the plan '{plan}', expected nodes behind '{node}': a device "
                    "has one link of its own"
                )
    work = on_node(table.spec, table.plans, node, table.topology)
    return sorted((w.branch, w.start, w.stop) for w in work if isinstance(w, Layers))
