"""How fast a device is follows from its newest jobs, and from no single one."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.sensing.pace import ENOUGH, NEWEST, STALE_S, DevicePace

FIRST = np.array([True, False])


def test_too_few_jobs_say_nothing():
    pace = DevicePace(2)
    for count in range(ENOUGH):
        assert pace.at(10.0).tolist() == [1.0, 1.0], count
        pace.took(FIRST, np.full(2, 2.0), 9.5)
    assert pace.at(10.0).tolist() == [2.0, 1.0], "the other lane has no jobs"
    pace.reset(FIRST)
    assert pace.at(10.0).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0.1, 10.0), min_size=ENOUGH, max_size=20))
def test_it_is_the_median_of_the_newest(ratios):
    pace = DevicePace(1)
    for ratio in ratios:
        pace.took(np.ones(1, dtype=bool), np.array([ratio]), 9.5)
    assert pace.at(10.0)[0] == pytest.approx(statistics.median(ratios[-NEWEST:]))


def test_one_job_that_was_held_up_changes_nothing_and_a_slow_state_shows_within_three():
    pace, one = DevicePace(1), np.ones(1, dtype=bool)
    for _ in range(NEWEST):
        pace.took(one, np.ones(1), 9.5)
    pace.took(one, np.full(1, 40.0), 9.5)
    assert pace.at(10.0)[0] == 1.0
    for _ in range(3):
        pace.took(one, np.full(1, 1.5), 9.5)
    assert pace.at(10.0)[0] == pytest.approx(1.5)


def test_who_computes_nothing_for_a_while_counts_as_the_profile_says():
    pace, one = DevicePace(1), np.ones(1, dtype=bool)
    for _ in range(NEWEST):
        pace.took(one, np.full(1, 9.0), 2.0)
    assert pace.at(2.0 + STALE_S)[0] == 9.0
    assert pace.at(2.01 + STALE_S)[0] == 1.0
    pace.took(one, np.full(1, 9.0), 4.0)
    assert pace.at(4.0)[0] == 9.0
