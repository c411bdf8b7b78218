"""A device's one stream, in plain numbers, against the same stream as one lane of many."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from priced import taken

from controller.interface import FrameResult, Measurement, Noticed, Situation
from controller.planners.due_fallbacks import ALONE, NONE, SPARE
from controller.planners.queue_values import LEAST_BPS
from controller.planners.robust import RobustPlanner
from controller.policies.in_flight import InFlight, UploadCosts
from controller.policies.learned import LearnedController
from controller.policies.network import policy_folder
from controller.policies.observation import CANDIDATES, CONTEXT, WIDTH
from controller.policies.single_stream import SingleInFlight
from controller.policies.stream_state import StreamState
from controller.policies.weights import MlpWeights
from controller.scenarios import load_setting, read_scenario
from controller.sensing.pace import CLEARLY_SLOW
from experiments.evaluation.learned_policies import adapted_generalist, shipped_policy

ALL = np.ones(1, dtype=bool)
CLOSE = 2e-4
"""Sums in another order: of numbers up to 3, which are 20-fold differences of single precision."""
LAST_BITS = 1e-5
"""Scores of plans that are described alike differ by so much at most: a matrix product rounds its
rows differently."""


class OneLane:
    """What `LearnedController` does, by the parts that serve the environment's lanes."""

    def __init__(self, policy, setting):
        encoder = policy.encoder(setting)
        self.policy, self.fallbacks = policy, 0
        self.stream = StreamState(setting, encoder, 1, policy.card.blind_s)
        self.robust = RobustPlanner(setting, policy.belief, values=encoder.paced)

    def reset(self):
        self.stream.forget(ALL)
        self.robust.reset()

    def observe(self, m):
        self.stream.measured(
            ALL, np.array([m.known_s]), np.array([float(m.payload_bytes)]),
            np.array([m.duration_s]), np.array([m.complete]),
        )  # fmt: skip
        self.robust.observe(m)

    def record(self, r):
        shown = (r.noticed.size, r.noticed.edge_queue_s, r.noticed.confidence)
        self.stream.ended(
            ALL, np.array([r.frame]), np.array([r.latency_s is not None]), np.array([r.by_plan]),
            np.array([np.inf if r.latency_s is None else r.latency_s]),
            np.array([[np.nan if value is None else value] for value in shown]),
        )  # fmt: skip

    def observation(self, s):
        return self.stream.observation(
            np.array([s.now_s]), np.array([s.device_backlog_s]),
            np.array([float(s.uplink_backlog_bytes)]), np.array([s.device_pace]),
        )  # fmt: skip

    def decide(self, s):
        seen, now_s = self.observation(s), np.array([s.now_s])
        if s.device_pace > CLEARLY_SLOW or self.policy.outside(seen.context)[0]:
            self.fallbacks += 1
            plan = np.array([self.robust.decide(s)])
        else:
            chosen = seen.plans[:, self.policy.decide(seen.flat)[0]]
            plan = self.stream.applied(chosen, seen, now_s)
        self.stream.carried_out(
            np.array([s.frame]), plan, now_s, np.array([s.device_backlog_s]), np.array([s.rtt_s])
        )
        return int(plan[0])

    def overruled(self, frame, plan):
        self.stream.changed(ALL, np.array([frame]), np.array([plan]))


def maybe(rng, share, value):
    return value if rng.random() < share else None


def moments(setting, rng, frames):
    """What a device would hear, frame by frame: (measurements, results, situation).

    Rates walk over their whole range; measurements stop for a while, answers come late or never,
    backlogs come and go, and the device is slow now and then.
    """
    deadline_s = setting.scenario.frames.deadline_s
    interval_s = 0.3 * deadline_s if setting.closed_loop else setting.interval_s
    log_rate, now_s, blind, pace = 6.0, 0.0, False, 1.0
    ended = [k for k in range(frames) if rng.random() < 0.9]
    for frame in range(frames):
        now_s += interval_s
        log_rate = float(np.clip(log_rate + rng.normal(0.0, 0.15), 3.0, 8.0))
        if rng.random() < 0.02:
            blind, log_rate = rng.random() < 0.5, rng.uniform(4.0, 7.5)
        if rng.random() < 0.05:
            pace = float(rng.choice([0.97, 1.0, 1.1, 1.2, 1.6]))
        heard = [
            Measurement(now_s - rng.uniform(0.0, 0.02), int(size), 8 * size / 10**log_rate,
                        bool(rng.random() < 0.9))
            for size in rng.uniform(500, 30_000, 0 if blind else rng.integers(0, 3))
        ]  # fmt: skip
        over = frame - int(rng.integers(1, 4))
        results = [
            FrameResult(
                over, 0, now_s, maybe(rng, 0.9, rng.uniform(0.01, deadline_s)), 0,
                bool(rng.random() < 0.7),
                Noticed(maybe(rng, 0.7, rng.uniform(0.3, 3)), maybe(rng, 0.7, rng.uniform(0, 0.05)),
                        maybe(rng, 0.5, rng.uniform(0.2, 1))),
            )
        ] if over in ended else []  # fmt: skip
        yield heard, results, Situation(
            now_s, frame, deadline_s, float(rng.choice([0.0, 0.0, rng.uniform(0, deadline_s)])),
            int(rng.choice([0, 0, rng.integers(1, 40_000)])), rng.uniform(0.01, 0.06), pace,
        )  # fmt: skip


def apart(single, lanes, setting, rng, frames):
    """Runs both through the same stream; observations must be alike and decisions the same.

    Gives how many decisions differ though both plans score the same, and all plans.
    """
    ties, plans = 0, []
    for heard, results, situation in moments(setting, rng, frames):
        for one in (single, lanes):
            for measurement in heard:
                one.observe(measurement)
            for result in results:
                one.record(result)
        found, wanted = single.observation(situation), lanes.observation(situation)
        np.testing.assert_allclose(found.context, wanted.context, atol=CLOSE)
        np.testing.assert_allclose(found.advantage, wanted.advantage, atol=CLOSE / 20)
        assert (found.present == wanted.present).all()
        # the order is that of advantages; of equals either may come first, or be left out
        ordered = [np.sort(wanted.advantage[0, o.plans[0]]) for o in (found, wanted)]
        np.testing.assert_allclose(*ordered, atol=CLOSE / 20)
        if (found.plans == wanted.plans).all():
            np.testing.assert_allclose(found.described, wanted.described, atol=CLOSE)
        outside = lanes.policy.outside(wanted.context)[0]
        plan, expected = single.decide(situation), lanes.decide(situation)
        if plan != expected and not outside:
            scores = dict(zip(found.plans[0], lanes.policy.scores(found.flat)[0], strict=True))
            other = dict(zip(wanted.plans[0], lanes.policy.scores(wanted.flat)[0], strict=True))
            assert other.get(plan, scores[plan]) == pytest.approx(other[expected], abs=LAST_BITS)
            # with other plans on their way they see other things: both begin anew
            ties += 1
            single.reset()
            lanes.reset()
        else:
            assert plan == expected
        if rng.random() < 0.1:
            local = int(np.flatnonzero(setting.table.local)[0])
            single.overruled(situation.frame, local)
            lanes.overruled(situation.frame, local)
        plans.append(plan)
    assert single.fallbacks == lanes.fallbacks
    return ties, plans


@pytest.fixture(
    scope="module",
    params=["3g-alexnet", "3g-mobilenet-priced", "edgent", "lte-mobilenet"],
)
def shipped(request):
    setting = load_setting(taken(request.param))
    brought = policy_folder(request.param, setting.scenario.name) is not None
    return setting, shipped_policy(setting) if brought else adapted_generalist(setting)


def test_a_device_decides_as_the_batched_environment_does(shipped):
    setting, policy = shipped
    rng = np.random.default_rng(1)
    ties, plans = apart(
        LearnedController(policy, setting), OneLane(policy, setting), setting, rng, 1000
    )
    assert ties <= 20, "few plans are described alike"
    assert len(set(plans)) > 2


@examples(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_any_stream_is_seen_alike(stream, random_policy, seed):
    policy = random_policy(stream)
    apart(
        LearnedController(policy, stream), OneLane(policy, stream), stream,
        np.random.default_rng(seed), 60,
    )  # fmt: skip


def test_a_stream_begins_anew(stream, random_policy):
    policy = random_policy(stream)
    used = LearnedController(policy, stream)
    apart(used, OneLane(policy, stream), stream, np.random.default_rng(3), 80)
    used.reset()
    used.fallbacks = 0
    apart(used, OneLane(policy, stream), stream, np.random.default_rng(4), 80)


def test_a_plain_network_decides_on_the_same_numbers(stream, closed, random_policy):
    """In the closed loop there are fewer plans than candidates."""
    rng = np.random.default_rng(2)
    sizes = ((WIDTH, 16), (16, CANDIDATES))
    matrices = tuple(rng.normal(0.0, 0.3, size).astype(np.float32) for size in sizes)
    weights = MlpWeights(
        matrices, tuple(np.zeros(m.shape[1], np.float32) for m in matrices), "relu"
    )
    for setting in (stream, closed):
        policy = replace(random_policy(setting), weights=weights)
        found = apart(
            LearnedController(policy, setting), OneLane(policy, setting), setting, rng, 300
        )
        assert len(set(found[1])) > 2


def test_the_guard_acts_where_it_acts_in_lanes(stream, random_policy):
    policy = random_policy(stream)
    lowest, highest = policy.lowest.copy(), policy.highest.copy()
    k = CONTEXT.index("fast_log_rate")
    lowest[k], highest[k] = -1.0, 1.0
    policy = replace(policy, lowest=lowest, highest=highest)
    single = LearnedController(policy, stream)
    apart(single, OneLane(policy, stream), stream, np.random.default_rng(5), 400)
    assert 40 < single.fallbacks < 360


@pytest.fixture(scope="module")
def rescued():
    """A stream in which the fallback of the frame before may be due."""
    return load_setting(read_scenario("lte-mobilenet"))


@given(seed=st.integers(0, 2**32))
def test_what_is_on_its_way_is_the_same(rescued, seed):
    rng, table = np.random.default_rng(seed), rescued.table
    rates = np.sort(10.0 ** rng.uniform(3.0, 8.0, 12))
    rates = np.maximum(rates, LEAST_BPS)
    lanes, single = InFlight(rescued, 1), SingleInFlight(UploadCosts.of(rescued), rates)
    now_s = 0.0
    for frame in range(30):
        now_s += rng.uniform(0.0, 0.05)
        plan, backlog_s = int(rng.integers(len(table))), rng.choice([0.0, rng.uniform(0.0, 0.1)])
        lanes.chosen(
            np.array([frame]), np.array([plan]), np.array([now_s]), np.array([backlog_s]),
            np.array([0.03]),
        )  # fmt: skip
        single.chosen(frame, plan, now_s, backlog_s, 0.03)
        if rng.random() < 0.2:
            lanes.changed(ALL, np.array([frame]), np.array([0]))
            single.changed(frame, 0)
        if rng.random() < 0.5:
            over = int(rng.integers(frame + 1))
            lanes.ended(ALL, np.array([over]))
            single.ended(over)
        at_s = now_s + rng.uniform(0.0, 0.2)
        held = float(rng.choice([0.0, rng.uniform(0.0, 40_000)]))
        wanted_s, likelihood, due = lanes.at_levels(rates, np.array([at_s]), np.array([held]))
        way = single.at_levels(at_s, held)
        np.testing.assert_allclose(
            np.zeros(12) if way.uplink_s is None else way.uplink_s,
            wanted_s[0],
            rtol=1e-5,
            atol=1e-6,
        )
        found = np.ones(12)
        for first in way.silent:
            found[first:] *= 0.03
        np.testing.assert_allclose(found, likelihood[0])
        state = np.where(np.arange(12) < way.alone, ALONE, SPARE if way.kept else NONE)
        assert state.tolist() == due[0].tolist()
