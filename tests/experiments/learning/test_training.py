"""Training is repeatable, keeps what was judged best, and its policy decides without torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tidy import tidy

from controller.physics import TraceBank
from controller.planners.queue_values import solve_prices
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, WIDTH
from controller.scenarios import load_setting
from envs.observed import ObservedLanes, mean_reward
from envs.stable_baselines import ObservedVecEnv
from experiments.learning.scorer import Scorer
from experiments.learning.training import (
    TrainArgs,
    make_model,
    scorer_of,
    train_policy,
)

SMALL = TrainArgs(
    frames=8192, lanes=32, steps=64, batch=512, epochs=2, validations=1, hidden=8,
    validation_frames=150, planning_backlogs=4, planning_sweeps=20, blind_s=0.5,
)  # fmt: skip


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_same_seed_trains_the_same_policy(stream, algorithm):
    torch.set_num_threads(1)
    args = replace(SMALL, algorithm=algorithm, frames=4096)
    one, two = train_policy(stream, args), train_policy(stream, args)
    assert one.card.weights_digest == two.card.weights_digest
    other = train_policy(stream, replace(args, seed=5))
    assert other.card.weights_digest != one.card.weights_digest


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_numpy_decides_as_the_trained_model(random_policy, algorithm):
    """On 100,000 observations; where stable-baselines3's best two are within rounding, either."""
    stream = load_setting(tidy("3g-alexnet"))
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


def test_learning_beats_planning_that_knows_too_little(stream, monkeypatch):
    """Planning that holds one plan best everywhere: PPO must find the others."""

    def poor(*args):
        found = solve_prices(*args)
        return replace(found, table=np.zeros_like(found.table))

    monkeypatch.setattr("experiments.learning.training.solve_prices", poor)
    args = replace(SMALL, frames=200_000, lanes=128, validations=3, hidden=16, batch=1024, epochs=4)
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
