"""From measurements to the bandwidth state in force; another state only at a change point.

(Li et al., IEEE TWC 2020, section V-C, algorithm 3.) Owns the metric between a segment's figures
and the states, and the rule for when a state may change. Knows no plan: the configuration map
looks its plan up by `state_index`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing.interface import FLOOR_BPS, ChangeDetector, DetectorStep
from traces.states import BandwidthState

DEVIATION_WEIGHT = 0.25
"""Weight of the coefficients of variation against the logarithms of the means: latency goes by the
mean; the deviation tells apart states of like mean, and is itself far less well measured."""

FIRST_LOOK = 1
"""Measurements of a segment at which its state is first looked up; then at every doubling."""


class StateTracker:
    """The bandwidth state of a stream: gets measurements, says when it becomes another.

    The first measurement sets the state. After that it can become another only with a change
    point of the detector, and while that change point's segment is young: one or two measurements
    place a segment badly, so its state is looked up again when it has 2, 4, 8, ... measurements. A
    drift without a change point between doublings moves nothing.

    Blind (no measurement, because everything runs on the device): the state stays the last one
    known, and `age_s` says how old that is. The detector's hazard grows with the gap, so the first
    measurement after a long blindness is all but free to begin a segment of its own.
    """

    def __init__(self, states: Sequence[BandwidthState], detector: ChangeDetector) -> None:
        if not states:
            raise UsageError("state tracker: found no bandwidth states, expected at least one")
        for number, state in enumerate(states):
            if not (state.mean_bps > 0 and state.std_bps >= 0 and math.isfinite(state.std_bps)):
                raise UsageError(
                    f"state tracker, state {number}: found mean {state.mean_bps} and deviation "
                    f"{state.std_bps} bit/s, expected above 0 and at least 0"
                )
        means = np.array([s.mean_bps for s in states], dtype=np.float64)
        self._log_means = np.log(np.maximum(means, FLOOR_BPS))
        self._variations = np.array([s.std_bps for s in states], dtype=np.float64) / means
        self._detector = detector
        self.reset()

    def reset(self) -> None:
        """Nothing measured; state 0 stands in until the first measurement."""
        self._detector.reset()
        self._step: DetectorStep | None = None
        self._state = 0
        self._look_at = FIRST_LOOK
        self._seen_s = -math.inf
        self.changes = 0

    def observe(self, measurement: Measurement) -> bool:
        """Update the detector; whether the state is now another (or known at last)."""
        first = self._step is None
        step = self._detector.update(measurement.rate_bps, measurement.known_s)
        self._step = step
        self._seen_s = max(self._seen_s, measurement.known_s)
        if step.change or first:
            self._look_at = FIRST_LOOK
            self.changes += step.change
        if step.samples < self._look_at:
            return False
        self._look_at = 2 * step.samples
        state = self.nearest(step.mean_bps, step.std_bps)
        moved = first or state != self._state
        self._state = state
        return moved

    def nearest(self, mean_bps: float, std_bps: float) -> int:
        """Index of the state nearest to a segment's figures; of equals, the first.

        Squared distance: (difference of log means)^2 + `DEVIATION_WEIGHT` x (difference of
        coefficients of variation)^2. Both terms are free of units and scale.
        """
        off = self._log_means - math.log(max(mean_bps, FLOOR_BPS))
        spread = self._variations - std_bps / max(mean_bps, FLOOR_BPS)
        return int(np.argmin(off * off + DEVIATION_WEIGHT * spread * spread))

    @property
    def state_index(self) -> int:
        """Index of the state in force (0 before any measurement)."""
        return self._state

    @property
    def mean_bps(self) -> float | None:
        """Mean bandwidth of the segment in force; None before any measurement."""
        return None if self._step is None else self._step.mean_bps

    @property
    def std_bps(self) -> float | None:
        """Deviation of the bandwidth in the segment in force; None before any measurement."""
        return None if self._step is None else self._step.std_bps

    def age_s(self, now_s: float) -> float:
        """Seconds since the last measurement (inf before any)."""
        return max(now_s - self._seen_s, 0.0)
