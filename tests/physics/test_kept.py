"""Time that is kept for fallbacks: what goes before them, what behind, and what is given up."""

import numpy as np
import pytest

from controller.physics.kept import KeptTimes

INF = np.inf
ONE = np.array([True])


def kept(begin=1.0, latest=1.1, over=INF, seconds=0.5, pause=0.2, most=2):
    times = KeptTimes.none((1,), most)
    times.keep(ONE, *(np.array([value]) for value in (begin, latest, over, seconds, pause)))
    return times


def begins(times, at, expected, limit=INF):
    return float(times.begin(ONE, np.array([at]), np.array([expected]), limit)[0])


@pytest.mark.parametrize(
    ("case", "at", "expected", "limit", "begin", "left"),
    [
        ({}, 0.2, 0.3, INF, 0.2, 1.0),  # it is through before the fallback begins
        ({}, 0.9, 0.2, INF, 0.9, 1.0),  # the fallback may still begin later
        ({}, 0.9, 0.3, INF, 1.4, INF),  # else it is computed at once, and the job follows
        ({"over": 1.05}, 0.9, 0.3, INF, 1.1, INF),  # given up where it pauses
        ({}, 0.9, 0.3, 1.6, 0.9, 1.0),  # a job that would then be late goes first
        ({}, 1.2, 0.1, INF, 1.5, INF),  # it is under way
        ({"over": 1.1}, 1.15, 0.1, INF, 1.2, INF),  # and is given up
        ({}, 1.7, 0.1, INF, 1.7, INF),  # it is through
        ({"over": 0.8}, 0.9, 0.5, INF, 0.9, INF),  # its frame was answered before it began
    ],
)
def test_a_job_and_the_fallback_of_an_earlier_frame(case, at, expected, limit, begin, left):
    times = kept(**case)
    assert begins(times, at, expected, limit) == pytest.approx(begin)
    assert times.begin_s[-1, 0] == left


def test_a_fallback_comes_behind_a_job_or_never():
    times = kept()
    times.ended(ONE, np.array([1.05]))
    assert times.begin_s[-1, 0] == 1.05
    times.ended(ONE, np.array([1.2]))
    assert times.begin_s[-1, 0] == INF


@pytest.mark.parametrize(
    ("case", "free", "through"),
    [({}, 0.2, 1.5), ({}, 1.2, 1.7), ({"over": 1.05}, 0.2, 1.2), ({"over": 0.8}, 0.2, 0.2),
     ({"begin": INF}, 0.2, 0.2)],
)  # fmt: skip
def test_a_device_is_through_when_it_has_computed_what_is_due(case, free, through):
    assert kept(**case).through_s(np.array([free])).tolist() == pytest.approx([through])


def test_lanes_without_a_job_are_left_alone():
    times = kept()
    none = np.array([False])
    assert times.begin(none, np.array([1.2]), np.array([1.0]), INF).tolist() == [1.2]
    times.ended(none, np.array([5.0]))
    assert times.begin_s[-1, 0] == 1.0


def test_what_is_under_way_is_expected_to_take_all_its_time():
    times = kept(over=1.1)
    assert times.running_until_s(np.array([0.9]))[0] == -INF
    assert times.running_until_s(np.array([1.15]))[0] == 1.5
    assert times.running_until_s(np.array([1.25]))[0] == -INF  # given up at 1.2


def test_the_oldest_makes_room_and_a_later_fallback_follows_an_earlier_one():
    times = kept()
    assert times.behind(np.array([1.1])).tolist() == [1.5]
    for begin in (2.0, 3.0):
        rest = (np.array([value]) for value in (begin + 0.1, INF, 0.5, 0.2))
        times.keep(ONE, np.array([begin]), *rest)
    assert times.begin_s[:, 0].tolist() == [2.0, 3.0]
    assert begins(times, 2.1, 0.1) == 2.5
    times.forget(ONE)
    assert begins(times, 3.1, 0.1) == 3.1
