"""A model-based planner: the plan of greatest expected reward under a belief about the bandwidth.

The belief comes from the training traces: how the level of the rate, measured some seconds ago, has
moved since. The longer nothing was measured, the closer it is to the long-run distribution, so a
planner that went local returns to the link by itself when that pays in expectation.
"""

from __future__ import annotations

import math

import numpy as np

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.planners.slowed import PacedValues, paced_values
from controller.scenarios import Setting, at_pace
from controller.sensing.belief import BandwidthBelief
from controller.sensing.pace import relative_pace

PROBE_HORIZON_S = 2.0
"""Seconds for which what a probe finds is worth knowing (half the levels' memory at 4 s)."""
PROBE_SPACING_S = 0.5


class RobustPlanner:
    """Maximises the expected reward under the belief, with the device's backlog accounted for.

    Where the best plan sends nothing (or, with gates, hardly anything) it weighs a probe: an
    offload's expected loss on this frame against what knowing the level would gain on the frames of
    the next two seconds.
    """

    def __init__(
        self,
        setting: Setting,
        belief: BandwidthBelief,
        name: str = "robust",
        values: PacedValues | None = None,
        pace: float = 1.0,
    ) -> None:
        """`pace` is what the device takes over its profile all the time.

        `values` are those of the setting under the belief, where somebody has them already.
        """
        setting = at_pace(setting, pace)
        self._pace = pace
        self.name = name
        self.initial_probe_bytes = 0
        self._belief, self._blind = belief, belief.blind
        self._interval_s = setting.interval_s
        # a gated plan sends only what no gate stopped: it is no probe
        self._remote = setting.table.senders
        self._prefix_s: list[float] = setting.table.mean_prefix_s.tolist()
        send_share: list[float] = setting.table.send_share.tolist()
        self._sees = [
            share * PROBE_HORIZON_S >= self._frame_s(plan) for plan, share in enumerate(send_share)
        ]
        self._values = paced_values(setting, belief) if values is None else values
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._level: int | None = None
        self._seen_s = self._probed_s = -math.inf

    def observe(self, measurement: Measurement) -> None:
        """The newest measurement carries the belief.

        Its payload's rate: with the headers, of which expectations know, the planner would believe
        in more than it does well with (`python -m experiments.analyses.baseline_constants`).
        """
        self._level = self._belief.single_level(measurement.rate_bps)
        self._seen_s = measurement.known_s

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def _levels(self, situation: Situation) -> tuple[Floats, Floats]:
        """The belief over the levels, and every plan's value at each (LEVELS, P)."""
        probability = self._blind
        if self._level is not None:
            probability = self._belief.single_of(self._level, situation.now_s - self._seen_s)
        pace = situation.device_pace
        if self._pace != 1.0:
            pace = float(relative_pace(pace, self._pace))
        values = self._values.at(situation.device_backlog_s, pace)
        return probability, values

    def expected(self, situation: Situation) -> Floats:
        """Expected reward of every plan (P,) in this situation."""
        probability, values = self._levels(situation)
        return np.asarray(probability.dot(values))

    def decide(self, situation: Situation) -> int:
        """The plan of greatest expected reward, or a probe where knowing is worth more."""
        probability, values = self._levels(situation)
        expected = probability.dot(values)
        best = int(expected.argmax())
        if self._sees[best] or not len(self._remote):
            return best
        if situation.now_s - max(self._seen_s, self._probed_s) < PROBE_SPACING_S:
            return best
        probe = int(self._remote[np.argmax(expected[self._remote])])
        gain = float(
            probability @ np.maximum(values[:, self._remote].max(axis=1) - values[:, best], 0.0)
        )
        frames = PROBE_HORIZON_S / self._frame_s(best)
        if gain * frames <= expected[best] - expected[probe]:
            return best
        self._probed_s = situation.now_s
        return probe

    def _frame_s(self, plan: int) -> float:
        """Seconds from one frame to the next under a plan that stays local."""
        return max(self._prefix_s[plan], 1e-3) if math.isinf(self._interval_s) else self._interval_s
