"""Detectors by name, river's Page-Hinkley among them (imported only when asked for)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from artefacts import UsageError, without_package
from controller.sensing import make_detector as make_device_detector
from controller.sensing.baselines import SegmentStatistics
from controller.sensing.interface import ChangeDetector, DetectorStep, checked_bps

NAMES = ("bayes", "ewma", "page-hinkley")


@dataclass(frozen=True, slots=True)
class PageHinkleyConfig:
    """river's settings: tolerated deviation `delta`, `threshold`, forgetting factor `alpha`."""

    threshold: float = 3.0
    delta: float = 0.05
    alpha: float = 0.9999
    min_instances: int = 5


class PageHinkleyDetector:
    """river's two-sided Page-Hinkley test on the logarithm of the bandwidth (Page 1954)."""

    def __init__(self, config: PageHinkleyConfig | None = None, name: str = "page-hinkley") -> None:
        self.name = name
        self.config = PageHinkleyConfig() if config is None else config
        self._segment = SegmentStatistics(prior_std=0.3)
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        try:
            from river.drift import PageHinkley
        except ImportError:
            raise without_package("detector 'page-hinkley'", "river", "detectors") from None
        c = self.config
        self._test: Any = PageHinkley(
            min_instances=c.min_instances, delta=c.delta, threshold=c.threshold, alpha=c.alpha
        )
        self._last_s: float | None = None

    def update(self, value_bps: float, at_s: float) -> DetectorStep:
        """See `ChangeDetector.update`; the test itself knows no time, only order."""
        value = checked_bps(value_bps, at_s)
        first = self._last_s is None
        self._last_s = at_s if self._last_s is None else max(self._last_s, at_s)
        self._test.update(math.log(value))
        change = bool(self._test.drift_detected)
        if first or change:
            self._segment.begin(self._last_s)
        self._segment.add(value)
        return self._segment.step(change, self._last_s)


def make_detector(name: str) -> ChangeDetector:
    """Any detector by name with its default settings; `UsageError` for a name that is none."""
    if name not in NAMES:
        raise UsageError(f"change detector: found '{name}', expected one of {', '.join(NAMES)}")
    return PageHinkleyDetector() if name == "page-hinkley" else make_device_detector(name)
