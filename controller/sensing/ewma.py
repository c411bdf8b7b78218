"""A plain rival of Algorithm 3: a moving average, and a threshold on the distance from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.sensing.interface import SensingError


@dataclass(frozen=True, slots=True)
class EwmaConfig:
    """A change is declared `width` deviations off the mean, `hits` measurements in a row."""

    weight: float = 0.2
    width: float = 2.5
    hits: int = 2
    noise: float = 0.25
    floor: float = 1e3


class EwmaDetector:
    """Exponentially weighted mean and deviation of the log rate; restarts at a change."""

    def __init__(self, config: EwmaConfig | None = None) -> None:
        self.config = config or EwmaConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._mean: float | None = None
        self._variance = self.config.noise**2
        self._hits = 0

    def update(self, value: float, at_s: float) -> bool:
        """Take in a bandwidth; True where it has left the mean for good."""
        if not (math.isfinite(value) and value >= 0 and math.isfinite(at_s)):
            raise SensingError(
                f"change detector: found the value {value} at {at_s} s, expected finite numbers "
                "and a value of 0 or more"
            )
        c, x = self.config, math.log(max(value, self.config.floor))
        if self._mean is None:
            self._mean = x
            return False
        off = x - self._mean
        self._hits = self._hits + 1 if abs(off) > c.width * math.sqrt(self._variance) else 0
        if self._hits >= c.hits:
            self._mean, self._variance, self._hits = x, c.noise**2, 0
            return True
        if self._hits == 0:
            self._mean += c.weight * off
            self._variance += c.weight * (off * off - self._variance)
            self._variance = max(self._variance, (0.2 * c.noise) ** 2)
        return False

    @property
    def mean(self) -> float:
        """Geometric mean, bit/s; the floor before anything was measured."""
        return self.config.floor if self._mean is None else math.exp(self._mean)

    @property
    def std(self) -> float:
        """Standard deviation, bit/s."""
        return self.mean * math.sqrt(self._variance)
