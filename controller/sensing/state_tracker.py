"""From measurements to the present bandwidth state: it changes only at a change point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing.interface import ChangeDetector
from traces.states import BandwidthState


class StateTracker:
    """Follows a detector; at its change points takes the state nearest to the new segment.

    Near is by the log of the mean, and by the deviation relative to the mean at a quarter of the
    weight: the mean decides where plans cross. The first measurement sets the first state. Because
    a segment's mean is poorly known when it has just begun, the state is looked up again at the
    2nd, 4th and 8th measurement after a change; never otherwise.
    """

    SETTLING = (2, 4, 8)

    def __init__(self, states: Sequence[BandwidthState], detector: ChangeDetector) -> None:
        if not states:
            raise UsageError("state tracker: found no bandwidth states, expected at least one")
        self._detector = detector
        means = np.array([max(s.mean_bps, 1.0) for s in states])
        self._log_mean = np.log(means)
        self._relative = np.array([s.std_bps for s in states]) / means
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._detector.reset()
        self._since = 0
        self.changes = 0
        self.state_index = -1

    def observe(self, measurement: Measurement) -> bool:
        """Take in a measurement; True where the state is another than before."""
        changed = self._detector.update(measurement.rate_bps, measurement.known_s)
        self._since = 1 if changed or self.state_index < 0 else self._since + 1
        self.changes += changed
        if self._since != 1 and self._since not in self.SETTLING:
            return False
        before, self.state_index = self.state_index, self._nearest()
        return self.state_index != before

    def _nearest(self) -> int:
        mean = max(self._detector.mean, 1.0)
        relative = self._detector.std / mean
        distance = (self._log_mean - np.log(mean)) ** 2 + 0.25 * (self._relative - relative) ** 2
        return int(np.argmin(distance))
