"""The batched simulator: what a device can know and when, and what a frame is worth."""

import dataclasses

import numpy as np
import pytest
from tidy import tidy

from controller.physics import TraceBank
from controller.physics.building import build_table
from controller.planners.fixed import FixedController
from controller.plans import device_only
from controller.scenarios import load_setting
from envs.simulator import Simulator
from experiments.evaluation.bound import bound_per_frame, clairvoyant_values
from experiments.evaluation.evaluator import evaluate
from traces.trace import BandwidthTrace


def test_a_cancelled_upload_is_measured_as_slow(stream):
    trace = BandwidthTrace("t", np.array([0.0]), np.array([1e5]), 20.0)
    bank = TraceBank([trace])
    simulator = Simulator(stream, bank, 1, "policy", np.random.default_rng(0))
    everyone = np.ones(1, dtype=bool)
    simulator.place(everyone, np.zeros(1, dtype=np.int64), np.zeros(1))
    plan = next(k for k, p in enumerate(stream.table.plans) if "no rescue" in str(p))
    rates = []
    for _ in range(20):
        simulator.step(np.array([plan]))
        rates += [float(d.rate_bps[0]) for d in simulator.deliver()]
    assert rates
    assert all(r <= 1e5 * 1.01 for r in rates)


def one_lane(setting, rates_bps, step_s=1.0):
    """A simulator with one lane on one made trace, at its start."""
    times = np.arange(len(rates_bps)) * step_s
    trace = BandwidthTrace("t", times, np.array(rates_bps, dtype=float), len(rates_bps) * step_s)
    simulator = Simulator(setting, TraceBank([trace]), 1, "policy", np.random.default_rng(0))
    simulator.place(np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), np.zeros(1))
    return simulator


def no_rescue(setting):
    return next(k for k, p in enumerate(setting.table.plans) if "no rescue" in str(p))


def test_a_late_frame_is_known_to_be_late_at_its_deadline_and_not_before(stream):
    simulator = one_lane(stream, [1e3] * 10)
    plan, reported = no_rescue(stream), []
    for frame in range(8):
        decided_s = float(simulator.now_s[0])
        reported += [(int(e.frame[0]), float(e.known_s[0]), decided_s) for e in simulator.ends()]
        simulator.step(np.array([plan]))
        assert int(simulator.frame[0]) == frame + 1
    assert [frame for frame, _, _ in reported] == list(range(len(reported)))
    deadline, interval = simulator.deadline_s, simulator.interval_s
    for frame, known_s, decided_s in reported:
        assert known_s == pytest.approx(frame * interval + deadline)
        assert known_s <= decided_s < known_s + interval
    # what is never begun (the link still carries the first upload) is known without the edge
    simulator = one_lane(stream, [1e3] * 10)
    known = []
    for _ in range(8):
        known += [float(d.known_s[0]) for d in simulator.deliver()]
        simulator.step(np.array([plan]))
    rtt = simulator.model.rtt_s
    expected = [k * interval + deadline + (rtt if k == 0 else 0.0) for k in range(len(known))]
    assert sorted(known) == pytest.approx(sorted(expected))


def test_the_backlog_is_what_the_device_can_know(stream):
    """Uploads under way count whole, begun or not; stale bytes until they have passed."""
    simulator = one_lane(stream, [1e3, 1e3, 1e7, 1e7])
    plan, wire = no_rescue(stream), float(stream.table.up_bytes[no_rescue(stream)])
    local = int(np.flatnonzero(stream.table.local)[0])
    assert simulator.backlogs()[1][0] == 0
    simulator.step(np.array([plan]))
    assert simulator.backlogs()[1][0] == wire, "not what has passed of it: that would be the rate"
    simulator.step(np.array([plan]))
    assert simulator.backlogs()[1][0] == 2 * wire
    while simulator.now_s[0] < 1.9:
        simulator.step(np.array([local]))
    assert simulator.backlogs()[1][0] == pytest.approx(wire, rel=0.2), "the first one is stale"
    while simulator.now_s[0] < 2.1:
        simulator.step(np.array([local]))
    assert simulator.backlogs()[1][0] == 0


def test_rewards_of_training_are_those_of_samples_on_average(stream, random_policy):
    """The accuracy of the answer in place of one sample's luck: less noise, the same mean."""
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    simulator = Simulator(stream, bank, 256, "policy", rng)
    simulator.place_randomly(np.ones(256, dtype=bool), 100)
    drawn, mean = [], []
    for _ in range(60):
        result = simulator.step(rng.integers(0, len(stream.table), 256))
        drawn.append(result.reward)
        mean.append(simulator.mean_reward(result))
    noise = np.std(drawn) / np.sqrt(np.size(drawn))
    assert np.mean(drawn) == pytest.approx(np.mean(mean), abs=4 * noise)
    assert np.var(mean) < 0.9 * np.var(drawn)


def test_the_bound_is_above_the_best_of_the_coupled_queue(stream):
    """Brute force over all sequences of plans, true trace known, outcomes averaged."""
    rng = np.random.default_rng(5)
    trace = BandwidthTrace("t", np.arange(6) * 0.05, rng.uniform(2e5, 4e6, 6), 0.3)
    table = stream.table
    values, _ = clairvoyant_values(stream, trace, np.arange(4) * stream.interval_s)
    bound = np.maximum(values.max(axis=1), 0).sum()
    rows = stream.rows("report")
    accuracy = rows.means
    best = 0.0
    chosen = [k for k, p in enumerate(table.plans) if p.exit in (0, 3)][:6]
    sequences = np.array(np.meshgrid(*[chosen] * 4)).reshape(4, -1)
    lanes = sequences.shape[1]
    simulator = Simulator(stream, TraceBank([trace]), lanes, "report", np.random.default_rng(0))
    simulator.place(np.ones(lanes, dtype=bool), np.zeros(lanes, dtype=np.int64), np.zeros(lanes))
    total = np.zeros(lanes)
    for plan in sequences:
        outcome = simulator.step(plan).outcome
        row = rows.row(plan, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
        total += np.where(outcome.answer_exit >= 0, accuracy[row], 0.0)
    best = float(total.max())
    assert bound >= best - 1e-9
    assert best > 0


def test_the_evaluator_counts_every_frame_once(stream):
    traces = [
        BandwidthTrace("a", np.array([0.0]), np.array([3e6]), 4.0),
        BandwidthTrace("b", np.array([0.0]), np.array([3e6]), 2.0),
    ]
    runs = evaluate(stream, traces, lambda k: FixedController("x", 0))
    for run, trace in zip(runs, traces, strict=True):
        fits = (trace.duration_s - stream.scenario.frames.deadline_s) / stream.interval_s
        assert abs(len(run.reward) - fits) <= 1.5
        assert np.diff(run.arrival_s) == pytest.approx(stream.interval_s)
        assert len(bound_per_frame(stream, trace, run.arrival_s)) == len(run.reward)


def test_the_closed_loop_starts_when_the_last_ended(closed):
    trace = BandwidthTrace("a", np.array([0.0]), np.array([3e6]), 5.0)
    (run,) = evaluate(closed, [trace], lambda k: FixedController("x", 1))
    assert run.arrival_s[0] == pytest.approx(closed.device.model_loading_s)
    assert run.arrival_s[1:] == pytest.approx((run.arrival_s + run.latency_s)[:-1])
    assert run.arrival_s[-1] + run.latency_s[-1] <= trace.duration_s


def test_a_device_does_not_know_how_its_gates_will_end():
    """What a controller sees of a gated frame is its plan's mean until the gates are asked."""
    setting = load_setting(tidy("3g-mobilenet"))
    plan = device_only(setting.spec, 4)
    plans = [plan, dataclasses.replace(plan, gates=(0,), threshold=0.7)]
    table = build_table(
        setting.spec, setting.profiles, setting.outcomes, plans,
        temperatures=setting.model.temperatures,
    )  # fmt: skip
    calm = dataclasses.replace(setting, table=dataclasses.replace(table, sigmas=(0.0, 0.0)))
    traces = [BandwidthTrace("t", np.array([0.0]), np.array([1e6]), 100.0)]
    lanes = 200
    simulator = Simulator(calm, TraceBank(traces), lanes, "policy", np.random.default_rng(0))
    everyone = np.ones(lanes, dtype=np.bool_)
    simulator.place(everyone, np.zeros(lanes, dtype=np.int64), np.zeros(lanes))
    simulator.step(np.ones(lanes, dtype=np.int64))
    real = simulator.resources.device_s.copy()
    assert 0.1 < (real < table.prefix_s[1] - 1e-9).mean() < 0.9
    gate = float(table.early_s[1, 0])
    simulator.now_s = np.full(lanes, gate - 1e-6)
    believed = np.full(lanes, max(table.mean_prefix_s[1] - gate + 1e-6, 0.0))
    assert simulator.backlogs()[0] == pytest.approx(believed, abs=1e-9)
    simulator.now_s = np.full(lanes, gate + 1e-6)
    assert simulator.backlogs()[0] == pytest.approx(np.maximum(real - gate - 1e-6, 0.0), abs=1e-9)
    # whatever began later waits for what really happens
    assert table.mean_prefix_s[1] == pytest.approx(real.mean(), rel=0.1)


def test_an_upload_counts_from_when_it_is_handed_over():
    setting = load_setting(tidy("3g-mobilenet"))
    table = setting.table
    whole = ~table.local & ~table.gated & (table.up_bytes > 1200)
    late = int(np.argmax(np.where(whole & (table.prefix_s < 0.08), table.prefix_s, 0.0)))
    traces = [BandwidthTrace("t", np.array([0.0]), np.array([1e5]), 100.0)]
    simulator = Simulator(setting, TraceBank(traces), 1, "policy", np.random.default_rng(0))
    simulator.place(np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.int64), np.zeros(1))
    simulator.step(np.array([late]))
    simulator.now_s = np.array([0.5 * float(table.prefix_s[late])])
    assert simulator.backlogs()[1][0] == 0.0
    simulator.now_s = np.array([1.6 * float(table.prefix_s[late])])
    owed = float(simulator.backlogs()[1][0])
    assert float(table.up_bytes[late]) <= owed < 1.1 * float(table.up_bytes[late])  # headers too
