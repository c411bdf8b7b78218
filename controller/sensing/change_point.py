"""Algorithm 3 of Edgent: Bayesian online change-point detection on measured bandwidth.

(Adams and MacKay 2007, "Bayesian online changepoint detection"; Li et al., IEEE TWC 2020, section
V-C.) Within a segment the logarithm of the bandwidth is normal with unknown mean and precision
(Normal-Gamma prior), so the next value is Student-t. Owns the posterior over where the present
segment began and the rule that turns it into a change. Knows nothing of states and plans.

Where this differs from the printed recursion, and why:

- A change falls into the gap *before* a measurement and that measurement is the new segment's
  first, judged by the prior. The hazard of a gap dt is 1 - exp(-dt / tau), so that measurements
  may come at any times: they exist only where transfers happened.
- Measurements closer together than the link's own correlation time say the same thing twice. Each
  counts as w = 1 - exp(-dt / correlation_s) of a measurement: its likelihood to the power w, its
  value w times. With `correlation_s` = 0 every measurement counts whole and the recursion is
  exactly the paper's, which on a real link sees a change in every second.
- Memory is constant: starts whose mass falls below `prune_mass` are dropped, and of more than
  `max_hypotheses` the least likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Floats
from controller.sensing.interface import DetectorStep, checked_bps

# rows of the hypotheses' array: one column per possible start of the present segment
_LOGP, _INDEX, _START, _MU, _KAPPA, _ALPHA, _BETA, _SEEN, _MEAN, _SQUARES = range(10)

_SHIFTS = np.arange(8.0)[:, None]


@dataclass(frozen=True, slots=True)
class BayesianConfig:
    """The detector's settings.

    `tau_s`: mean length of a segment. `scale`: values as logarithms, or as multiples of the first
    one. `correlation_s`: see the module. The prior of a new segment: noise
    `prior_std` (of the logarithm) worth `prior_samples` measurements, its mean known as well as
    from `prior_weight` measurements at the stream's first value. A change is declared when the
    mass of starts after the last declaration (or the mass of those before the segment in force: a
    false alarm taken back) has been above `threshold` for `confirm` measurements running.

    The defaults were chosen by the configuration map's reward on Belgium training logs (scenario
    `edgent`); logarithms and linear values lie on one curve of switches against error there, and
    logarithms keep the prior right when the level moves by factors.
    """

    tau_s: float = 20.0
    scale: Literal["log", "linear"] = "log"
    correlation_s: float = 6.0
    prior_std: float = 0.3
    prior_samples: float = 2.0
    prior_weight: float = 0.02
    threshold: float = 0.5
    confirm: int = 1
    max_hypotheses: int = 96
    prune_mass: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse settings under which the posterior would not exist."""
        for name in ("tau_s", "prior_std", "prior_samples", "prior_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(
                    f"bayes detector, {name}: found {value}, expected a number above 0"
                )
        if not (math.isfinite(self.correlation_s) and self.correlation_s >= 0):
            raise UsageError(
                f"bayes detector, correlation_s: found {self.correlation_s}, expected at least 0"
            )
        if not 0 < self.threshold < 1:
            raise UsageError(
                f"bayes detector, threshold: found {self.threshold}, expected between 0 and 1"
            )
        if not 0 <= self.prune_mass < 0.01:
            raise UsageError(
                f"bayes detector, prune_mass: found {self.prune_mass}, expected 0 to 0.01"
            )
        if self.confirm < 1 or self.max_hypotheses < 2:
            raise UsageError(
                f"bayes detector: found confirm {self.confirm}, max_hypotheses "
                f"{self.max_hypotheses}, expected at least 1 and 2"
            )
        if self.scale not in ("log", "linear"):
            raise UsageError(f"bayes detector, scale: found '{self.scale}', expected log or linear")


class BayesianDetector:
    """Adams and MacKay's recursion over starts of the present segment, in constant memory."""

    def __init__(self, config: BayesianConfig | None = None, name: str = "bayes") -> None:
        self.name = name
        self.config = BayesianConfig() if config is None else config
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._starts: Floats = np.empty((10, 0))
        self._count = 0
        self._last_s = 0.0
        self._unit_bps = 1.0
        self._centre = 0.0
        # the segment in force began at a measurement whose number lies in (after, until]
        self._after, self._until = -1.0, 0.0
        self._above = 0

    @property
    def hypotheses(self) -> int:
        """How many starts of the present segment are being weighed."""
        return int(self._starts.shape[1])

    def posterior(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Numbers of the measurements (from 0) the segment may have begun at; their masses."""
        return self._starts[_INDEX].astype(np.int64), np.exp(self._starts[_LOGP])

    def update(self, value_bps: float, at_s: float) -> DetectorStep:
        """See `ChangeDetector.update`."""
        value = checked_bps(value_bps, at_s)
        if self._count == 0:
            return self._begin(value, at_s)
        gap_s = max(at_s - self._last_s, 0.0)
        self._last_s += gap_s
        config = self.config
        weight = 1.0
        if config.correlation_s > 0:
            # a floor, so that a burst at one instant still moves the estimate
            weight = max(-math.expm1(-gap_s / config.correlation_s), 1e-3)
        logs = self._absorbed(value, weight)
        # log P(no change in the gap) and log P(change); at a gap of 0 there can be none
        hazard = -math.expm1(-gap_s / config.tau_s)
        logs[:-1] -= gap_s / config.tau_s
        logs[-1] += math.log(hazard) if hazard > 0 else -math.inf
        self._normalise()
        self._count += 1
        return self._decided()

    def _begin(self, value: float, at_s: float) -> DetectorStep:
        self._last_s = at_s
        self._unit_bps = value
        self._centre = math.log(value) if self.config.scale == "log" else 1.0
        self._starts = np.empty((10, 0))
        self._absorbed(value, 1.0)
        self._starts[_LOGP] = 0.0
        self._count = 1
        return self._step(False, 0.0)

    def _absorbed(self, value: float, weight: float) -> Floats:
        """Add the start at this measurement, weigh all starts by it; a view of their logs."""
        c = self.config
        alpha = 0.5 * c.prior_samples
        known = self._starts.shape[1]
        h = np.empty((10, known + 1))
        h[:, :known] = self._starts
        h[:, known] = (0.0, self._count, self._last_s, self._centre, c.prior_weight, alpha,
                       alpha * c.prior_std**2, 0.0, value, 0.0)  # fmt: skip
        x = math.log(value) if c.scale == "log" else value / self._unit_bps
        _absorb(h, value, x, weight)
        self._starts = h
        return np.asarray(h[_LOGP])

    def _normalise(self) -> None:
        starts, limit = self._starts, self.config.max_hypotheses
        logs = starts[_LOGP]
        logs -= logs.max()
        mass = np.exp(logs)
        total = float(mass.sum())
        logs -= math.log(total)
        keep = mass > self.config.prune_mass * total
        if not keep.all():
            starts = starts[:, keep]
        if starts.shape[1] > limit:
            starts = np.delete(starts, int(np.argmin(starts[_LOGP])), axis=1)
        self._starts = starts

    def _decided(self) -> DetectorStep:
        mass, index = np.exp(self._starts[_LOGP]), self._starts[_INDEX]
        total = mass.sum()
        later = float(mass[index > self._until].sum() / total)
        earlier = float(mass[index <= self._after].sum() / total)
        probability = max(later, earlier)
        self._above = self._above + 1 if probability > self.config.threshold else 0
        change = self._above >= self.config.confirm
        if change and later >= earlier:
            self._after, self._until = self._until, float(self._count - 1)
        elif change:
            self._after, self._until = -1.0, self._after
        if change:
            self._above = 0
        return self._step(change, probability)

    def _step(self, change: bool, probability: float) -> DetectorStep:
        # the likeliest start of the segment in force, also while single others are likelier: what
        # is reported and what was declared are then always the same segment
        logs, index = self._starts[_LOGP], self._starts[_INDEX]
        ours = np.where((index > self._after) & (index <= self._until), logs, -np.inf)
        best = self._starts[:, int(np.argmax(ours if ours.max() > -np.inf else logs))]
        seen, mean = float(best[_SEEN]), float(best[_MEAN])
        prior = self.config.prior_samples
        spread = self.config.prior_std * mean
        variance = (float(best[_SQUARES]) + prior * spread**2) / (seen + prior)
        return DetectorStep(
            change=change,
            run_length_s=self._last_s - float(best[_START]),
            samples=self._count - int(best[_INDEX]),
            mean_bps=mean,
            std_bps=math.sqrt(variance),
            change_probability=probability,
        )


def _absorb(h: Floats, value: float, x: float, weight: float) -> None:
    """Weigh every column by the likelihood of x to the power `weight`, and take x in.

    Normal-Gamma: Student-t of 2 alpha degrees at mu with squared scale beta (kappa + 1) /
    (alpha kappa); then the conjugate update with `weight` observations (Murphy 2007, section 3).
    """
    mu, kappa, alpha, beta = h[_MU], h[_KAPPA], h[_ALPHA], h[_BETA]
    off = x - mu
    spread = beta * (kappa + 1.0) / kappa
    likelihood = _log_gamma_ratio(alpha) - 0.5 * np.log(2.0 * math.pi * spread)
    likelihood -= (alpha + 0.5) * np.log1p(off * off / (2.0 * spread))
    h[_LOGP] += weight * likelihood
    total = kappa + weight
    h[_BETA] = beta + 0.5 * weight * kappa * off * off / total
    h[_MU] = mu + weight * off / total
    h[_KAPPA] = total
    h[_ALPHA] = alpha + 0.5 * weight
    # the bandwidth itself, by Welford's recursion: what the segment's mean and deviation are
    seen = h[_SEEN] + weight
    apart = value - h[_MEAN]
    h[_MEAN] += weight * apart / seen
    h[_SQUARES] += weight * apart * (value - h[_MEAN])
    h[_SEEN] = seen


def _log_gamma_ratio(a: Floats) -> Floats:
    """log(Gamma(a + 1/2) / Gamma(a)) for a > 0, to 1e-9: numpy has no log-gamma.

    The asymptotic series (Tricomi and Erdelyi 1951) at a + 8, brought back by
    Gamma(z + 1) = z Gamma(z).
    """
    z = 1.0 / (a + 8.0)
    series = 1.0 - z * (
        1 / 8 - z * (1 / 128 + z * (5 / 1024 - z * (21 / 32768 + z * 399 / 262144)))
    )
    steps = a + _SHIFTS
    down: Floats = np.prod(steps / (steps + 0.5), axis=0)
    return np.asarray(np.log(series * down * np.sqrt(a + 8.0)))
