"""What plans are worth on a device that is slower than its profile says."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from tidy import tidy

from controller.interface import Measurement, Situation
from controller.planners.robust import RobustPlanner
from controller.planners.slowed import BACKLOGS, PACES, PacedValues
from controller.policies.learned import LearnedController
from controller.scenarios import at_pace, load_setting
from controller.scenarios.rewards import expected_rewards
from controller.scenarios.world import NodeWorldSection, StateSection, WorldSection
from controller.sensing.belief import BandwidthBelief
from controller.sensing.pace import DevicePace, relative_pace
from experiments.evaluation.evaluator import evaluate
from traces.trace import BandwidthTrace

SLOW = StateSection(factor=1.5, mean_s=1e5, every_s=1e-3)


@pytest.fixture(scope="module")
def setting():
    return load_setting(tidy("3g-mobilenet"))


@pytest.fixture(scope="module")
def belief():
    rng = np.random.default_rng(0)
    rates = 10.0 ** np.clip(5.7 + np.cumsum(rng.normal(0.0, 0.1, 600)), 4.5, 6.8)
    return BandwidthBelief.from_traces([BandwidthTrace("walk", np.arange(600.0), rates, 600.0)])


@pytest.fixture(scope="module")
def values(setting, belief):
    return PacedValues(setting, belief)


def test_values_are_the_physics_with_the_devices_seconds_stretched(setting, belief, values):
    deadline_s = setting.scenario.frames.deadline_s
    for pace in PACES[1:]:
        for slot in (0, 3, BACKLOGS - 1):
            backlog_s = slot * deadline_s / (BACKLOGS - 1)
            found = values.at(backlog_s, pace)
            expected = expected_rewards(setting, belief.rates_bps, backlog_s, pace)
            assert found == pytest.approx(expected, abs=1e-9)
    between = values.at(0.0, 1.25)
    assert between == pytest.approx((values.at(0.0) + values.at(0.0, 1.5)) / 2)
    assert values.at(0.0, 99.0) == pytest.approx(values.at(0.0, PACES[-1]))
    # what the device computes nothing of loses nothing
    senders = np.flatnonzero((setting.table.mean_prefix_s == 0) & ~np.isfinite(
        setting.table.rescue_s))  # fmt: skip
    assert values.at(0.0, 2.25)[:, senders] == pytest.approx(values.at(0.0)[:, senders])


def test_what_is_lost_is_of_slow_lanes_alone_and_the_same_for_many(belief, values):
    rng = np.random.default_rng(1)
    believed = rng.dirichlet(np.ones(len(belief.rates_bps)), 40).astype(np.float32)
    backlog_s, pace = rng.uniform(0.0, 0.1, 40), rng.uniform(0.9, 4.0, 40)
    pace[:5] = 1.0
    found = values.lost(believed, backlog_s, pace)
    assert not found[:5].any()
    for k in range(40):
        expected = believed[k] @ (values.at(backlog_s[k], pace[k]) - values.at(backlog_s[k]))
        assert found[k] == pytest.approx(expected, abs=1e-5)


def test_a_slow_device_plans_less_of_its_own(stream, belief, random_policy):
    """Both planners choose what fits the pace, where what they chose before would not."""
    table, deadline_s = stream.table, stream.scenario.frames.deadline_s
    policy = random_policy(stream).planned()
    for made in (RobustPlanner(stream, belief), LearnedController(policy, stream)):
        made.reset()
        made.observe(Measurement(0.0, 5000, 0.1))
        usual = Situation(0.01, 0, deadline_s, 0.0, 0, 0.05)
        before = made.decide(usual)
        after = made.decide(replace(usual, now_s=0.02, frame=1, device_pace=2.25))
        assert table.mean_prefix_s[after] < table.mean_prefix_s[before], made.name


@pytest.mark.slow
def test_a_device_that_is_half_as_fast_again_is_hardly_ever_late(belief, monkeypatch):
    """As a daemon runs, on a link that carries a picture in time. Where the link does so for half
    the time only, a device that does not know its pace is late twice as often.
    """
    # computing times as the profile says but for the state: what is late is late by the pace
    world = WorldSection(device=NodeWorldSection(spread=(1.0, 1.0), shared=SLOW))
    setting = load_setting(msgspec.structs.replace(tidy("3g-mobilenet"), world=world))
    steps = np.arange(0.0, 60.0, 5.0)

    def late(slowest_bps, paces=DevicePace):
        rates = np.where(np.arange(len(steps)) % 2, slowest_bps, 6e6)
        trace = BandwidthTrace("on and off", steps, rates, 60.0)
        with monkeypatch.context() as patched:
            patched.setattr("envs.simulator.DevicePace", paces)
            planner = RobustPlanner(setting, belief)
            (run,) = evaluate(setting, (trace,), lambda _: planner, max_frames=1000, as_daemon=True)
        return 1.0 - run.in_time.mean()

    class Unaware(DevicePace):
        def at(self, now_s):
            return np.ones_like(super().at(now_s))

    assert late(8e5) <= 0.01
    assert late(3e5, Unaware) > 2.0 * late(3e5)


def test_what_jobs_always_take_is_not_slow():
    assert relative_pace(1.5, 1.5) == 1.0
    assert relative_pace(2.25, 1.5) == 1.5
    assert relative_pace(1.0, 1.5) == 1.0, "nothing is known: the device is as it always is"
    assert relative_pace(np.array([0.5, 1.0, 2.0]), 0.5).tolist() == [1.0, 1.0, 4.0]


def test_plans_stay_the_same_at_another_pace_and_cost_more_on_the_device(setting):
    slow, table = at_pace(setting, 1.5), setting.table
    assert slow.table.plans == table.plans
    assert slow.table.prefix_s == pytest.approx(1.5 * table.prefix_s)
    assert slow.table.rescue_s == pytest.approx(1.5 * table.rescue_s)
    assert slow.table.up_bytes == pytest.approx(table.up_bytes)
    assert slow.table.accuracy == pytest.approx(table.accuracy)
    assert slow.table.cost_of("compute", 1) == pytest.approx(table.cost_of("compute", 1))
    assert at_pace(setting, 1.0) is setting


def test_a_planner_that_knows_its_devices_pace_decides_as_on_a_profile_of_it(setting, belief):
    own = RobustPlanner(setting, belief, pace=1.5)
    profiled = RobustPlanner(at_pace(setting, 1.5), belief)
    for rate_bps in (1e5, 6e5, 2e6, 8e6):
        measured = Measurement(0.0, int(rate_bps / 8), 1.0)
        for pace, relative in ((1.0, 1.0), (1.5, 1.0), (2.25, 1.5)):
            at = Situation(0.01, 0, setting.scenario.frames.deadline_s, 0.02, 0, 0.03, pace)
            own.reset()
            profiled.reset()
            own.observe(measured)
            profiled.observe(measured)
            there = replace(at, device_pace=relative)
            assert own.expected(at) == pytest.approx(profiled.expected(there))
            assert own.decide(at) == profiled.decide(there)
