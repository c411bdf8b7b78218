import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing.estimators import Ewma, HarmonicMean, LastValue

ESTIMATORS = (LastValue, HarmonicMean, Ewma)


def observed(estimator, *pairs):
    for at, rate in pairs:
        estimator.observe(Measurement(at, 10_000, 80_000 / rate))
    return estimator


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_nothing_is_known_before_a_transfer_nor_after_a_reset(kind):
    estimator = kind()
    assert estimator.estimate(1.0) is None
    observed(estimator, (1.0, 2e6)).reset()
    assert estimator.estimate(1.0) is None


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_transfer_is_the_estimate_and_ages(kind):
    found = observed(kind(), (1.0, 2e6)).estimate(4.5)
    assert found.rate_bps == pytest.approx(2e6)
    assert (found.age_s, found.std_bps) == (3.5, 0.0)
    assert observed(kind(), (9.0, 2e6)).estimate(4.5).age_s == 0.0


@pytest.mark.parametrize("kind", ESTIMATORS)
@given(st.lists(st.floats(1e4, 1e9), min_size=1, max_size=12))
def test_estimates_lie_between_the_slowest_and_the_fastest(kind, rates):
    estimator = observed(kind(), *enumerate(rates))
    found = estimator.estimate(len(rates))
    assert min(rates) * 0.999 <= found.rate_bps <= max(rates) * 1.001


def test_last_value_forgets_all_but_the_newest():
    assert observed(LastValue(), (0, 9e6), (1, 1e6)).estimate(1).rate_bps == pytest.approx(1e6)


def test_harmonic_mean_is_bytes_over_time_for_equal_transfers():
    estimator = observed(HarmonicMean(3), (0, 7e7), (1, 1e6), (2, 4e6), (3, 2e6))
    seconds = sum(80_000 / rate for rate in (1e6, 4e6, 2e6))
    found = estimator.estimate(3)
    assert found.rate_bps == pytest.approx(3 * 80_000 / seconds)
    assert found.std_bps == pytest.approx(math.sqrt((16 + 25 + 1) / 27) * 1e6)


def test_the_moving_average_forgets_by_time_and_not_by_count():
    one = observed(Ewma(2.0), (0, 1e6), (2, 5e6)).estimate(2)
    many = observed(Ewma(2.0), (0, 1e6), *((0.1 * k, 5e6) for k in range(1, 21))).estimate(2)
    assert one.rate_bps == pytest.approx(5e6 - 4e6 * math.exp(-1))
    assert many.rate_bps == pytest.approx(one.rate_bps)
    late = observed(Ewma(2.0), (0, 1e6), (100, 5e6)).estimate(100)
    assert late.rate_bps == pytest.approx(5e6)


def test_refuses_settings_that_cannot_be_meant():
    with pytest.raises(UsageError, match="found 0 transfers"):
        HarmonicMean(0)
    with pytest.raises(UsageError, match="tau_s: found 0"):
        Ewma(0.0)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_refuses_a_transfer_that_cannot_be_a_measurement(kind):
    with pytest.raises(UsageError, match="found nan bit/s"):
        kind().observe(Measurement(0.0, 1000, math.nan))
    with pytest.raises(UsageError, match="found time inf s"):
        kind().observe(Measurement(math.inf, 1000, 1.0))
