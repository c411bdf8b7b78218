"""The plain baseline of change detection: a moving average and a threshold.

Owns `EwmaDetector` and the running statistics of a segment that simple detectors share. Knows no
state and no plan. (The other baseline, Page-Hinkley, is river's and lives in `experiments`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from artefacts import UsageError
from controller.sensing.interface import DetectorStep, checked_bps


@dataclass(frozen=True, slots=True)
class EwmaConfig:
    """Settings of the moving average.

    `tau_s`: its time constant. A change is declared after `confirm` measurements running, all on
    the same side of the average, whose logarithm lies more than `threshold` deviations from it.
    `prior_std`: deviation assumed before any is measured, and the least ever used is a third of
    it, so that a steady link does not turn every ripple into a change.
    """

    tau_s: float = 5.0
    threshold: float = 3.0
    confirm: int = 2
    prior_std: float = 0.3

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        for name in ("tau_s", "threshold", "prior_std"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"ewma detector, {name}: found {value}, expected a number above 0")
        if self.confirm < 1:
            raise UsageError(f"ewma detector, confirm: found {self.confirm}, expected at least 1")


class SegmentStatistics:
    """Running mean and deviation of the bandwidth since a segment began (Welford).

    The deviation is drawn towards `prior_std` times the mean as by two measurements: one
    measurement alone has none.
    """

    PRIOR_SAMPLES = 2.0

    def __init__(self, prior_std: float) -> None:
        self._prior_std = prior_std
        self.begin(0.0)

    def begin(self, at_s: float) -> None:
        """A segment begins."""
        self.start_s = at_s
        self.samples = 0
        self.mean_bps = 0.0
        self._squares = 0.0

    def add(self, value_bps: float) -> None:
        """One measurement more."""
        self.samples += 1
        apart = value_bps - self.mean_bps
        self.mean_bps += apart / self.samples
        self._squares += apart * (value_bps - self.mean_bps)

    @property
    def std_bps(self) -> float:
        """Standard deviation, bit/s."""
        prior = self.PRIOR_SAMPLES * (self._prior_std * self.mean_bps) ** 2
        return math.sqrt((self._squares + prior) / (self.samples + self.PRIOR_SAMPLES))

    def step(self, change: bool, at_s: float) -> DetectorStep:
        """These figures as a detector's answer."""
        return DetectorStep(
            change=change,
            run_length_s=max(at_s - self.start_s, 0.0),
            samples=self.samples,
            mean_bps=self.mean_bps,
            std_bps=self.std_bps,
            change_probability=float(change),
        )


class EwmaDetector:
    """A change is where measurements leave a band around their exponentially weighted mean.

    The gain of a measurement after a gap dt is 1 - exp(-dt / tau), so that irregular sampling
    means the same; mean and variance are of the logarithm (bandwidth moves by factors). What lies
    outside the band does not move it until it is known whether it is a change; once the run ends
    without one, it was noise and counts as such.
    """

    def __init__(self, config: EwmaConfig | None = None, name: str = "ewma") -> None:
        self.name = name
        self.config = EwmaConfig() if config is None else config
        self._segment = SegmentStatistics(self.config.prior_std)
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._segment.begin(0.0)
        self._mean: float | None = None
        self._variance = self.config.prior_std**2
        self._last_s = 0.0
        # (value, time, gain) of measurements running outside the band, all on one side
        self._outside: list[tuple[float, float, float]] = []
        self._side = 0.0

    def update(self, value_bps: float, at_s: float) -> DetectorStep:
        """See `ChangeDetector.update`."""
        value = checked_bps(value_bps, at_s)
        if self._mean is None:
            self._last_s = at_s
            self._restart([(value, at_s, 1.0)])
            return self._segment.step(False, at_s)
        gap_s = max(at_s - self._last_s, 0.0)
        self._last_s += gap_s
        gain = -math.expm1(-gap_s / self.config.tau_s)
        off = math.log(value) - self._mean
        deviation = max(math.sqrt(self._variance), self.config.prior_std / 3.0)
        inside = abs(off) <= self.config.threshold * deviation
        if inside or off * self._side < 0:
            self._absorb_outside()
        if inside:
            self._absorb(value, gain)
            return self._segment.step(False, self._last_s)
        self._outside.append((value, self._last_s, gain))
        self._side = off
        change = len(self._outside) >= self.config.confirm
        if change:
            self._restart(self._outside)
        return self._segment.step(change, self._last_s)

    def _absorb_outside(self) -> None:
        for value, _, gain in self._outside:
            self._absorb(value, gain)
        self._outside, self._side = [], 0.0

    def _absorb(self, value: float, gain: float) -> None:
        mean = 0.0 if self._mean is None else self._mean
        off = math.log(value) - mean
        self._mean = mean + gain * off
        self._variance = (1.0 - gain) * (self._variance + gain * off * off)
        self._segment.add(value)

    def _restart(self, members: list[tuple[float, float, float]]) -> None:
        """A segment of `members`: they were its first measurements all along."""
        self._segment.begin(members[0][1])
        for value, _, _ in members:
            self._segment.add(value)
        self._mean = sum(math.log(value) for value, _, _ in members) / len(members)
        self._variance = self.config.prior_std**2
        self._outside, self._side = [], 0.0
