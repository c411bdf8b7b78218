"""What is on its way: where the uplink stands at each rate, and what silence says."""

import numpy as np
import pytest
from tidy import tidy

from controller.planners.due_fallbacks import ALONE, NONE, SPARE, fallback_due_s
from controller.policies.in_flight import LATE_S, UNLIKELY, InFlight
from controller.scenarios import load_setting

RATES = np.array([1e5, 1e6, 1e7])
EVERYONE = np.ones(1, dtype=bool)


def sender(stream):
    table = stream.table
    return next(k for k in table.senders.tolist() if table.prefix_s[k] == 0)


def sent(stream, now_s=10.0, frame=0, flight=None):
    flight = InFlight(stream, 1) if flight is None else flight
    rtt = np.array([stream.scenario.link.rtt_s])
    plan = np.array([sender(stream)])
    flight.chosen(np.array([frame]), plan, np.array([now_s]), np.zeros(1), rtt)
    return flight, float(stream.link_model.on_wire(stream.table.up_bytes[plan])[0])


def test_the_uplink_is_busy_longer_the_slower_it_is(stream):
    flight, wire = sent(stream)
    held = np.array([stream.table.up_bytes[sender(stream)]])
    busy_s, likelihood, _ = flight.at_levels(RATES, np.array([10.0]), held)
    assert busy_s[0] == pytest.approx(8 * wire / RATES)
    assert likelihood[0].tolist() == [1, 1, 1]
    later, *_ = flight.at_levels(RATES, np.array([10.02]), held)
    assert later[0] == pytest.approx(np.maximum(8 * wire / RATES - 0.02, 0))
    sent(stream, 10.0, 1, flight)
    both, *_ = flight.at_levels(RATES, np.array([10.0]), 2 * held)
    # of both together the socket knows, which counts one message's header where there are two
    assert both[0] == pytest.approx(2 * busy_s[0], rel=0.1)


def test_it_is_never_busier_than_what_the_socket_still_holds(stream):
    flight, wire = sent(stream)
    none, *_ = flight.at_levels(RATES, np.array([10.0]), np.zeros(1))
    assert none[0].tolist() == [0, 0, 0]
    some, *_ = flight.at_levels(RATES, np.array([10.0]), np.array([100.0]))
    most = 8 * float(stream.link_model.on_wire(np.array([100.0]))[0]) / RATES
    assert some[0] == pytest.approx(np.minimum(8 * wire / RATES, most))


def test_what_a_head_still_computes_comes_behind_all_that_the_socket_holds(stream):
    table = stream.table
    late = next(k for k in table.senders.tolist() if table.prefix_s[k] > 0.005)
    flight, wire = sent(stream)
    rtt = np.array([stream.scenario.link.rtt_s])
    flight.chosen(np.array([1]), np.array([late]), np.array([10.0]), np.zeros(1), rtt)
    held = np.array([float(table.up_bytes[sender(stream)])])
    busy_s, likelihood, _ = flight.at_levels(RATES, np.array([10.0]), held)
    behind = 8 * float(stream.link_model.on_wire(table.up_bytes[late])) / RATES
    prefix_s = float(table.mean_prefix_s[late])
    assert busy_s[0] == pytest.approx(np.maximum(8 * wire / RATES, prefix_s) + behind)
    assert likelihood[0].tolist() == [1, 1, 1]


def test_silence_speaks_against_the_rates_at_which_the_answer_would_be_here(stream):
    flight, wire = sent(stream)
    plan = sender(stream)
    back_s = stream.scenario.link.rtt_s + stream.table.remote_s[plan] + LATE_S
    due_s = 10.0 + 8 * wire / RATES + back_s
    for now_s, silent in ((due_s[2] - 1e-6, []), (due_s[2] + 1e-6, [2]), (due_s[0] + 1, [0, 1, 2])):
        _, likelihood, _ = flight.at_levels(RATES, np.array([now_s]), np.array([1e5]))
        expected = [UNLIKELY if k in silent else 1.0 for k in range(3)]
        assert likelihood[0].tolist() == expected
    flight.ended(EVERYONE, np.array([7]))
    assert flight.at_levels(RATES, np.array([due_s[2] + 1]), np.array([1e5]))[1][0, 2] == UNLIKELY
    flight.ended(EVERYONE, np.array([0]))
    busy_s, likelihood, _ = flight.at_levels(RATES, np.array([10.0]), np.zeros(1))
    assert likelihood[0].tolist() == [1, 1, 1]
    assert busy_s[0].tolist() == [0, 0, 0]


def test_what_cancelled_frames_left_is_the_sockets_word(stream):
    flight = InFlight(stream, 1)
    busy_s, *_ = flight.at_levels(RATES, np.array([10.0]), np.array([5000.0]))
    assert busy_s[0] == pytest.approx(8 * 5000 / RATES)


def test_lanes_are_forgotten_one_by_one(stream):
    flight = InFlight(stream, 2)
    plan = np.full(2, sender(stream))
    flight.chosen(np.zeros(2, dtype=int), plan, np.full(2, 1.0), np.zeros(2), np.full(2, 0.04))
    flight.forget(np.array([True, False]))
    busy_s, *_ = flight.at_levels(RATES, np.full(2, 1.0), np.full(2, 1e6))
    assert (busy_s[1] > 0).all()
    # nothing of lane 0's own is left: the socket's bytes alone count there
    assert busy_s[0] == pytest.approx(8 * 1e6 / RATES)


def test_a_fallback_is_due_until_it_begins_or_its_frame_is_over():
    stream = load_setting(tidy("lte-mobilenet"))
    rescued = int(np.flatnonzero(np.isfinite(stream.table.rescue_s))[0])
    bare = int(np.flatnonzero(~np.isfinite(stream.table.rescue_s))[0])
    due_s, interval_s = fallback_due_s(stream), stream.interval_s
    assert interval_s < due_s

    def chosen(flight, frame, plan):
        moment = np.array([frame * interval_s])
        flight.chosen(np.array([frame]), np.array([plan]), moment, np.zeros(1), np.zeros(1))

    def states(flight, now_s):
        return flight.at_levels(RATES, np.array([now_s]), np.array([1e5]))[2][0].tolist()

    # at the first rates the upload takes beyond the deadline: nothing but the fallback answers
    takes_s = 8 * stream.link_model.on_wire(stream.table.up_bytes[[rescued]]) / RATES
    late = takes_s + stream.table.remote_s[rescued] > stream.scenario.frames.deadline_s
    assert late.any()
    assert not late.all()
    due = np.where(late, ALONE, SPARE).tolist()
    none = [NONE] * len(RATES)
    flight = InFlight(stream, 1)
    chosen(flight, 0, rescued)
    assert states(flight, interval_s) == due
    assert states(flight, due_s) == none
    flight.ended(EVERYONE, np.array([0]))
    assert states(flight, interval_s) == none
    chosen(flight, 1, bare)
    assert states(flight, 2 * interval_s) == none
    chosen(flight, 2, rescued)
    flight.changed(EVERYONE, np.array([2]), np.array([bare]))
    assert states(flight, 3 * interval_s) == none
    chosen(flight, 3, rescued)
    flight.forget(EVERYONE)
    assert states(flight, 4 * interval_s) == none
