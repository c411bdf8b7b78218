"""A model-based planner: the plan of greatest expected reward under a belief about the bandwidth.

The belief comes from the training traces: how the level of the rate, measured some seconds ago, has
moved since. The longer nothing was measured, the closer it is to the long-run distribution, so a
planner that went local returns to the link by itself when that pays in expectation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from controller.interface import FrameResult, Measurement, Situation
from controller.physics import PlanTable
from controller.rewards import expected_rewards
from controller.scenario import Setting
from traces.trace import BandwidthTrace

Floats = npt.NDArray[np.float64]

LEVELS = 24
LAGS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
FORGOTTEN_S = 128.0
"""Age at which a measurement says nothing more: the belief is the long-run distribution."""
PROBE_HORIZON_S = 2.0
"""Seconds for which what a probe finds is worth knowing (half the levels' memory at 4 s)."""
PROBE_SPACING_S = 0.5
GRID_S = 0.5


class BandwidthBelief:
    """P(level now | level measured `age` ago), by counting over training traces.

    Levels are quantiles of the rates; `rates_bps` (LEVELS,) their medians.
    """

    def __init__(self, traces: Sequence[BandwidthTrace]) -> None:
        grids = [self._grid(t) for t in traces]
        pooled = np.concatenate(grids)
        self._edges = np.quantile(pooled, np.linspace(0, 1, LEVELS + 1)[1:-1])
        levels = [np.searchsorted(self._edges, g, side="right") for g in grids]
        flat = np.concatenate(levels)
        overall = np.median(pooled)
        self.rates_bps: Floats = np.array(
            [np.median(pooled[flat == k]) if (flat == k).any() else overall for k in range(LEVELS)]
        )
        # a fifth of a count everywhere: no bandwidth is ever held impossible
        self.kernels: Floats = np.stack([self._kernel(levels, lag) for lag in LAGS_S])

    @staticmethod
    def _grid(trace: BandwidthTrace) -> Floats:
        count = max(int(trace.duration_s / GRID_S), 1)
        return np.asarray(trace.resample(GRID_S).rates_bps[:count])

    @staticmethod
    def _kernel(levels: Sequence[npt.NDArray[np.int64]], lag_s: float) -> Floats:
        # a measurement averages over the past moments: lag 0 looks one grid step ahead
        steps = max(round(lag_s / GRID_S), 1)
        counts = np.full((LEVELS, LEVELS), 0.2 / LEVELS)
        for level in levels:
            if len(level) > steps:
                np.add.at(counts, (level[:-steps], level[steps:]), 1.0)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def of(self, rate_bps: float, age_s: float) -> Floats:
        """Probabilities of the levels now, given a rate measured `age_s` ago."""
        level = int(np.searchsorted(self._edges, rate_bps, side="right"))
        if age_s > LAGS_S[-1]:
            gone = min((age_s - LAGS_S[-1]) / (FORGOTTEN_S - LAGS_S[-1]), 1.0)
            return np.asarray((1 - gone) * self.kernels[-1, level] + gone * self.blind)
        position = float(np.interp(age_s, LAGS_S, np.arange(len(LAGS_S))))
        low = int(position)
        high = min(low + 1, len(LAGS_S) - 1)
        share = position - low
        return np.asarray(
            (1 - share) * self.kernels[low, level] + share * self.kernels[high, level]
        )

    @property
    def blind(self) -> Floats:
        """Probabilities of the levels with nothing measured."""
        return np.full(LEVELS, 1.0 / LEVELS)


class RobustPlanner:
    """Maximises the expected reward under the belief, with the device's backlog accounted for.

    Where the best plan sends nothing (or, with gates, hardly anything) it weighs a probe: an
    offload's expected loss on this frame against what knowing the level would gain on the frames of
    the next two seconds.
    """

    BACKLOGS = 8

    def __init__(self, setting: Setting, belief: BandwidthBelief, name: str = "robust") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._belief = belief
        self._table: PlanTable = setting.table
        self._deadline_s = setting.scenario.frames.deadline_s
        self._interval_s = setting.interval_s
        # a gated plan sends only what no gate stopped: it is no probe
        self._remote = setting.table.senders
        backlogs = np.linspace(0.0, self._deadline_s, self.BACKLOGS)
        self._values = np.stack(
            [expected_rewards(setting, belief.rates_bps, float(b)) for b in backlogs]
        )
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._rate_bps: float | None = None
        self._seen_s = self._probed_s = -np.inf

    def observe(self, measurement: Measurement) -> None:
        """The newest measurement carries the belief."""
        self._rate_bps, self._seen_s = measurement.rate_bps, measurement.known_s

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def _levels(self, situation: Situation) -> tuple[Floats, Floats]:
        """The belief over the levels, and every plan's value at each (LEVELS, P)."""
        if self._rate_bps is None:
            probability = self._belief.blind
        else:
            probability = self._belief.of(self._rate_bps, situation.now_s - self._seen_s)
        share = min(situation.device_backlog_s / self._deadline_s, 1.0)
        # rounded up: a plan that only just fits an optimistic backlog would be late
        slot = int(np.ceil(share * (self.BACKLOGS - 1) - 1e-9))
        return probability, self._values[slot]

    def expected(self, situation: Situation) -> Floats:
        """Expected reward of every plan (P,) in this situation."""
        probability, values = self._levels(situation)
        return np.asarray(probability @ values)

    def decide(self, situation: Situation) -> int:
        """The plan of greatest expected reward, or a probe where knowing is worth more."""
        probability, values = self._levels(situation)
        expected = probability @ values
        best = int(np.argmax(expected))
        blind_s = situation.now_s - max(self._seen_s, self._probed_s)
        sees = self._table.send_share[best] * PROBE_HORIZON_S >= self._frame_s(best)
        if sees or blind_s < PROBE_SPACING_S or not len(self._remote):
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
        return (
            max(float(self._table.mean_head_s[plan]), 1e-3)
            if np.isinf(self._interval_s)
            else (self._interval_s)
        )
