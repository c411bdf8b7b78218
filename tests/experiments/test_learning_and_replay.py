"""Training is repeatable and leaves torch behind; replay and comparison agree with themselves."""

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from controller.physics import TraceBank
from controller.planners.fixed import FixedController
from controller.policies.observation import FEATURES
from envs.simulator import Simulator
from envs.vector import LaneCore
from experiments import dynamic_figure
from experiments.comparison import compare
from experiments.controllers import ControllerFactory, best_single, single_plan_rewards
from experiments.distillation import distil
from experiments.evaluation import evaluate
from experiments.imitation import imitate
from experiments.replay import ReplayArgs, replay
from experiments.training import LaneVecEnv, TrainArgs, extract_policy, train_policy
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
    for figures in result.controllers.values():
        assert 0 < figures.share_of_bound < 1.02
        low, high = figures.interval95
        assert low <= figures.share_of_bound <= high
        assert sum(t.frames for t in figures.per_trace.values()) > 500


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


def test_a_replay_ends_with_measured_beside_predicted(stream):
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([3e6]), 3.0)
    args = ReplayArgs("3g-alexnet", "edge-only", None, "user-space", 1)
    result = replay(stream, trace, args, lambda line: None)
    assert result.link.method == "user-space"
    assert result.measured.frames == result.predicted.frames
    assert result.reconnects == 0
    # a stall of this machine can make frames late, never lose one
    assert result.measured.bytes_per_frame > 0
