"""Buffer-free rate rules: believe a share of the rate estimated last, take the best plan at it.

What a rate-based player does (Jiang et al., FESTIVE, CoNEXT 2012): the harmonic mean of the last
transfers times a safety margin, and no model of how the link moves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.scenarios import Setting
from controller.scenarios.rewards import expected_rewards
from controller.sensing.estimators import BandwidthEstimator, HarmonicMean

MARGINS = (0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5)
"""Shares of the estimate that are tried on the training traces; the best of them is taken."""
TRANSFERS, PATIENCE_S = 1, 1.0
"""Transfers that are averaged, and seconds without a word before it asks: best on the training
traces of both families (`python -m experiments.analyses.baseline_constants`). One transfer is as
new as can be, and on links seen only when used that is worth more than a mean."""
RATES = 96
BACKLOGS = 8


class RateRule:
    """The best plan at a share of the harmonic mean; a probe after `patience_s` without a word."""

    def __init__(
        self,
        setting: Setting,
        margin: float,
        *,
        estimator: BandwidthEstimator | None = None,
        patience_s: float = PATIENCE_S,
        name: str = "rate-rule",
    ) -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._margin, self._patience_s = margin, patience_s
        self._estimator = HarmonicMean(TRANSFERS) if estimator is None else estimator
        self._deadline_s = setting.scenario.frames.deadline_s
        self._quiet = setting.table.quiet
        senders = setting.table.senders
        cheapest = np.argmin(setting.table.up_bytes[senders]) if len(senders) else None
        self._probe = None if cheapest is None else int(senders[cheapest])
        self._rates_bps = np.geomspace(1e4, 1e8, RATES)
        # a rule a trace and a margin: whoever tries them makes hundreds
        self._best = setting.once("rate rule", lambda: _best_plans(setting, self._rates_bps))
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._estimator.reset()
        self._asked_s = -np.inf

    def observe(self, measurement: Measurement) -> None:
        """One transfer more."""
        self._estimator.observe(measurement)
        self._asked_s = max(self._asked_s, measurement.known_s)

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The best plan at the rate believed in, at the device's backlog (rounded up)."""
        now = situation.now_s
        found = self._estimator.estimate(now)
        rate = self._rates_bps[0] if found is None else self._margin * found.rate_bps
        place = int(np.searchsorted(self._rates_bps, rate, side="right")) - 1
        share = min(situation.device_backlog_s / self._deadline_s, 1.0)
        slot = int(np.ceil(share * (BACKLOGS - 1) - 1e-9))
        plan = int(self._best[slot, max(place, 0)])
        if self._quiet[plan] and now - self._asked_s > self._patience_s and self._probe is not None:
            self._asked_s = now
            return self._probe
        return plan


def _best_plans(setting: Setting, rates_bps: Floats) -> npt.NDArray[np.int64]:
    """(BACKLOGS, RATES): the plan of greatest expected reward at each."""
    deadline_s = setting.scenario.frames.deadline_s
    backlogs = [0.0] * BACKLOGS if setting.closed_loop else np.linspace(0, deadline_s, BACKLOGS)
    return np.stack(
        [expected_rewards(setting, rates_bps, float(b)).argmax(axis=1) for b in backlogs]
    )
