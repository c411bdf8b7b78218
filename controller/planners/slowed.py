"""What plans are worth on a device that computes more slowly than its profile says.

A throttled clock, or other programs, stretch everything that the device computes. What a plan earns
then follows from the physics with its seconds stretched: some answers come too late, and the device
keeps up with fewer frames. Values lie on a grid of paces, and between its points linearly.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from artefacts.arrays import Float32s, Floats, Ints
from controller.scenarios import Setting
from controller.scenarios.rewards import expected_rewards
from controller.sensing.belief import BandwidthBelief

PACES = (1.0, 1.5, 2.25, 3.375)
"""What jobs take over the profile; a device that is slower still counts as the last."""
USUAL_PACE = 1.05
"""Up to here a device is as its profile says: medians of a few jobs move by that much."""
BACKLOGS = 8


class PacedValues:
    """Expected rewards of every plan at device backlogs, paces and levels of the bandwidth."""

    def __init__(self, setting: Setting, belief: BandwidthBelief) -> None:
        self._deadline_s = setting.scenario.frames.deadline_s
        backlogs = np.linspace(0.0, self._deadline_s, BACKLOGS)
        self.values: Floats = np.stack(
            [
                [expected_rewards(setting, belief.rates_bps, float(b), pace) for b in backlogs]
                for pace in PACES
            ]
        )
        """Of every pace, backlog, level and plan."""
        self._usual: list[Floats] = list(self.values[0])

    def slots(self, device_backlog_s: Floats) -> Ints:
        """Which of the backlogs stands for each, (L,).

        Rounded up: a plan that only just fits an optimistic backlog would be late.
        """
        share = np.minimum(device_backlog_s / self._deadline_s, 1.0)
        return np.ceil(share * (BACKLOGS - 1) - 1e-9).astype(np.int64)

    def single_slot(self, device_backlog_s: float) -> int:
        """`slots` of one backlog."""
        return math.ceil(min(device_backlog_s / self._deadline_s, 1.0) * (BACKLOGS - 1) - 1e-9)

    def at(self, device_backlog_s: float, pace: float = 1.0) -> Floats:
        """Values (levels, P) behind a backlog in seconds at a pace."""
        slot = self.single_slot(device_backlog_s)
        if pace <= USUAL_PACE:
            return self._usual[slot]
        low, share = single_place(pace)
        near, far = self.values[low, slot], self.values[low + 1, slot]
        return np.asarray((1.0 - share) * near + share * far)

    def lost(self, believed: Float32s, device_backlog_s: Floats, pace: Floats) -> Float32s:
        """What plans lose by a slower device, (L, P), under beliefs (L, levels); at most 0 mostly.

        `device_backlog_s` is in seconds, `pace` what jobs take over the profile; both (L,).
        """
        found = np.zeros((len(pace), self.values.shape[-1]), dtype=np.float32)
        slow = np.flatnonzero(pace > USUAL_PACE)
        slot, (low, share) = self.slots(device_backlog_s[slow]), _place(pace[slow])
        for group in np.unique(slot * len(PACES) + low).tolist():
            s, k = divmod(group, len(PACES))
            at = np.flatnonzero((slot == s) & (low == k))
            usual, near, far = (self.values[q, s] for q in (0, k, k + 1))
            weight = share[at, None]
            mixed = (1.0 - weight) * (believed[slow[at]] @ (near - usual))
            found[slow[at]] = mixed + weight * (believed[slow[at]] @ (far - usual))
        return found


def paced_values(setting: Setting, belief: BandwidthBelief) -> PacedValues:
    """Those of a setting under a belief, worked out once for all its controllers."""
    return setting.once("paced values", lambda: PacedValues(setting, belief), belief)


def _place(pace: Floats) -> tuple[Ints, Floats]:
    """The grid's point before each pace, and the weight of the one behind it."""
    inside = np.clip(pace, PACES[0], PACES[-1])
    low = np.clip(np.searchsorted(PACES, inside) - 1, 0, len(PACES) - 2)
    grid = np.array(PACES)
    return low, (inside - grid[low]) / (grid[low + 1] - grid[low])


def single_place(pace: float) -> tuple[int, float]:
    """`_place` of one pace."""
    inside = min(max(pace, PACES[0]), PACES[-1])
    low = min(max(bisect_left(PACES, inside) - 1, 0), len(PACES) - 2)
    return low, (inside - PACES[low]) / (PACES[low + 1] - PACES[low])
