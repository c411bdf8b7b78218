"""TCP's ramp of one transfer, against the batched model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.physics import ConstantLink, LinkModel
from controller.physics.links import ramp_s

SIZES = st.floats(100.0, 2e6)
RATES = st.floats(1e4, 1e9)
RTTS = st.just(0.0) | st.floats(1e-3, 0.5)
WINDOWS = st.floats(1448.0, 2e5)


@given(SIZES, WINDOWS, RTTS, RATES)
def test_one_transfer_takes_what_the_batched_model_says(size, window, rtt, rate):
    link = ConstantLink(np.array([rate]))
    end = LinkModel(rtt_s=rtt).transfer_end(link, np.zeros(1), np.array([size]), window)
    assert ramp_s(size, window, rtt, rate) == pytest.approx(float(end[0]), rel=1e-9)
