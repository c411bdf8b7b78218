"""What happens when a plan starts at time t: the one place that owns this arithmetic.

Planners use it with an estimated constant bandwidth, the environments with the true trace, the
clairvoyant bound with the true trace and idle resources. It is written over named first-come
resources (device CPU, uplink, edge CPU, downlink) and vectorised over any number of lanes.
"""

from controller.physics.frames import FrameOutcome, Resources, Timing, run_frames
from controller.physics.links import ConstantLink, Link, LinkModel, TraceBank
from controller.physics.table import PlanTable

__all__ = [
    "ConstantLink",
    "FrameOutcome",
    "Link",
    "LinkModel",
    "PlanTable",
    "Resources",
    "Timing",
    "TraceBank",
    "run_frames",
]
