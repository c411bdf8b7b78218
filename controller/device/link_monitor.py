"""What the device knows of its link beside its controller: the bandwidth, its change points, and
small probes while nothing else tells, within a budget of bytes.

Time is passed in; nothing here sends. A controller that keeps every frame on the device would stay
blind for ever; a few kilobytes a minute tell it when the link is back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from controller.interface import Measurement
from controller.sensing.change_point import BayesianDetector
from controller.sensing.estimators import Ewma

LOOK_S = 0.25
"""The detector hears no more often: measurements so close together tell it the same thing."""


class ProbeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the link is asked although no frame needs it. 0 bytes a minute: never."""

    bytes_per_minute: int = 24_000
    """Budget; what is not used is kept for one minute at most."""
    bytes_each: int = 2_000
    """Of one probe: more than one packet, or there is nothing to time."""
    blind_s: float = 5.0
    """A probe goes out when nothing was measured for so long."""


@dataclass
class LinkMonitor:
    """Gets every measurement; is asked whether to probe. One instance, one stream."""

    probes: ProbeSettings

    def __post_init__(self) -> None:
        """Nothing measured, the budget full."""
        self.changes = 0
        """Change points since the start."""
        self.probed_bytes = 0
        self._detector = BayesianDetector()
        self._ewma = Ewma()
        self._measured_s = self._looked_s = -math.inf
        self._budget = float(self.probes.bytes_per_minute)
        self._paid_s: float | None = None

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended (or nothing of one came)."""
        self._ewma.observe(measurement)
        if measurement.known_s - self._looked_s >= LOOK_S:
            self._looked_s = measurement.known_s
            self.changes += self._detector.update(measurement.rate_bps, measurement.known_s).change
        self._measured_s = max(self._measured_s, measurement.known_s)

    def bandwidth_bps(self, now_s: float) -> float | None:
        """The bandwidth believed in; None before any measurement."""
        found = self._ewma.estimate(now_s)
        return None if found is None else found.rate_bps

    def age_s(self, now_s: float) -> float:
        """Seconds since the last measurement (inf before any)."""
        return max(now_s - self._measured_s, 0.0)

    def probe_bytes(self, now_s: float) -> int:
        """Bytes of the probe to send now, which are then spent; 0 for none."""
        each, minute = self.probes.bytes_each, float(self.probes.bytes_per_minute)
        paid = now_s if self._paid_s is None else self._paid_s
        self._budget = min(self._budget + (now_s - paid) * minute / 60.0, minute)
        self._paid_s = now_s
        if self.age_s(now_s) < self.probes.blind_s or self._budget < each or not each:
            return 0
        self._budget -= each
        self.probed_bytes += each
        # the next one is due when this one had its time, whatever becomes of it
        self._measured_s = now_s
        return each
