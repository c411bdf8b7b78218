"""How a device's compute times vary around their medians, as points and weights."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from artefacts.arrays import Floats

SPREAD_SIGMAS = 3.0
"""How far beyond their medians compute times may push the device's backlog on the grid."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Log-normal by `sigma`; or by measured `quantiles`, evenly from least to greatest, if any."""

    sigma: float
    quantiles: tuple[float, ...] = ()

    @property
    def most(self) -> float:
        """The greatest factor that counts."""
        return self.quantiles[-1] if self.quantiles else float(np.exp(SPREAD_SIGMAS * self.sigma))

    @property
    def mean(self) -> float:
        """Of the factors."""
        if not self.quantiles:
            return float(np.exp(self.sigma**2 / 2))
        ends = np.array(self.quantiles)
        return float((ends[1:] + ends[:-1]).mean() / 2)

    @property
    def deviation(self) -> float:
        """How far factors lie from 1, about: the log-normal's sigma."""
        if not self.quantiles:
            return self.sigma
        return float(np.sqrt(((self.equally_likely(64) - 1.0) ** 2).mean()))

    def nodes(self, count: int) -> tuple[Floats, Floats]:
        """So many factors, and their weights: Gauss-Hermite's of the log-normal."""
        if self.quantiles:
            return self.equally_likely(count), np.full(count, 1.0 / count)
        points, weights = np.polynomial.hermite_e.hermegauss(count if self.sigma else 1)
        return np.exp(self.sigma * points), weights / weights.sum()

    def equally_likely(self, count: int) -> Floats:
        """Factors at the middle of `count` equal shares; 1 where nothing varies."""
        shares = (np.arange(count) + 0.5) / count
        if self.quantiles:
            ends = np.linspace(0.0, 1.0, len(self.quantiles))
            return np.asarray(np.interp(shares, ends, np.array(self.quantiles)))
        if self.sigma == 0:
            return np.ones(1)
        return np.exp(self.sigma * np.array([NormalDist().inv_cdf(share) for share in shares]))
