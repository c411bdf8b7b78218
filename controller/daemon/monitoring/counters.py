"""Counts that others keep, shown to Prometheus as counters. Knows neither device nor edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

Figures = dict[str, tuple[str, Callable[[], float]]]
"""(help, value) by name."""


class CounterCollector(Collector):
    """Asked at every scrape."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts as they stand."""
        for name, (what, value) in self._figures.items():
            yield CounterMetricFamily(name, what, value=value())


class CountOfMany:
    """What controllers count, one after the other, each from 0: a counter must not fall."""

    def __init__(self) -> None:
        self._newest = self._earlier = 0.0

    def total(self, newest: float) -> float:
        """Of all, where the one that is there says `newest`."""
        if newest < self._newest:
            self._earlier += self._newest
        self._newest = newest
        return self._earlier + newest
