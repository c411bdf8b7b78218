"""What happens when a plan starts at time t: the one place that owns this arithmetic.

Planners use it with an estimated constant bandwidth, the environments with the true trace, the
clairvoyant bound with the true trace and idle resources. A plan's stages run on the named
first-come resources of a topology, vectorised over any number of lanes.
"""

from controller.physics.frames import RESCUE_MARGIN_S, FrameOutcome, Timing, run_frames
from controller.physics.links import ConstantLink, Link, LinkModel, TraceBank
from controller.physics.resources import Resources
from controller.physics.stages import PlanStages, plan_stages
from controller.physics.table import PlanTable
from controller.physics.topology import DEVICE_AND_EDGE, NodeLink, Topology

__all__ = [
    "DEVICE_AND_EDGE",
    "RESCUE_MARGIN_S",
    "ConstantLink",
    "FrameOutcome",
    "Link",
    "LinkModel",
    "NodeLink",
    "PlanStages",
    "PlanTable",
    "Resources",
    "Timing",
    "Topology",
    "TraceBank",
    "plan_stages",
    "run_frames",
]
