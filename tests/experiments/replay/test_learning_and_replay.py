"""Replay, bound, figures and explanations agree with the controllers that they are of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from controller.planners.algorithm1 import algorithm1
from controller.planners.fixed import FixedController
from controller.policies.observation import CANDIDATES, CONTEXT, WIDTH
from envs.observed import HIDDEN
from experiments.analyses.figures import dynamic as dynamic_figure
from experiments.analyses.figures.edgent import edgent_inputs
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import figures_of
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import evaluate
from experiments.learning.distillation import distil
from experiments.learning.explanation import explain_plan
from experiments.learning.policy_explanation import BASELINES, Moment, explain_policy
from experiments.learning.scorer import Scorer
from experiments.replay.session import ReplayArgs, replay
from traces.library import TraceSet
from traces.trace import BandwidthTrace


@pytest.fixture(autouse=True)
def quick_judging(monkeypatch):
    monkeypatch.setattr("experiments.learning.distillation.JUDGED_FRAMES", 150)


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
    args = ReplayArgs("3g-alexnet", "edge-only", None, "relay", 1)
    result = replay(stream, trace, args, lambda line: None)
    assert result.link.method == "relay"
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
