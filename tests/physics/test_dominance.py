"""Which plans no other beats: as comparing every two of them says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from controller.physics.dominance import (
    unbeaten,
    undominated_beyond,
    undominated_idle,
    undominated_streamed,
)
from controller.scenarios import load_setting, read_scenario

COSTS = arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)),
               elements=st.integers(0, 4).map(float))  # fmt: skip


@given(costs=COSTS)
def test_rows_are_those_that_none_equals_or_undercuts(costs):
    kept = []
    for p, own in enumerate(costs):
        no_worse = [q for q, other in enumerate(costs) if q != p and (other <= own).all()]
        if not any(not (own <= costs[q]).all() or q < p for q in no_worse):
            kept.append(p)
    assert unbeaten(costs).tolist() == kept


def test_many_rows_are_compared_block_by_block():
    costs = np.random.default_rng(0).integers(0, 9, (900, 3)).astype(float)
    kept = set(unbeaten(costs).tolist())
    for p, own in enumerate(costs):
        beaten = any((costs[q] <= own).all() for q in kept if q != p)
        assert beaten is (p not in kept)


@pytest.fixture(scope="module", params=["3g-alexnet", "lte-mobilenet"])
def table(request):
    return load_setting(read_scenario(request.param)).candidates


def seconds_least(seconds, pause):
    return np.where(pause > 0, pause, seconds)


def beats_in_a_stream(table, q, p, rtt_s):
    """Whether q needs no more of anything than p, and answers as well at every moment."""
    if table.accuracy[q] < table.accuracy[p]:
        return False
    frugal = (table.costs[q] <= table.costs[p] + 1e-12).all()
    if table.local[p]:
        return bool(table.local[q] and frugal)
    if table.local[q]:
        first = table.wait_s[p, 0] if table.wait_exit[p, 0] >= 0 else table.rescue_s[p]
        away_s = rtt_s + table.remote_s[p] + table.suffix_s[p]
        soonest = table.prefix_s[p] + min(0.0 if np.isinf(first) else first, away_s)
        return bool(table.prefix_s[q] <= soonest + 1e-12)
    if (table.wait_exit[q] != table.wait_exit[p]).any():
        return False
    if np.isfinite(table.rescue_s[q]) != np.isfinite(table.rescue_s[p]):
        return False
    for seconds, pause in (
        (table.wait_s, table.wait_pause_s), (table.rescue_s, table.rescue_pause_s),
    ):  # fmt: skip
        least = seconds_least(seconds, pause)
        if (seconds[q] > seconds[p] + 1e-12).any() or (least[q] > least[p] + 1e-12).any():
            return False
    return bool(frugal)


def beats_idle(table, q, p, rtt_s):
    idle, moved = table.idle_s(rtt_s), table.up_bytes + table.down_bytes
    return bool(
        idle[q] <= idle[p] + 1e-12
        and moved[q] <= moved[p]
        and table.accuracy[q] >= table.accuracy[p]
    )


@pytest.mark.parametrize(
    ("kept", "beats"),
    [(undominated_streamed, beats_in_a_stream), (undominated_idle, beats_idle)],
)
def test_plans_are_those_that_none_beats(table, kept, beats):
    stays = set(kept(table, 0.04).tolist())
    every = range(len(table))
    for p in every:
        rivals = [q for q in every if q != p and beats(table, q, p, 0.04)]
        gone = any(not beats(table, p, q, 0.04) or q < p for q in rivals)
        assert gone is (p not in stays), table.plans[p]
    assert 0 < len(stays) < len(table)


def test_beyond_the_device_only_the_sum_counts(table):
    """Of one further node that is what it takes: nothing more is left out than in a stream."""
    stays = undominated_beyond(table)
    assert set(undominated_streamed(table, 0.04)) <= set(stays.tolist())
    assert set(np.flatnonzero(table.local)) <= set(stays.tolist())
