"""Training is repeatable and leaves torch behind; replay and comparison agree with themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from artefacts import UsageError
from controller.physics import TraceBank
from controller.planners.algorithm1 import algorithm1
from controller.planners.fixed import FixedController
from controller.policies.observation import FEATURES
from controller.scenario import load_setting, read_scenario
from envs.simulator import Simulator
from envs.vector import LaneCore
from experiments.comparison import compare, figures_of
from experiments.controllers import (
    ControllerFactory,
    best_single,
    chosen_names,
    single_plan_rewards,
)
from experiments.evaluation import bound_per_frame, evaluate
from experiments.figures import dynamic as dynamic_figure
from experiments.figures.edgent import edgent_inputs
from experiments.learning.distillation import distil
from experiments.learning.explanation import explain_plan
from experiments.learning.imitation import imitate
from experiments.learning.training import LaneVecEnv, TrainArgs, extract_policy, train_policy
from experiments.replay import ReplayArgs, replay
from traces.library import TraceSet
from traces.trace import BandwidthTrace

SMALL = TrainArgs(frames=8192, lanes=32, steps=64, batch=512, epochs=2, validations=1,
                  warm_start=False)  # fmt: skip


@pytest.fixture(scope="module")
def short_traces():
    rng = np.random.default_rng(0)
    return tuple(
        BandwidthTrace(f"t{k}", np.arange(8.0), rng.uniform(2e5, 4e6, 8), 8.0) for k in range(3)
    )


def test_the_same_seed_trains_the_same_policy(stream):
    torch.set_num_threads(1)
    one, two = train_policy(stream, SMALL), train_policy(stream, SMALL)
    assert one.card.weights_digest == two.card.weights_digest
    other = train_policy(stream, TrainArgs(**(vars_of(SMALL) | {"seed": 5})))
    assert other.card.weights_digest != one.card.weights_digest


def vars_of(args):
    return {name: getattr(args, name) for name in args.__slots__}


def test_numpy_decides_as_the_trained_model(stream):
    model = PPO("MlpPolicy", LaneVecEnv(LaneCore(stream, 2, seed=0)), n_steps=8, batch_size=16,
                policy_kwargs={"net_arch": [64, 64], "activation_fn": torch.nn.Tanh},
                seed=1, device="cpu")  # fmt: skip
    policy = extract_policy(stream, model, {})
    x = np.random.default_rng(0).uniform(-3, 3, (20_000, FEATURES)).astype(np.float32)
    theirs, _ = model.predict(x, deterministic=True)
    scores = np.sort(policy.scores(x), axis=1)
    clear = scores[:, -1] - scores[:, -2] > 1e-5
    assert clear.mean() > 0.99
    assert np.array_equal(policy.decide(x)[clear], theirs[clear])


def test_an_interrupted_training_leaves_a_policy(stream):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 1

    policy = train_policy(stream, SMALL, stopped=stop)
    assert policy.card.training["frames_seen"] < SMALL.frames


def test_imitation_learns_its_teacher(stream):
    torch.manual_seed(0)
    actor = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 16), torch.nn.Tanh(), torch.nn.Linear(16, len(stream.table))
    )
    bank = TraceBank(stream.traces("validation").traces)
    simulator = Simulator(stream, bank, 4, "policy", np.random.default_rng(0))
    agreement = imitate(actor, stream, simulator, lambda: FixedController("x", 3), 0)
    assert agreement == 1.0


def test_one_batched_run_gives_what_single_runs_give(closed, short_traces):
    batched = single_plan_rewards(closed, short_traces, "policy")
    for plan in range(len(closed.table)):
        runs = evaluate(
            closed, short_traces, lambda k, p=plan: FixedController("x", p), half="policy"
        )
        mean = float(np.concatenate([r.reward for r in runs]).mean())
        assert batched[plan] == pytest.approx(mean, rel=1e-6)
    assert best_single(closed, short_traces, "policy") == int(np.argmax(batched))


def test_every_controller_is_compared_and_none_beats_the_bound(stream, short_traces):
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
    result = compare(stream, TraceSet(short_traces, True, "made"), names, ControllerFactory(stream))
    assert list(result.controllers) == names
    assert len(result.differences) == len(names) - 1
    for told in result.differences:
        off = [
            result.controllers["learned"].per_trace[t].reward
            - result.controllers[told.over].per_trace[t].reward
            for t in result.traces
        ]
        assert told.mean == pytest.approx(np.mean(off))
        assert told.p_value in (0.25, 0.5, 0.75, 1.0)  # of three traces: quarters
        low, high = told.leave_one_out
        assert low <= told.mean <= high
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


def test_hedging_is_a_baseline_of_its_own_and_energy_is_told(short_traces, monkeypatch):
    monkeypatch.setattr("experiments.controllers.FIXED_FRAMES", 100)
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


def test_a_distilled_map_knows_its_loss(closed):
    made, loss = distil(closed, ControllerFactory(closed).learned)
    assert len(made.entries) == 428
    assert loss.policy_reward > 0
    assert loss.map_reward > 0


def test_the_dynamic_figure_is_drawn(monkeypatch, tmp_path, short_traces):
    monkeypatch.setattr(
        "controller.scenario.load_split", lambda family, part: TraceSet(short_traces, True, "made")
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
    table = replace(stream.table, device_sigma=0.2, edge_sigma=0.2)
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
