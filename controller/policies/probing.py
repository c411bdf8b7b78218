"""When a policy must hear of the link: the plan that asks it takes the place of one that does not.

A policy decides without drawing, so one that stays on the device would never learn that the link is
back. The rule is part of the controller and of the environment that it is trained in: the same
lanes' arithmetic serves both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Bools, Floats, Ints
from controller.physics import PlanTable

BLIND_S = 0.5
"""Seconds without a measurement after which a plan that measures nothing gives way to the probe,
where no policy learnt another time."""


def probe_plan(table: PlanTable) -> int | None:
    """The plan that asks the link where nobody scores them: of those that send every frame and
    leave the device free (all that send, where none does), with a rescue where there are such, the
    one of fewest bytes. None where nothing sends.
    """
    senders = table.senders
    if not len(senders):
        return None
    free = np.array([table.plans[k].hops[0].start == 0 for k in senders])
    among = senders[free] if free.any() else senders
    kept = np.isfinite(table.rescue_s[among])
    among = among[kept] if kept.any() else among
    return int(among[np.argmin(table.up_bytes[among])])


class Prober:
    """Keeps for L lanes when the link was heard of last, and asks it where that is too long ago."""

    def __init__(self, table: PlanTable, lanes: int, blind_s: float = BLIND_S) -> None:
        self._quiet, self._senders, self._probe = table.quiet, table.senders, probe_plan(table)
        self._blind_s = blind_s
        self._heard_s = np.full(lanes, -np.inf)

    def reset(self, lanes: Bools) -> None:
        """Nothing was heard in the masked lanes."""
        self._heard_s[lanes] = -np.inf

    def measured(self, lanes: Bools, known_s: Floats) -> None:
        """A measurement became known in the masked lanes (arrays of length L)."""
        self._heard_s[lanes] = np.maximum(self._heard_s[lanes], known_s[lanes])

    def applied(
        self,
        plan: Ints,
        now_s: Floats,
        scores: npt.NDArray[np.floating[Any]] | None = None,
        lanes: Bools | None = None,
    ) -> Ints:
        """The plans (L,) as they are carried out at the times of the masked lanes (all).

        With `scores` (L, P) of the plans the best of those that send asks, else `probe_plan`.

        `plan` (L,) are indices of the table, `now_s` (L,) the seconds at which they are decided,
        `lanes` (L,) which are masked in.
        """
        if self._probe is None:
            return plan
        asks = self._quiet[plan] & (now_s - self._heard_s >= self._blind_s)
        if lanes is not None:
            asks &= lanes
        if not asks.any():
            return plan
        self._heard_s[asks] = now_s[asks]
        probe = self._probe
        if scores is not None:
            probe = self._senders[np.argmax(scores[:, self._senders], axis=1)]
        return np.where(asks, probe, plan)
