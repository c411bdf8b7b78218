"""Statistics weigh time, however a trace's last second is cut."""

import numpy as np
import pytest

from traces.statistics import grid_statistics, outage_runs, trace_statistics
from traces.trace import BandwidthTrace


def test_the_rest_of_a_second_counts_as_long_as_it_lasts():
    trace = BandwidthTrace("t", [0.0, 1.0, 2.0], [1e6, 3e6, 20e6], 2.1)
    found = trace_statistics([trace])
    assert found.mean == pytest.approx(6.0 / 2.1)
    assert found.mean == pytest.approx(trace.mean_bps / 1e6)
    second = (1.0 + 9.0 + 0.1 * 400.0) / 2.1 - (6.0 / 2.1) ** 2
    assert found.std == pytest.approx(np.sqrt(second))
    assert found.hours == pytest.approx(2.1 / 3600)
    assert found.quantiles[-1] <= 3.0  # of whole seconds


def test_an_outage_lasts_as_long_as_its_pieces():
    trace = BandwidthTrace("t", [0.0, 1.0, 2.0], [0.0, 3e6, 0.0], 2.25)
    found = trace_statistics([trace])
    assert (found.outage_runs, found.outage_mean_s) == (2, pytest.approx(0.625))
    assert outage_runs(np.array([0.0, 0.0, 1e6])).tolist() == [2.0]


def test_a_trace_shorter_than_a_second_has_statistics():
    found = trace_statistics([BandwidthTrace("t", [0.0], [2e6], 0.5)])
    assert (found.mean, found.std, found.quantiles[3]) == (2.0, 0.0, 2.0)


def test_whole_seconds_are_what_a_grid_says():
    rates = np.array([1e6, 0.0, 4e6, 2e6])
    trace = BandwidthTrace("t", np.arange(4.0), rates, 4.0)
    assert trace_statistics([trace]) == grid_statistics([rates])
