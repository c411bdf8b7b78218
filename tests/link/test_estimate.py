"""What is known of a link decides how much is handed over: bounded, and never by a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.interface import Measurement
from controller.link.estimate import (
    BLIND_BUFFER_BYTES,
    BLIND_IN_FLIGHT_BYTES,
    BURST_BYTES,
    LARGEST_BUFFER_BYTES,
    LEAST_IN_FLIGHT_BYTES,
    RTT_WINDOW_S,
    SEND_BUFFER_BYTES,
    UPLOAD_CHUNK_BYTES,
    LinkEstimate,
)

pytestmark = pytest.mark.quick


def known(rate_bps, rtt_s):
    found = LinkEstimate()
    found.learn(Measurement(1.0, int(rate_bps), 8.0))
    found.round_trip(1.0, rtt_s)
    return found


def test_before_anything_is_known_little_is_handed_over_and_the_buffer_is_left_alone():
    blind = LinkEstimate()
    assert (blind.rtt_s, blind.rate_bps, blind.usual_rtt_s) == (None, None, 0.0)
    assert blind.burst_bytes == UPLOAD_CHUNK_BYTES
    assert blind.room_bytes == BLIND_IN_FLIGHT_BYTES
    assert blind.new_buffer_bytes() is None
    assert blind.buffer_bytes == BLIND_BUFFER_BYTES


def test_sizes_follow_the_rate_and_the_round_trip():
    fast = known(80e6, 0.02)
    assert fast.burst_bytes == 20_000, "2 ms of 80 Mbit/s"
    assert fast.unsent_bytes == 20_000
    assert fast.room_bytes == pytest.approx(1.25 * 10e6 * 0.02)
    assert fast.new_buffer_bytes() == int(10e6 * (0.005 + 2 * 0.02))
    assert fast.new_buffer_bytes() is None, "it was asked for"
    fast.learn(Measurement(2.0, 0, 1.0, False))
    assert fast.new_buffer_bytes() == SEND_BUFFER_BYTES
    assert (fast.burst_bytes, fast.room_bytes) == (UPLOAD_CHUNK_BYTES, LEAST_IN_FLIGHT_BYTES)
    fast.learn(None)
    assert fast.rate_bps == 0.0, "an upload that says nothing changes nothing"


@given(st.floats(0.0, 1e12), st.floats(0.0, 60.0))
def test_sizes_stay_within_their_bounds(rate_bps, rtt_s):
    found = known(rate_bps, rtt_s)
    assert UPLOAD_CHUNK_BYTES <= found.burst_bytes <= BURST_BYTES
    assert found.room_bytes >= LEAST_IN_FLIGHT_BYTES
    size = found.new_buffer_bytes()
    assert size is None or SEND_BUFFER_BYTES <= size <= LARGEST_BUFFER_BYTES


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 2.0)), min_size=1))
def test_the_round_trip_is_the_least_of_the_window(steps):
    found, now, all_ = LinkEstimate(), 0.0, []
    for pause, rtt in steps:
        now += pause
        all_.append((now, rtt))
        found.round_trip(now, rtt)
        recent = [rtt for at, rtt in all_ if at >= now - RTT_WINDOW_S]
        assert found.rtt_s == min(recent)
        assert min(recent) <= found.usual_rtt_s <= max(recent)


def test_a_new_connection_forgets_the_rate_and_keeps_the_round_trip_until_it_is_measured():
    found = known(80e6, 0.02)
    found.new_buffer_bytes()
    found.begin()
    assert (found.rate_bps, found.buffer_bytes) == (None, BLIND_BUFFER_BYTES)
    assert (found.rtt_s, found.usual_rtt_s) == (0.02, 0.0)
    found.round_trip(3.0, 0.5)
    assert found.rtt_s == 0.5, "the old route's is no minimum any more"
