"""Change points of many streams at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.sensing.level_shifts import ALARM, SLACK, LevelShifts

EVERYONE = np.ones(2, dtype=bool)


def observed(shifts, lane, values, begin_s=0.0, gap_s=0.1):
    for k, value in enumerate(values):
        shifts.measured(np.array([lane]), np.array([begin_s + k * gap_s]), np.array([value]))


def test_the_level_is_the_mean_since_the_last_change_and_lanes_are_apart():
    shifts = LevelShifts(2)
    shifts.reset(EVERYONE, 0.5)
    assert shifts.level.tolist() == [0.5, 0.5]
    observed(shifts, 0, [1.0, 1.1, 0.9, 1.0])
    assert shifts.level[0] == pytest.approx(1.0)
    assert shifts.since_s.tolist() == [0.0, -np.inf]
    observed(shifts, 0, [-1.0], begin_s=7.0)
    assert shifts.since_s[0] == 7.0
    assert shifts.level[0] == -1.0
    observed(shifts, 0, [-1.1, -0.9], begin_s=8.0)
    assert shifts.level[0] == pytest.approx(-1.0)
    assert shifts.since_s[0] == 7.0
    assert shifts.level[1] == 0.5
    shifts.reset(np.array([True, False]), 0.0)
    assert shifts.since_s[0] == -np.inf


@given(st.lists(st.floats(-SLACK, SLACK), min_size=1, max_size=200))
def test_what_wavers_within_the_slack_is_no_change(wavering):
    shifts = LevelShifts(1)
    shifts.reset(np.ones(1, dtype=bool), 0.0)
    # the level itself may move by the slack: the first is alike all that come
    observed(shifts, 0, [0.0] * 64 + [0.5 * value for value in wavering])
    assert shifts.since_s[0] == 0.0


@given(st.floats(2 * SLACK + 0.05, 3.0), st.sampled_from([-1.0, 1.0]))
def test_a_lasting_step_is_found_within_the_measurements_that_the_alarm_needs(step, sign):
    shifts = LevelShifts(1)
    shifts.reset(np.ones(1, dtype=bool), 0.0)
    observed(shifts, 0, [0.0] * 200)
    # the old mean follows a little, by 1 / 64 each
    needed = int(np.ceil(ALARM / (0.8 * step - SLACK))) + 1
    observed(shifts, 0, [sign * step] * needed, begin_s=100.0)
    assert shifts.since_s[0] >= 100.0


@pytest.mark.parametrize(("times", "changes"), [(7.0, False), (8.0, True), (1 / 8, True)])
def test_one_measurement_changes_the_level_at_an_eighth_or_eight_fold(times, changes):
    shifts = LevelShifts(1)
    shifts.reset(np.ones(1, dtype=bool), 0.0)
    observed(shifts, 0, [0.0] * 100)
    observed(shifts, 0, [np.log10(times) / 0.75], begin_s=50.0)
    assert (shifts.since_s[0] == 50.0) == changes
