"""Planning over the queue: what it prefers, and that it earns more than looking at one frame."""

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidy import tidy

from artefacts import UsageError
from controller.physics import TraceBank
from controller.planners.due_fallbacks import fallback_states
from controller.planners.queue_values import (
    WORST,
    PricedAdvantages,
    QueueAdvantages,
    Solving,
    _distinct,
    _Queue,
    solve,
    solve_prices,
)
from controller.policies.observation import ObservationEncoder
from controller.registry import tuned
from controller.scenarios import load_setting, read_scenario
from controller.scenarios.rewards import expectation
from controller.sensing.belief import BandwidthBelief, Counting
from envs.observed import ObservedLanes, PlanningAlone, mean_reward
from experiments.analyses.information_limit import limits
from traces.trace import BandwidthTrace

pytestmark = pytest.mark.slow

COARSE = Solving(5, sweeps=60)


@pytest.fixture(scope="module")
def stream():
    return load_setting(tidy("3g-alexnet"))


def belief_of(rates_bps, seed=0):
    """Of a link that jumps among some rates every second."""
    rng = np.random.default_rng(seed)
    traces = [
        BandwidthTrace(f"t{k}", np.arange(200.0), rng.choice(rates_bps, 200), 200.0)
        for k in range(3)
    ]
    return BandwidthBelief.from_traces(traces, Counting(4, (0.0, 0.1, 1.0, 4.0), 0.1)), traces


@pytest.fixture(scope="module")
def planned(stream):
    belief, traces = belief_of([0.0, 3e5, 2e6, 2e7])
    return belief, traces, solve(stream, belief, COARSE)


def test_one_plan_is_best_everywhere_and_the_others_are_below(planned, stream):
    _, _, advantages = planned
    states = fallback_states(stream)
    shape = (5, len(advantages.uplink_s), states, 4, len(stream.table))
    assert advantages.table.shape == shape
    assert advantages.table.max(axis=-1) == pytest.approx(np.zeros(advantages.table.shape[:-1]))
    assert advantages.table.min() >= WORST


def test_a_dead_link_is_not_used_and_a_fast_one_is(planned, stream):
    _, _, advantages = planned
    best = advantages.table.argmax(axis=-1)
    assert stream.table.local[best[0, 0, 0, 0]]
    assert not stream.table.local[best[0, 0, 0, -1]]


def test_between_grid_points_advantages_are_between(planned):
    _, _, advantages = planned
    d, u = advantages.device_s[1:3], advantages.uplink_s[1:3]
    one, two = np.array([d[0]]), np.array([d[1]])
    level, none = np.array([2]), np.array([0])
    ends = [advantages.at(x, np.array([u[0]]), none, level)[0] for x in (one, two)]
    middle = advantages.at((one + two) / 2, np.array([u[0]]), none, level)[0]
    assert ends[0] == pytest.approx(advantages.table[1, 1, 0, 2])
    assert middle == pytest.approx((ends[0] + ends[1]) / 2, abs=1e-6)
    far = advantages.at(np.array([1e9]), np.array([np.inf]), none, level)[0]
    assert far == pytest.approx(advantages.table[-1, -1, 0, 2])


def test_a_belief_is_averaged_lane_by_lane():
    rng = np.random.default_rng(0)
    table = -rng.random((3, 4, 2, 5, 6)).astype(np.float32)
    made = QueueAdvantages(np.linspace(0, 0.1, 3), np.linspace(0, 0.2, 4), table)
    probability = rng.dirichlet(np.ones(5), 7)
    device_s, uplink_s = rng.uniform(0, 0.1, 7), rng.uniform(0, 0.2, (7, 5))
    due = rng.integers(0, 3, (7, 5))  # one state more than was planned with: the last of them
    found = made.of(probability, device_s, uplink_s, due)
    believed = np.where(probability >= 0.004, probability, 0)
    believed /= believed.sum(axis=1, keepdims=True)
    for lane in range(7):
        wanted = sum(
            believed[lane, k]
            * made.at(device_s[[lane]], uplink_s[[lane], k], due[[lane], k], np.array([k]))[0]
            for k in range(5)
            if probability[lane, k] >= 0.004
        )
        assert found[lane] == pytest.approx(wanted, abs=1e-5)


def test_planning_earns_more_than_the_best_for_each_frame_alone(stream, planned):
    """On links between slow and fast, where what one frame takes is missing for the next."""
    belief, traces, advantages = planned

    myopic = np.stack([expectation(stream, belief.rates_bps).reward] * 5)
    alone = myopic - myopic.max(axis=-1, keepdims=True)
    shape = advantages.table.shape
    greedy = QueueAdvantages(
        advantages.device_s, advantages.uplink_s,
        np.broadcast_to(alone[:, None, None], shape).astype(np.float32),
    )  # fmt: skip
    earned = {}
    for name, used in (("planning", advantages), ("alone", greedy)):
        encoder = ObservationEncoder(stream, belief, used)
        lanes = ObservedLanes(
            stream, TraceBank(traces), 3, encoder, "policy", np.random.default_rng(0), 0.5
        )
        earned[name] = float(mean_reward(lanes, PlanningAlone(), 1500).mean())
    assert earned["planning"] > earned["alone"] + 0.02


def test_the_closed_loop_has_no_queue():
    closed = load_setting(read_scenario("edgent"))
    belief, _ = belief_of([3e5, 2e6, 2e7])
    advantages = solve(closed, belief)
    assert advantages.table.shape[:3] == (1, 1, 1)
    reward = expectation(closed, belief.rates_bps).reward
    assert np.array_equal(advantages.table[0, 0, 0].argmax(axis=1), reward.argmax(axis=1))


def test_the_belief_is_sharp_at_once_and_forgets():
    belief, _ = belief_of([3e5, 2e6, 2e7])
    assert belief.kernels.sum(axis=-1) == pytest.approx(np.ones(belief.kernels.shape[:2]))
    for rate in (3e5, 2e6, 2e7):
        level = int(belief.level(rate))
        fresh, old = belief.of(rate, 0.0), belief.of(rate, 1.5)
        assert fresh.argmax() == level
        assert fresh[level] > old[level]
        assert belief.of(rate, 1e6) == pytest.approx(belief.blind)
    both = belief.of(np.array([3e5, 2e7]), np.array([0.05, 0.7]))
    assert both[0] == pytest.approx(belief.of(3e5, 0.05))
    assert both[1] == pytest.approx(belief.of(2e7, 0.7))


def test_knowing_the_present_is_worth_something_and_the_future_more(
    planned, random_policy, monkeypatch
):
    """In the shipped world: where plans cost what profiles say, a kept fallback is nearly free, and
    knowing the link is worth little.
    """
    # the baselines' tuning is no part of this: on few frames it takes seconds
    monkeypatch.setattr(tuned, "FIRST_FRAMES", 50)
    monkeypatch.setattr(tuned, "CHOICE_FRAMES", 50)
    belief, traces, _ = planned
    stream = load_setting(read_scenario("3g-alexnet"))
    advantages, zero = solve(stream, belief, COARSE), np.zeros(1)
    priced = PricedAdvantages(
        zero, zero, advantages.device_s, advantages.uplink_s, advantages.table[None, None]
    )
    policy = dataclasses.replace(random_policy(stream), belief=belief, advantages=priced)
    found = limits(stream, policy, tuple(traces), 200, (0.0, 0.2, 2.0))
    assert found.bound >= found.chosen > found.informed > found.planning > found.learned
    anywhere, sent = found.informed_late[:3], found.informed_late[3:]
    assert [one.delay_s for one in sent] == [0.0, 0.2, 2.0]
    assert [one.only_sent for one in found.informed_late] == [False] * 3 + [True] * 3
    assert anywhere[0].reward == found.informed
    assert anywhere[0].gap_closed == found.gap_of_informed
    assert anywhere[0].reward > anywhere[1].reward > anywhere[2].reward
    assert sent[0].reward <= anywhere[0].reward
    assert sent[0].reward > sent[2].reward
    assert found.informed == pytest.approx(np.mean(found.per_trace["informed"]))


def test_a_link_that_is_dead_for_two_fifths_of_the_time_is_believed_so():
    """Quantiles of rates that are the same fall together; what they stand for must not vanish."""
    rng = np.random.default_rng(0)
    rates = np.where(rng.random(2000) < 0.4, 0.0, rng.uniform(1e6, 5e6, 2000))
    trace = BandwidthTrace("t", np.arange(2000.0), rates, 2000.0)
    belief = BandwidthBelief.from_traces([trace])
    assert (np.diff(belief.rates_bps) >= 0).all()
    dead = belief.rates_bps == 0
    assert belief.blind[dead].sum() == pytest.approx(0.4, abs=0.05)
    assert belief.kernels.sum(axis=-1) == pytest.approx(np.ones(belief.kernels.shape[:2]))
    assert belief.of(3e6, 10.0)[dead].sum() == pytest.approx(0.4, abs=0.05)
    assert belief.of(0.0, 0.1)[dead].sum() > 0.9


@pytest.fixture(scope="module")
def priced(stream, planned):
    belief = planned[0]
    grids = np.array([0.0, 0.5, 2.0]), np.array([0.0, 40.0])
    reported = []
    return solve_prices(stream, belief, *grids, COARSE, reported.append), reported


def test_prices_between_those_planned_for_rank_plans_as_mixed_values_do(stream, planned, priced):
    found, reported = priced
    assert reported == pytest.approx([k / 6 for k in range(1, 7)])
    at_point = found.at(0.5, 40.0)
    alone = solve(stream.at_prices(0.5, 40.0), planned[0], COARSE)
    assert np.array_equal(at_point.table, alone.table)
    between = found.at(1.25, 10.0)
    mixed = 0.25 * (found.table[1, 1] + found.table[2, 1])
    mixed = mixed + 0.75 * (found.table[1, 0] + found.table[2, 0])
    mixed = 0.5 * mixed
    assert between.table == pytest.approx(mixed - mixed.max(axis=-1, keepdims=True), abs=1e-5)
    # what is chosen there costs next to nothing against planning at those very prices
    exact = solve(stream.at_prices(1.25, 10.0), planned[0], COARSE).table
    lost = -np.take_along_axis(exact, between.table.argmax(axis=-1)[..., None], -1)
    assert lost.mean() < 0.003
    assert between.table.max(axis=-1) == pytest.approx(np.zeros(between.table.shape[:-1]))
    for pair in ((2.1, 0.0), (0.0, 40.5), (-0.1, 0.0)):
        assert not found.covers(*pair)
        with pytest.raises(UsageError, match="expected 0 to 2 and 0 to 40"):
            found.at(*pair)


def test_who_pays_for_bytes_sends_fewer(stream, planned, priced):
    sent = []
    for megabyte in (0.0, 40.0):
        found = priced[0].at(0.0, megabyte)
        best = found.table[0, 0].argmax(axis=-1)
        sent.append(float(stream.table.up_bytes[best].sum()))
    assert sent[1] < sent[0]


def test_what_many_pairs_lead_to_is_worked_out_once_and_nothing_else_changes(stream, planned):
    """A sweep over all pairs by the definition, against that over what differs."""
    queue = _Queue(stream, planned[0], COARSE)
    after = np.random.default_rng(0).random(queue._reward[..., 0].size).astype(np.float32)
    one, width = queue._flags, queue._flags * len(queue._uplink_s)
    for landings, which in queue._landings:
        wanted = np.zeros(which.shape, dtype=np.float32)
        for weight, *there in landings:
            at, dw, uw = (part[which] for part in there)
            near = (1 - uw) * after[at] + uw * after[at + one]
            far = (1 - uw) * after[at + width] + uw * after[at + width + one]
            wanted += np.float32(weight) * ((1 - dw) * near + dw * far)
        assert np.array_equal(queue._later(after, (landings, which)), wanted)
        assert len(landings[0][1]) < which.size / 3


def test_landings_that_differ_in_any_part_stay_apart():
    rng = np.random.default_rng(0)
    at = rng.integers(0, 2, (2, 3, 400))
    weights = rng.choice(np.array([0.0, 0.25, 0.5], dtype=np.float32), (2, 2, 3, 400))
    made = [(0.5, at[k], weights[0, k], weights[1, k]) for k in range(2)]
    kept, which = _distinct(made)
    assert which.shape == (3, 400)
    for (_, *parts), (_, *own) in zip(made, kept, strict=True):
        assert all(np.array_equal(o[which], part) for part, o in zip(parts, own, strict=True))
    rows = np.stack([part.ravel().astype(float) for _, *three in made for part in three])
    assert len(kept[0][1]) == len(np.unique(rows, axis=1).T)


@given(st.floats(1e3, 1e8), st.floats(0.0, 40.0))
def test_a_rate_between_two_levels_is_something_of_both(rate, age):
    belief = belief_of([3e5, 1e6, 2e6, 2e7])[0]
    rates, ages = np.array([rate]), np.array([age])
    near, own = belief.near(rates, ages)[0], int(belief.level(rate))
    plain = belief.of(rates, ages)[0]
    assert near.sum() == pytest.approx(1.0)
    assert (near >= 0).all()
    moved = np.flatnonzero(np.abs(near - plain) > 1e-12)
    if len(moved):
        other = own + 1 if rate > belief.rates_bps[own] else own - 1
        assert set(moved) == {own, other}
        logs = np.log(belief.rates_bps)
        share = (np.log(rate) - logs[own]) / (logs[other] - logs[own])
        assert plain[own] - near[own] == pytest.approx(min(share, 1.0) * plain[own])


def test_the_rates_within_a_level_lie_between_its_edges():
    belief = belief_of([3e5, 1e6, 2e6, 2e7])[0]
    below, middle, above = belief.within
    assert np.array_equal(middle, belief.rates_bps)
    assert (below <= middle).all()
    assert (middle <= above).all()
    assert (below[1:] >= belief.edges_bps - 1e-6).all()
    assert (above[:-1] <= belief.edges_bps + 1e-6).all()
    assert below[0] == pytest.approx(belief.rates_bps[0] / 3)


def test_long_intervals_move_levels_by_the_kernel_of_that_lag(stream, planned):
    belief = planned[0]
    frames = stream.scenario.frames
    for rate_fps, wanted in (
        (1.0, belief.kernels[2]),
        (20.0, 0.5 * (np.eye(4) + belief.kernels[1])),
    ):
        slow = msgspec.structs.replace(
            stream.scenario, frames=msgspec.structs.replace(frames, rate_fps=rate_fps)
        )
        queue = _Queue(dataclasses.replace(stream, scenario=slow), belief, Solving(3, sweeps=1))
        assert queue._moves == pytest.approx(wanted)
