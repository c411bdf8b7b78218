"""Training is repeatable and leaves torch behind; replay and comparison agree with themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from artefacts import UsageError
from controller.physics import TraceBank
from controller.planners.algorithm1 import algorithm1
from controller.planners.fixed import FixedController
from controller.planners.queue_values import solve_prices
from controller.policies.learned import LearnedController
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, WIDTH
from controller.scenarios import load_setting, read_scenario
from envs.observed import HIDDEN, ObservedLanes, mean_reward
from envs.stable_baselines import ObservedVecEnv
from experiments.analyses.figures import dynamic as dynamic_figure
from experiments.analyses.figures.edgent import edgent_inputs
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import compare, figures_of
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from experiments.evaluation.evaluator import evaluate
from experiments.evaluation.single_plans import best_single, single_plan_rewards
from experiments.learning.distillation import distil
from experiments.learning.explanation import explain_plan
from experiments.learning.policy_explanation import BASELINES, Moment, explain_policy
from experiments.learning.scorer import Scorer
from experiments.learning.training import (
    TrainArgs,
    make_model,
    scorer_of,
    train_policy,
)
from experiments.replay.session import ReplayArgs, replay
from traces.library import TraceSet
from traces.trace import BandwidthTrace

SMALL = TrainArgs(
    frames=8192, lanes=32, steps=64, batch=512, epochs=2, validations=1, hidden=8,
    validation_frames=150, planning_backlogs=4, planning_sweeps=20, blind_s=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def short_traces():
    rng = np.random.default_rng(0)
    return tuple(
        BandwidthTrace(f"t{k}", np.arange(8.0), rng.uniform(2e5, 4e6, 8), 8.0) for k in range(3)
    )


@pytest.fixture(autouse=True)
def quick_judging(monkeypatch):
    monkeypatch.setattr("experiments.learning.distillation.JUDGED_FRAMES", 150)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_same_seed_trains_the_same_policy(stream, algorithm):
    torch.set_num_threads(1)
    args = replace(SMALL, algorithm=algorithm)
    one, two = train_policy(stream, args), train_policy(stream, args)
    assert one.card.weights_digest == two.card.weights_digest
    other = train_policy(stream, replace(args, seed=5))
    assert other.card.weights_digest != one.card.weights_digest


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_numpy_decides_as_the_trained_model(stream, random_policy, algorithm):
    """On 100,000 observations; where stable-baselines3's best two are within rounding, either."""
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    encoder = random_policy(stream).encoder(stream)
    env = ObservedVecEnv([ObservedLanes(stream, bank, 250, encoder, "policy", rng, 0.5)], 64)
    model = make_model(env, replace(SMALL, algorithm=algorithm, batch=500, seed=1))
    with torch.no_grad():
        scorer_of(model).out.weight.normal_(0.0, 0.5)
    weights = scorer_of(model).exported()
    seen = [env.reset()]
    for _ in range(399):
        seen.append(env.step(rng.integers(0, CANDIDATES, 250))[0])
    x = np.concatenate(seen)
    assert len(x) == 100_000
    theirs, _ = model.predict(x, deterministic=True)
    ours = weights.scores(x[:, :WIDTH])
    best, rows = ours.max(axis=1), np.arange(len(x))
    # plans that are described alike score alike: which of them comes first is rounding
    off = ours.argmax(axis=1) != theirs
    assert algorithm == "dqn" or not off.any()
    assert np.all(best[off] - ours[rows, theirs][off] <= 1e-6 * np.maximum(np.abs(best[off]), 1.0))


def test_what_is_hidden_from_the_policy_changes_no_score(stream, random_policy):
    policy = random_policy(stream)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (50, WIDTH + HIDDEN)).astype(np.float32)
    x[:, WIDTH - CANDIDATES : WIDTH] = 1.0
    net = Scorer(8, 2.0)
    with torch.no_grad():
        net.out.weight.normal_()
        one = net(torch.from_numpy(x)).numpy()
        x[:, WIDTH:] = rng.uniform(-1, 1, (50, HIDDEN))
        assert np.array_equal(net(torch.from_numpy(x)).numpy(), one)
    assert policy.scores(x[:, :WIDTH]).shape == (50, CANDIDATES)


def test_untrained_the_policy_is_planning_and_absent_plans_are_never_chosen(closed, random_policy):
    planned = train_policy(closed, replace(SMALL, frames=0))
    bank, rng = TraceBank(closed.traces("validation").traces), np.random.default_rng(0)
    count = len(closed.table)
    assert count < CANDIDATES
    for policy in (planned, random_policy(closed)):
        encoder = policy.encoder(closed)
        lanes = ObservedLanes(closed, bank, 8, encoder, "policy", rng, 0.5)
        lanes.simulator.place_randomly(np.ones(8, dtype=bool), 10)
        for _ in range(10):
            seen = lanes.observe()
            chosen = policy.decide(seen.flat)
            assert chosen.max() < count
            if policy is planned:
                best = seen.advantage.argmax(axis=1)
                assert np.array_equal(seen.plans[np.arange(8), chosen], best)
            lanes.step(seen, chosen)
    assert planned.card.training["frames_seen"] == 0
    assert len(planned.lowest) == len(CONTEXT)
    assert seen.described.shape == (8, CANDIDATES, len(DESCRIBED))


def test_learning_beats_planning_that_knows_too_little(stream, monkeypatch):
    """Planning that holds one plan best everywhere: PPO must find the others."""

    def poor(*args):
        found = solve_prices(*args)
        return replace(found, table=np.zeros_like(found.table))

    monkeypatch.setattr("experiments.learning.training.solve_prices", poor)
    args = replace(SMALL, frames=150_000, lanes=128, validations=3, hidden=16, batch=1024, epochs=4)
    torch.set_num_threads(1)
    record = train_policy(stream, args).card.training
    assert record["validation_reward"] > record["validation_reward_of_planning"] + 0.02


def test_what_is_kept_is_what_was_judged_best(stream):
    """Training goes on after a checkpoint was judged: what is kept must not move with it."""
    args = replace(SMALL, frames=12_000, validations=4, learning_rate=0.05)
    policy = train_policy(stream, args)
    record = policy.card.training
    assert record["frames_seen"] < 12_000  # so great a step spoils what came before
    judged = TraceBank(stream.traces("validation").traces)
    lanes = ObservedLanes(
        stream, judged, len(judged.names), policy.encoder(stream), "policy",
        np.random.default_rng(stream.scenario.seeds.evaluate), args.blind_s,
    )  # fmt: skip
    again = mean_reward(lanes, policy, args.validation_frames).mean()
    assert again == record["validation_reward"]
    net = Scorer(8, 2.0)
    before = net.exported()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    after = net.exported()
    for name in before.__slots__:
        assert not np.array_equal(getattr(before, name), getattr(after, name))


def test_an_interrupted_training_leaves_a_policy(stream):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 1

    policy = train_policy(stream, SMALL, stopped=stop)
    assert policy.card.training["interrupted"] is True
    assert policy.card.training["frames_seen"] <= 2 * SMALL.lanes * SMALL.steps < SMALL.frames
    assert train_policy(stream, replace(SMALL, frames=0)).card.training["interrupted"] is False


def test_one_batched_run_gives_what_single_runs_give(closed, short_traces):
    batched = single_plan_rewards(closed, short_traces, "policy")
    for plan in range(len(closed.table)):
        runs = evaluate(
            closed, short_traces, lambda k, p=plan: FixedController("x", p), half="policy"
        )
        mean = float(np.concatenate([r.reward for r in runs]).mean())
        assert batched[plan] == pytest.approx(mean, rel=1e-6)
    assert best_single(closed, short_traces, "policy") == int(np.argmax(batched))


def test_every_controller_is_compared_and_none_beats_the_bound(stream, short_traces, random_policy):
    names = [
        "device-only",
        "edge-only",
        "best-single",
        "algorithm1",
        "map",
        "robust",
        "learned",
        "oracle",
    ]
    result = compare(
        stream,
        TraceSet(short_traces, True, "made"),
        names,
        ControllerFactory(stream, policy=random_policy(stream)),
    )
    assert list(result.controllers) == names
    assert len(result.differences) == len(names) - 1
    for reported in result.differences:
        off = [
            result.controllers["learned"].per_trace[t].reward
            - result.controllers[reported.over].per_trace[t].reward
            for t in result.traces
        ]
        assert reported.mean == pytest.approx(np.mean(off))
        assert reported.p_value in (0.25, 0.5, 0.75, 1.0)  # of three traces: quarters
        low, high = reported.leave_one_out
        assert low <= reported.mean <= high
    for figures in result.controllers.values():
        assert 0 < figures.share_of_bound < 1.02
        low, high = figures.interval95
        assert low <= figures.share_of_bound <= high
        assert sum(t.frames for t in figures.per_trace.values()) > 500
    alone = result.controllers["device-only"].per_trace
    for name, worst in result.against_device_only.items():
        own = result.controllers[name].per_trace
        off = [own[t].goodput_accuracy - alone[t].goodput_accuracy for t in own]
        late = [own[t].late_share - alone[t].late_share for t in own]
        assert worst.goodput_accuracy == min(off)
        assert worst.late_share == max(late)
        assert own[worst.goodput_trace].goodput_accuracy == pytest.approx(
            alone[worst.goodput_trace].goodput_accuracy + min(off)
        )


def test_hedging_is_a_baseline_of_its_own_and_energy_is_reported(short_traces, monkeypatch):
    monkeypatch.setattr("controller.registry.tuned.CHOICE_FRAMES", 100)
    setting = load_setting(read_scenario("lte-mobilenet-priced"))
    names = ["device-only", "fixed", "fixed-hedged"]
    traces = TraceSet(short_traces, True, "made")
    found = compare(setting, traces, names, ControllerFactory(setting), max_frames=200)
    (plan,) = found.controllers["fixed-hedged"].plans
    assert "hedge" in plan
    assert "hedge" not in next(iter(found.controllers["fixed"].plans))
    power = setting.device.power
    local = found.controllers["device-only"]
    assert local.energy_j_per_frame == pytest.approx(
        power.compute_w * local.device_compute_s_per_frame
    )
    assert local.reward < local.goodput_accuracy
    other = load_setting(read_scenario("lte-mobilenet"))
    with pytest.raises(UsageError, match="has no plan that hedges"):
        ControllerFactory(other).maker("fixed-hedged", ())
    assert "fixed-hedged" in chosen_names("", setting)
    assert "fixed-hedged" not in chosen_names("", other)


def test_a_distilled_map_knows_its_loss(closed, random_policy):
    made, loss = distil(closed, random_policy(closed))
    assert len(made.entries) == 428
    assert loss.policy_reward > 0
    assert loss.map_reward > 0


def test_the_dynamic_figure_is_drawn(monkeypatch, tmp_path, short_traces):
    monkeypatch.setattr(
        "controller.scenarios.setting.load_split",
        lambda family, part: TraceSet(short_traces, True, "made"),
    )
    quantiles, source = dynamic_figure.draw_throughput(tmp_path / "t.png")
    assert set(quantiles) == set(dynamic_figure.CONTROLLERS)
    assert source == "made"
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_an_inference_that_never_ends_is_a_miss(closed):
    """A link that dies under the closed loop: a controller that waits for it is not rewarded."""
    trace = BandwidthTrace("dies", np.array([0.0, 2.0]), np.array([5e5, 1e3]), 60.0)
    remote = int(np.flatnonzero(~closed.table.local)[0])
    (run,) = evaluate(closed, [trace], lambda k: FixedController("x", remote))
    assert run.reward[-1] == 0
    assert not run.in_time[-1]
    assert run.arrival_s[-1] + run.latency_s[-1] == pytest.approx(60.0)
    assert run.in_time[:-2].all()  # the last but one was under way when the link died
    figures = figures_of([run], [np.full(len(run.reward), 40.0)], True)
    assert figures.throughput_fps == pytest.approx(len(run.reward) / 60.0)
    # static Algorithm 1 waits for its 100 KB: at 1 kbit/s until the log ends
    dead = BandwidthTrace("dead", np.array([0.0]), np.array([1e3]), 60.0)
    (run,) = evaluate(closed, [dead], ControllerFactory(closed).maker("algorithm1", [dead]))
    assert run.reward.tolist() == [0.0]
    assert run.latency_s[0] > 50


def test_the_bound_knows_that_compute_times_vary(stream):
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([4e6]), 60.0)
    table = replace(stream.table, sigmas=(0.2, 0.2))
    varied = replace(stream, table=table)
    arrival = np.arange(50) * 0.04
    assert (
        bound_per_frame(varied, trace, arrival).sum()
        >= bound_per_frame(stream, trace, arrival).sum()
    )
    run = evaluate(varied, [trace], lambda k: FixedController("x", 0))[0]
    assert run.reward.mean() <= bound_per_frame(varied, trace, run.arrival_s).mean()


@pytest.mark.parametrize("order", ["edge-first", "device-first"])
def test_plan_is_algorithm_1_over_every_plan(closed, order):
    """Exit 5 is less accurate than exit 4 here; Algorithm 1 still prefers the deeper one."""
    inputs = edgent_inputs(closed.spec, [0.5, 0.6, 0.7, 0.8, 0.9])
    exits = set()
    for bandwidth in (2e4, 1e5, 1e6):
        for deadline_s in (0.02, 0.06, 0.1, 1.0):
            found = explain_plan(closed, bandwidth, deadline_s, order)
            expected = algorithm1(inputs, bandwidth, deadline_s, order)
            assert found.meets_deadline == (expected is not None)
            if expected is not None:
                assert found.exit == expected.plan.exit + 1
                # the table sends the answer alone back, the paper the last layer's output
                assert found.latency_s == pytest.approx(expected.latency_s, rel=0.01)
                exits.add(found.exit)
    assert 5 in exits


def test_a_replay_ends_with_measured_beside_predicted(stream):
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([3e6]), 3.0)
    args = ReplayArgs("3g-alexnet", "edge-only", None, "user-space", 1)
    result = replay(stream, trace, args, lambda line: None)
    assert result.link.method == "user-space"
    assert result.measured.frames == result.predicted.frames
    assert result.reconnects == 0
    # a stall of this machine can make frames late, never lose one
    assert result.measured.bytes_per_frame > 0


def test_a_decision_is_explained_as_it_is_made(stream, random_policy):
    policy = random_policy(stream)
    factory = ControllerFactory(stream, policy=policy)
    factory.margin = 0.7
    for bandwidth in (5e4, 5e5, 5e6):
        found = explain_policy(stream, policy, Moment(bandwidth), factory)
        assert found.decided_by in ("the policy", "the probing rule")
        scores = [c.score for c in found.candidates]
        assert scores == sorted(scores, reverse=True)
        if found.decided_by == "the policy":
            assert found.plan == found.candidates[0].plan
        assert set(found.baselines) == set(BASELINES)
        assert set(found.seen) == set(CONTEXT)
    # nothing of a slow link's plans at a backlog beyond the deadline: the device is busy
    busy = explain_policy(stream, policy, Moment(5e6, device_backlog_s=0.05), factory)
    assert busy.seen["device_backlog"] > found.seen["device_backlog"]
    frames = stream.scenario.frames
    reported = {
        "log_rate_0": "5 Mbit/s", "log_age_0": "0.05 s", "complete_0": "yes",
        "device_backlog": "50 ms", "uplink_backlog": "0 bytes", "recent_in_time": "100 %",
        "deadline": f"{1000 * frames.deadline_s:.0f} ms",
        "interval": f"{1000 * stream.interval_s:.0f} ms",
        "round_trip": f"{1000 * stream.scenario.link.rtt_s:.0f} ms",
    }  # fmt: skip
    assert {name: busy.stands_for[name] for name in reported} == reported
    assert set(busy.stands_for) == set(CONTEXT)
    narrow = replace(policy, highest=np.minimum(policy.highest, 0.1))
    guarded = explain_policy(stream, narrow, Moment(5e7), factory)
    assert guarded.decided_by == "the robust planner"
    assert "fast_log_rate" in guarded.outside
    assert "fast_log_rate" in guarded.reason


def test_streams_decided_together_are_decided_as_one_by_one(stream, random_policy, short_traces):
    policy = random_policy(stream)
    narrow = replace(policy, highest=np.where(policy.highest > 0, 0.2, policy.highest))
    for one in (policy, replace(narrow, highest=narrow.highest.astype(np.float32))):
        apart = []
        for k, trace in enumerate(short_traces):
            lanes = [LearnedController(one, stream), FixedController("x", 0)]
            both = evaluate(stream, [trace, trace], lambda k, lanes=lanes: lanes[k], seed=k)
            again = evaluate(
                stream, [trace, trace], lambda k, one=one: LearnedController(one, stream), seed=k
            )
            apart.append(np.mean(both[0].plan != again[0].plan))
            assert both[0].arrival_s == pytest.approx(again[0].arrival_s)
        assert np.mean(apart) < 0.01
