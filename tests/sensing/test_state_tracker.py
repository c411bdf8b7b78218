import math

import numpy as np
import pytest

from artefacts import UsageError
from controller.interface import Measurement
from controller.sensing import make_detector
from controller.sensing.interface import DetectorStep
from controller.sensing.state_tracker import StateTracker
from traces.states import BandwidthState

LOW, MIDDLE, HIGH = (BandwidthState(m, 0.2 * m) for m in (5e5, 2e6, 8e6))
STATES = (LOW, MIDDLE, HIGH)


class Scripted:
    """A detector that answers what the test says."""

    name = "scripted"

    def __init__(self, answers):
        self._answers = list(answers)
        self.resets = 0

    def reset(self):
        self.resets += 1

    def update(self, value_bps, at_s):
        return self._answers.pop(0)


def answer(change, samples, mean, std=None):
    return DetectorStep(change, 1.0, samples, mean, 0.2 * mean if std is None else std, 0.0)


def observed(tracker, rate, at):
    return tracker.observe(Measurement(at, 10_000, 80_000 / rate))


def test_the_first_measurement_sets_the_state():
    tracker = StateTracker(STATES, make_detector("bayes"))
    assert tracker.mean_bps is None
    assert tracker.std_bps is None
    assert tracker.age_s(3.0) == math.inf
    assert observed(tracker, 7.5e6, 1.0)
    assert tracker.state_index == 2
    assert tracker.mean_bps == pytest.approx(7.5e6)
    assert tracker.age_s(3.0) == 2.0


def test_the_state_moves_only_with_a_change_point():
    drifting = [answer(False, 1, 2e6), answer(False, 3, 8e6), answer(True, 1, 8e6)]
    # looked up at 1 measurement, then at 2 and above; between doublings nothing moves
    drifting.insert(1, answer(False, 2, 2e6))
    tracker = StateTracker(STATES, Scripted(drifting))
    moves = [observed(tracker, 1e6, float(k)) for k in range(4)]
    assert moves == [True, False, False, True]
    assert tracker.state_index == 2
    assert tracker.changes == 1


def test_a_young_segment_is_looked_up_again_at_doublings():
    means = [2e6] + [5e5, 5e5] + [8e6] * 5
    script = [answer(False, 1, means[0]), answer(True, 1, means[1])]
    script += [answer(False, n, m) for n, m in enumerate(means[2:], start=2)]
    tracker = StateTracker(STATES, Scripted(script))
    seen = []
    for k in range(len(script)):
        observed(tracker, 1e6, float(k))
        seen.append(tracker.state_index)
    # samples:   1  1  2  3  4  5  6  7 -> looked up at 1, 1, 2, 4
    assert seen == [1, 0, 0, 0, 2, 2, 2, 2]


def test_a_change_within_the_same_state_is_no_move():
    tracker = StateTracker(STATES, Scripted([answer(False, 1, 2e6), answer(True, 1, 2.2e6)]))
    assert observed(tracker, 1e6, 0.0)
    assert not observed(tracker, 1e6, 1.0)
    assert tracker.changes == 1


@pytest.mark.parametrize("name", ["bayes", "ewma"])
def test_it_follows_a_link_through_its_states(name):
    rng = np.random.default_rng(2)
    rates = np.repeat([2e6, 8e6, 5e5], 60) * np.exp(0.15 * rng.standard_normal(180))
    tracker = StateTracker(STATES, make_detector(name))
    states, moves = [], 0
    for k, rate in enumerate(rates):
        moves += observed(tracker, rate, float(k))
        states.append(tracker.state_index)
    assert (states[59], states[119], states[179]) == (1, 2, 0)
    assert moves <= 8


def test_states_are_nearest_in_log_mean_then_in_variation():
    tracker = StateTracker(STATES, make_detector("bayes"))
    # halfway between 2 and 8 Mbit/s by factors is 4
    assert [tracker.nearest(m, 0.2 * m) for m in (1e3, 3.9e6, 4.1e6, 1e9)] == [0, 1, 2, 2]
    calm, wild = BandwidthState(2e6, 1e5), BandwidthState(2e6, 1.5e6)
    tracker = StateTracker((calm, wild), make_detector("bayes"))
    assert tracker.nearest(2e6, 2e5) == 0
    assert tracker.nearest(2e6, 1.4e6) == 1
    assert [tracker.nearest(2e6, s) for s in (7.9e5, 8.1e5)] == [0, 1]


def test_blind_it_keeps_the_state_and_after_it_takes_the_new_one_at_once():
    tracker = StateTracker(STATES, make_detector("bayes"))
    for k in range(30):
        observed(tracker, 8e6, 0.5 * k)
    assert tracker.state_index == 2
    assert tracker.age_s(600.0) == pytest.approx(585.5)
    moves = [observed(tracker, 5e5, 600.0 + 0.5 * k) for k in range(3)]
    assert any(moves)
    assert tracker.state_index == 0


def test_reset_resets_the_detector():
    detector = Scripted([answer(False, 1, 8e6)] * 2)
    tracker = StateTracker(STATES, detector)
    observed(tracker, 8e6, 0.0)
    tracker.reset()
    assert detector.resets == 2
    assert tracker.mean_bps is None
    assert tracker.state_index == 0
    assert observed(tracker, 8e6, 0.0)


def test_refuses_states_that_are_none():
    with pytest.raises(UsageError, match="found no bandwidth states"):
        StateTracker((), make_detector("bayes"))
    with pytest.raises(UsageError, match="state 1: found mean 0"):
        StateTracker((LOW, BandwidthState(0.0, 1.0)), make_detector("bayes"))
