"""TCP's ramp told forwards and backwards: the rate that explains a duration is the link's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.physics import ConstantLink, LinkModel
from controller.physics.links import ramp_s, unramped_rate_bps

SIZES = st.floats(100.0, 2e6)
RATES = st.floats(1e4, 1e9)
RTTS = st.just(0.0) | st.floats(1e-3, 0.5)
WINDOWS = st.floats(1448.0, 2e5)


@given(SIZES, WINDOWS, RTTS, RATES)
def test_one_transfer_takes_what_the_batched_model_says(size, window, rtt, rate):
    link = ConstantLink(np.array([rate]))
    end = LinkModel(rtt_s=rtt).transfer_end(link, np.zeros(1), np.array([size]), window)
    assert ramp_s(size, window, rtt, rate) == pytest.approx(float(end[0]), rel=1e-9)


@given(SIZES, WINDOWS, RTTS, RATES)
def test_the_rate_found_explains_the_duration_and_is_never_below_bytes_over_seconds(
    size, window, rtt, rate
):
    took = ramp_s(size, window, rtt, rate)
    found = unramped_rate_bps(size, took, window, rtt)
    assert found >= 8.0 * size / took * (1 - 1e-9)
    assert found <= rate * (1 + 1e-6), "never faster than the link is"
    if found < rate * (1 - 1e-6):
        # what came behind the last round trip was too short to be timed
        assert ramp_s(size, window, rtt, found) - took <= 0.1 * rtt * (1 + 1e-6)
    if size <= window or rtt == 0:
        assert found == pytest.approx(rate, rel=1e-9)


def test_a_window_limited_upload_is_not_taken_for_a_slow_link():
    took = ramp_s(100_000, 14_480, 0.1, 20e6)
    assert 8 * 100_000 / took < 4e6
    assert unramped_rate_bps(100_000, took, 14_480, 0.1) == pytest.approx(20e6)
