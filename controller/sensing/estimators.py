"""How fast the link is now, by simple rules over the last transfers, and how old that belief is.

Owns `LastValue`, `HarmonicMean` and `Ewma`, for rate rules and for Algorithm 1 at every frame.
They assume no states and no change points. An estimate without its age is worth nothing on a link
that is seen only when used, so every estimate carries it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing.interface import checked_bps


@dataclass(frozen=True, slots=True)
class BandwidthEstimate:
    """Bandwidth believed in, bit/s; seconds since the newest transfer it rests on; deviation.

    `std_bps` is of the measurements, not of the estimate; 0 where only one is known.
    """

    rate_bps: float
    age_s: float
    std_bps: float


class BandwidthEstimator(Protocol):
    """Gets transfers, gives the bandwidth now. One instance, one stream."""

    def reset(self) -> None:
        """Forget everything."""

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended; `UsageError` where its figures cannot be a measurement."""

    def estimate(self, now_s: float) -> BandwidthEstimate | None:
        """The belief at `now_s`, or None before any transfer."""


class HarmonicMean:
    """Harmonic mean of the last `count` rates (Jiang et al., FESTIVE, CoNEXT 2012, section 4.2).

    It leans to the slow transfers, as the time that a next one takes does: for transfers of equal
    size it is exactly their bytes over their time.
    """

    def __init__(self, count: int = 5) -> None:
        if count < 1:
            raise UsageError(f"harmonic mean: found {count} transfers, expected at least 1")
        self._rates: deque[float] = deque(maxlen=count)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rates.clear()
        self._known_s = -math.inf

    def observe(self, measurement: Measurement) -> None:
        """One transfer more; the oldest of `count` is forgotten."""
        self._rates.append(checked_bps(measurement.rate_bps, measurement.known_s))
        self._known_s = max(self._known_s, measurement.known_s)

    def estimate(self, now_s: float) -> BandwidthEstimate | None:
        """See `BandwidthEstimator.estimate`."""
        if not self._rates:
            return None
        count = len(self._rates)
        mean = math.fsum(self._rates) / count
        variance = math.fsum((rate - mean) ** 2 for rate in self._rates) / count
        return BandwidthEstimate(
            rate_bps=count / math.fsum(1.0 / rate for rate in self._rates),
            age_s=max(now_s - self._known_s, 0.0),
            std_bps=math.sqrt(variance),
        )


class LastValue(HarmonicMean):
    """The newest transfer's rate: what Edgent's and most greedy rules use."""

    def __init__(self) -> None:
        super().__init__(count=1)


class Ewma:
    """Exponentially weighted mean of the rates; a gap of dt has the gain 1 - exp(-dt / tau).

    The first transfer counts whole, and so does one after a gap of many `tau_s`.
    """

    def __init__(self, tau_s: float = 2.0) -> None:
        if not (math.isfinite(tau_s) and tau_s > 0):
            raise UsageError(f"moving average, tau_s: found {tau_s}, expected a number above 0")
        self._tau_s = tau_s
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._known_s: float | None = None
        self._mean_bps = 0.0
        self._variance = 0.0

    def observe(self, measurement: Measurement) -> None:
        """One transfer more."""
        rate = checked_bps(measurement.rate_bps, measurement.known_s)
        if self._known_s is None:
            self._mean_bps, self._known_s = rate, measurement.known_s
            return
        gap_s = max(measurement.known_s - self._known_s, 0.0)
        self._known_s += gap_s
        gain = -math.expm1(-gap_s / self._tau_s)
        apart = rate - self._mean_bps
        self._mean_bps += gain * apart
        self._variance = (1.0 - gain) * (self._variance + gain * apart * apart)

    def estimate(self, now_s: float) -> BandwidthEstimate | None:
        """See `BandwidthEstimator.estimate`."""
        if self._known_s is None:
            return None
        age_s = max(now_s - self._known_s, 0.0)
        return BandwidthEstimate(self._mean_bps, age_s, math.sqrt(self._variance))
