"""The bench of the cell link, short: a busy machine is no fault of the link's."""

import os

import pytest

from experiments.benches.cell import arithmetic_s, cell_figures
from experiments.replay.cell.carried import can_make_links


def test_the_arithmetic_counts_headers_the_round_trip_and_the_answer():
    assert arithmetic_s(8e6, 1448) == pytest.approx((1500 + 53) / 1e6 + 0.04)
    assert arithmetic_s(8e6, 1449) == pytest.approx((1449 + 104 + 53) / 1e6 + 0.04)


@pytest.mark.skipif(not can_make_links() or os.geteuid() != 0, reason="needs root and /dev/net/tun")
def test_a_link_carries_what_its_trace_says():
    found = cell_figures(3, rates_bps=(2e6,))
    steady, moving = found.rows
    assert sorted(steady.off)[1] < 0.03
    assert sorted(moving.off)[1] < 0.05
    assert 0.97 <= steady.of_arithmetic <= 1.1
    assert steady.cpu_share < 0.2
    assert (moving.rate_bps, moving.transfer_s, moving.of_arithmetic) == (None, None, None)
    assert found.congestion_control
