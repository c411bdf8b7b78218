"""The contract every controller keeps, and what each is for."""

import dataclasses

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.interface import FrameResult, Measurement, Situation
from controller.planners.configuration_map import build_map, read_map, write_map
from controller.planners.deadline_rule import OnlineAlgorithm1, StaticAlgorithm1, choose_plan
from controller.planners.rate_rule import RateRule
from controller.planners.robust import RobustPlanner
from controller.policies.features import FEATURES, NAMES, Observer, Scales
from controller.policies.learned import LearnedController
from controller.policies.observation import CONTEXT
from controller.registry import SHIPPED
from controller.scenarios import read_scenario
from controller.scenarios.rewards import expected_rewards
from controller.sensing.belief import BandwidthBelief
from experiments.evaluation.controllers import ControllerFactory
from traces.states import BandwidthState
from traces.trace import BandwidthTrace


def situation(now_s=0.0, frame=0, backlog_s=0.0, setting=None):
    frames = setting.scenario.frames
    return Situation(now_s, frame, frames.deadline_s, backlog_s, 0, setting.scenario.link.rtt_s)


@pytest.fixture(scope="module", params=["stream", "closed"])
def factory(request, random_policy):
    setting = request.getfixturevalue(request.param)
    made = ControllerFactory(setting, policy=random_policy(setting))
    made.margin = 0.7  # chosen on the training traces, which takes longer than a test should
    return made


CHOSEN_ON_TRACES = ("fixed", "fixed-hedged", "best-single")


@pytest.mark.parametrize("name", [e.name for e in SHIPPED if e.name not in CHOSEN_ON_TRACES])
def test_every_controller_keeps_the_contract(factory, name):
    setting = factory.setting
    trace = BandwidthTrace("t", np.array([0.0, 4.0]), np.array([2e6, 2e5]), 9.0)
    if name == "optimum" and setting.closed_loop:
        with pytest.raises(UsageError, match="of kind 'closed-loop', expected kind 'frame-stream'"):
            factory.maker(name, [trace])
        return
    controller = factory.maker(name, [trace])(0)
    assert controller.name == name
    assert controller.initial_probe_bytes >= 0
    rng = np.random.default_rng(1)
    streams = []
    for _ in range(2):
        controller.reset()
        rng, chosen = np.random.default_rng(1), []
        for frame in range(60):
            now = 0.1 * frame
            plan = controller.decide(situation(now, frame, 0.01 * rng.random(), setting))
            assert isinstance(plan, int)
            assert 0 <= plan < len(setting.table)
            chosen.append(plan)
            if frame % 3 == 0:
                controller.observe(Measurement(now, 3000, rng.random() * 0.1, frame % 2 == 0))
            if frame % 5 == 0:
                controller.observe(Measurement(now, 0, 0.088, False))
            answered = frame % 4 > 0
            controller.record(
                FrameResult(
                    frame, plan, now, 0.05 if answered else None, 0 if answered else None, answered
                )
            )
        streams.append(chosen)
    assert streams[0] == streams[1], "reset must forget everything"


def test_the_deployable_ones_need_no_hindsight():
    assert {e.name for e in SHIPPED if not e.deployable} == {"best-single", "oracle", "optimum"}


def test_the_rate_rule_takes_the_better_plan_on_the_better_link_and_asks_when_blind(stream):
    rule, table = RateRule(stream, 0.7), stream.table
    rule.observe(Measurement(1.0, 100_000, 0.02))  # 40 Mbit/s
    fast = rule.decide(situation(1.0, setting=stream))
    rule.reset()
    rule.observe(Measurement(1.0, 100, 0.08))  # 10 kbit/s
    slow = rule.decide(situation(1.0, setting=stream))
    assert not table.local[fast]
    assert table.quiet[slow]
    assert not table.quiet[rule.decide(situation(3.5, setting=stream))], "it asks the link again"
    assert table.quiet[rule.decide(situation(3.6, setting=stream))], "once"


def test_a_greater_margin_never_believes_less(stream):
    for rate in np.geomspace(2e4, 5e7, 12):
        values = []
        for margin in (0.5, 1.0):
            rule = RateRule(stream, margin)
            rule.observe(Measurement(0.0, int(rate / 8), 1.0))
            plan = rule.decide(situation(0.0, setting=stream))
            values.append(expected_rewards(stream, np.array([margin * rate]))[0, plan])
        assert values[1] >= values[0] - 1e-9


def test_static_algorithm_1_decides_once(stream):
    controller = StaticAlgorithm1(stream.table, stream.interval_s)
    before = controller.decide(situation(setting=stream))
    assert stream.table.local[before]
    controller.observe(Measurement(0.5, 100_000, 0.2))
    decided = controller.decide(situation(1.0, 1, setting=stream))
    assert not stream.table.local[decided]
    controller.observe(Measurement(2.0, 100, 10.0))
    assert controller.decide(situation(3.0, 2, setting=stream)) == decided


def test_online_algorithm_1_follows_and_returns_from_blindness(stream):
    controller = OnlineAlgorithm1(stream.table, stream.interval_s)
    controller.observe(Measurement(0.0, 3000, 0.005))
    assert not stream.table.local[controller.decide(situation(0.1, 0, setting=stream))]
    controller.observe(Measurement(0.2, 100, 10.0))
    assert stream.table.local[controller.decide(situation(0.3, 1, setting=stream))]
    assert not stream.table.local[controller.decide(situation(9.0, 2, setting=stream))]


def test_null_runs_the_fastest_plan(closed):
    plan, meets = choose_plan(closed.table, 1e6, 1e-3, 0.0)
    assert not meets
    assert plan == int(np.argmin(closed.table.latency_s(1e6)))


def test_a_plan_that_would_pile_up_frames_is_not_chosen(stream):
    plan, _ = choose_plan(stream.table, 0.0, 1.0, 0.04, stream.interval_s)
    free, _ = choose_plan(stream.table, 0.0, 1.0, 0.04)
    assert stream.table.exit[free] > stream.table.exit[plan]


def test_the_belief_forgets(closed):
    rng = np.random.default_rng(0)
    trace = BandwidthTrace("t", np.arange(600.0), np.exp(rng.normal(14, 1, 600)), 600.0)
    belief = BandwidthBelief.from_traces([trace])
    assert belief.kernels.sum(axis=2) == pytest.approx(np.ones(belief.kernels.shape[:2]))
    assert belief.of(1e6, 1e6) == pytest.approx(belief.blind)


def test_the_robust_planner_probes_when_blind(closed):
    traces = closed.traces("train").traces
    planner = RobustPlanner(closed, BandwidthBelief.from_traces(traces))
    planner.observe(Measurement(0.0, 12_288, 1.0))
    plans = [
        planner.decide(situation(t, k, setting=closed))
        for k, t in enumerate(np.arange(0, 60, 0.05))
    ]
    local = closed.table.local[plans]
    assert local.mean() > 0.5, "0.1 Mbit/s is worse than the device"
    assert not local.all(), "a planner that never looks stays local for ever"


def test_the_map_round_trips_and_is_refused_elsewhere(tmp_path, stream, closed):
    states = [BandwidthState(1e5, 1e4), BandwidthState(5e6, 1e6)]
    made = build_map(closed, states, "two states")
    assert [e.plan.is_local for e in made.entries] == [True, False]
    write_map(tmp_path / "map.json", made)
    assert read_map(tmp_path / "map.json", closed) == made
    with pytest.raises(ArtefactError, match="field 'scenario_digest'"):
        read_map(tmp_path / "map.json", stream)
    with pytest.raises(UsageError, match="no bandwidth states"):
        build_map(closed, [], "none")


def test_what_the_engine_made_otherwise_is_not_awaited(stream, random_policy):
    """A breaker that keeps frames on the device must not look like an outage of the link."""
    policy = random_policy(stream)
    local = int(np.flatnonzero(stream.table.local)[0])
    means = {}
    for reported in (True, False):
        controller = LearnedController(policy, stream)
        controller.observe(Measurement(0.0, 30_000, 0.01))
        for frame in range(4):
            moment = situation(0.04 * frame, frame, setting=stream)
            if controller.decide(moment) != local and reported:
                controller.overruled(frame, local)
        seen = controller.observation(situation(0.3, 9, setting=stream))
        means[reported] = float(seen.context[0, CONTEXT.index("belief_mean")])
    quiet = LearnedController(policy, stream)
    quiet.observe(Measurement(0.0, 30_000, 0.01))
    alone = quiet.observation(situation(0.3, 9, setting=stream))
    assert means[True] == pytest.approx(float(alone.context[0, CONTEXT.index("belief_mean")]))
    assert means[False] < means[True] - 0.2


def test_the_robust_planner_decides_where_the_policy_was_never_trained(stream, random_policy):
    policy = random_policy(stream)
    narrow = dataclasses.replace(policy, highest=np.full_like(policy.highest, -2.0))
    guarded, robust = LearnedController(narrow, stream), RobustPlanner(stream, policy.belief)
    unguarded = LearnedController(policy, stream)
    for controller in (guarded, robust, unguarded):
        controller.observe(Measurement(0.0, 3000, 0.01))
    chosen = [
        [c.decide(situation(0.1 * k, k, setting=stream)) for k in range(20)]
        for c in (guarded, robust, unguarded)
    ]
    assert chosen[0] == chosen[1]
    assert guarded.fallbacks == 20
    assert unguarded.fallbacks == 0


def test_observations_stay_in_range_and_know_only_the_past():
    observer = Observer(2, Scales(0.1))
    blind = observer.observe(np.zeros(2), np.zeros(2), np.zeros(2))
    assert blind.shape == (2, FEATURES)
    assert len(NAMES) == FEATURES
    one = np.array([True, False])
    for rate in (0.0, 1.0, 1e12):
        observer.measured(one, np.full(2, 5.0), np.full(2, rate), np.array([True, True]))
        seen = observer.observe(np.full(2, 6.0), np.full(2, 9.0), np.full(2, 1e9))
        assert np.all(np.abs(seen) <= 3.0)
        assert np.all(np.isfinite(seen))
    assert seen[1, NAMES.index("seen_anything")] == 0
    assert seen[0, NAMES.index("seen_anything")] == 1


def test_scenarios_name_the_wrong_key(tmp_path):
    path = tmp_path / "s.toml"
    text = (
        'format_version = 1\nname = "x"\nkind = "frame-stream"\ndescription = ""\n'
        'network = "alexnet"\ndevice_profile = "edgent-pi3"\nedge_profile = "edgent-pc"\n'
        '[traces]\nfamily = "norway"\n[frames]\ndeadline_s = 0.1\nrate_fps = 5\n'
    )
    path.write_text(text)
    assert read_scenario(path).frames.rate_fps == 5
    path.write_text(text + "[link]\nround_trip = 4\n")
    with pytest.raises(ArtefactError, match="round_trip"):
        read_scenario(path)
    path.write_text(text.replace("rate_fps = 5", "rate_fps = 0"))
    with pytest.raises(ArtefactError, match=r"field 'frames.rate_fps': found 0.0"):
        read_scenario(path)
    path.write_text(text.replace("format_version = 1", "format_version = 9"))
    with pytest.raises(ArtefactError, match="field 'format_version': found 9, expected 1"):
        read_scenario(path)
    with pytest.raises(
        UsageError, match=r"expected one of 3g-alexnet, .*3g-mobilenet, .*edgent, lte-mobilenet"
    ):
        read_scenario("nothing")


def test_settings_are_frozen(stream):
    with pytest.raises(dataclasses.FrozenInstanceError):
        stream.table = None
