"""Where the network is split: the fastest place, and the best one under a bound.

Places are chosen by the samples of the policy half, so that those of the report half can judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from experiments.analyses.edgelesspart.ways import Plans, is_split, is_whole

CONSTRAINTS = ("none", "memory", "latency")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a split must obey.

    `memory_share`: of the memory that the function needs for the whole network (under `memory`).
    `time_share`: of the time that the device alone takes for it (under `latency`), on average over
    requests. `device_bytes`: of the device's memory, under every constraint.
    """

    memory_share: float = 0.5
    time_share: float = 0.65
    device_bytes: float = math.inf

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can keep."""
        for name in ("memory_share", "time_share", "device_bytes"):
            value = getattr(self, name)
            if not value > 0:
                raise UsageError(f"{name}: found {value:g}, expected a number above 0")


def fastest_whole(whole: Plans, bandwidth_bps: float, rtt_s: float) -> int:
    """Which plan sends the picture so that the answer comes soonest."""
    inside = np.array([is_whole(plan) for plan in whole.table.plans])
    return int(np.argmin(np.where(inside, whole.mean_s(bandwidth_bps, rtt_s), np.inf)))


def device_alone(plans: Plans) -> int:
    """Which plan computes everything on the device."""
    return int(np.flatnonzero(plans.table.local)[0])


def chosen_split(
    plans: Plans, whole: Plans, constraint: str, bounds: Bounds, bandwidth_bps: float, rtt_s: float
) -> int | None:
    """Which plan of `plans` is taken under a `constraint`; None where none obeys.

    `none`: the one whose mean request is shortest. `memory`: the same among those whose function
    needs at most a share of what it needs for the whole network. `latency`: the one of fewest
    byte-seconds in the function, among those whose mean request takes at most a share of what the
    device alone takes. `whole` has the plans without exits, which the shares of `bounds` are of.
    The link passes `bandwidth_bps` of payload and has a round trip of `rtt_s`.
    """
    if constraint not in CONSTRAINTS:
        raise UsageError(f"constraint: found '{constraint}', expected {', '.join(CONSTRAINTS)}")
    mean_s = plans.mean_s(bandwidth_bps, rtt_s)
    allowed = np.array([is_split(plan) for plan in plans.table.plans])
    allowed &= plans.device_bytes <= bounds.device_bytes
    worth = mean_s
    if constraint == "memory":
        all_of_it = whole.function_bytes[fastest_whole(whole, bandwidth_bps, rtt_s)]
        allowed &= plans.function_bytes <= bounds.memory_share * all_of_it
    elif constraint == "latency":
        alone_s = whole.mean_s(bandwidth_bps, rtt_s)[device_alone(whole)]
        allowed &= mean_s <= bounds.time_share * alone_s
        worth = plans.mean_byte_s()
    if not allowed.any():
        return None
    return int(np.argmin(np.where(allowed, worth, np.inf)))
