"""What training runs on: several settings at once, prices, traces left out, where it trails."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tidy import tidy

from artefacts import ArtefactError, UsageError
from controller.interface import Measurement, Situation
from controller.physics import TraceBank
from controller.policies.learned import LearnedController
from controller.policies.network import load_policy, save_policy
from controller.policies.observation import CONTEXT, DESCRIBED, WIDTH
from controller.policies.probing import BLIND_S
from controller.scenarios import load_setting, priced_copy, read_scenario
from controller.sensing.belief import BandwidthBelief
from envs.observed import ObservedLanes, PlanningAlone, mean_reward
from envs.stable_baselines import ObservedVecEnv
from experiments.learning.curriculum import MOST, WhereItTrails, generated, with_generated
from experiments.learning.recurrent import RecurrentScorerPolicy, recurrent_reward
from experiments.learning.scorer import Scorer
from experiments.learning.tasks import Data, for_prices, price_grids
from experiments.learning.training import TrainArgs, Validation, learnt_blind_s, train_policy
from traces.library import TraceSet
from traces.trace import BandwidthTrace, trace_digest, traces_digest

SMALL = TrainArgs(
    frames=0, lanes=32, steps=16, batch=128, epochs=1, validations=1, hidden=8,
    validation_frames=60, planning_backlogs=4, planning_sweeps=20, episode_frames=20, blind_s=0.5,
)  # fmt: skip


def group(setting, policy, lanes, seed):
    bank = TraceBank(setting.traces("train").traces)
    rng = np.random.default_rng(seed)
    return ObservedLanes(setting, bank, lanes, policy.encoder(setting), "policy", rng, 0.5)


def test_groups_side_by_side_are_what_each_is_alone(stream, closed, random_policy):
    """A stream at two prices' worth of lanes and a closed loop: the same numbers as apart."""
    parts = [(stream, 3, 1), (closed, 2, 2), (stream, 4, 3)]
    together = ObservedVecEnv([group(s, random_policy(s), n, k) for s, n, k in parts], 6)
    apart = [ObservedVecEnv([group(s, random_policy(s), n, k)], 6) for s, n, k in parts]
    assert together.num_envs == 9
    assert np.array_equal(together.reset(), np.concatenate([env.reset() for env in apart]))
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(15):
        actions = rng.integers(0, 12, 9)
        seen, reward, over, infos = together.step(actions)
        alone = [env.step(part) for env, part in zip(apart, np.split(actions, [3, 5]), strict=True)]
        assert np.array_equal(seen, np.concatenate([found[0] for found in alone]))
        assert np.array_equal(reward, np.concatenate([found[1] for found in alone]))
        assert np.array_equal(over, np.concatenate([found[2] for found in alone]))
        ended += int(over.sum())
        assert [bool(info) for info in infos] == over.tolist()
    assert ended >= 2 * 9


def test_one_policy_serves_the_prices_it_was_trained_for_and_says_which(tmp_path):
    setting = load_setting(read_scenario("3g-alexnet"))
    args = replace(SMALL, frames=512, most_device_second=2.0, most_megabyte=15.0)
    policy = train_policy(setting, args)
    save_policy(tmp_path, policy)
    device = CONTEXT.index("device_price"), CONTEXT.index("byte_price")
    assert policy.lowest[list(device)].tolist() == [0.0, 0.0]
    assert policy.highest[list(device)].tolist() == [2.0, 3.0]
    sent = []
    for megabyte in (0.0, 15.0):
        at = setting.at_prices(0.0, megabyte)
        # so short a training has seen little: what is asked here is the prices' part
        edge = np.full(len(CONTEXT), 3.0, dtype=np.float32)
        loaded = replace(load_policy(tmp_path, at), lowest=-edge, highest=edge)
        controller = LearnedController(loaded, at)
        total = 0
        for frame in range(40):
            now_s = 0.04 * frame
            controller.observe(Measurement(now_s, 3072, 0.02))
            plan = controller.decide(Situation(now_s, frame, 0.088, 0.0, 0, 0.04))
            total += int(setting.table.up_bytes[plan])
        sent.append(total)
        assert controller.fallbacks == 0
    assert sent[1] < sent[0]
    with pytest.raises(ArtefactError, match=r"prices': found those of 0 to 2 and 0 to 15 .* 16"):
        load_policy(tmp_path, setting.at_prices(0.0, 16.0))
    with pytest.raises(UsageError, match="prices, megabyte: found -1, expected 0 or more"):
        setting.at_prices(0.0, -1.0)


def test_prices_belong_to_streams_and_grids_hold_the_scenario_s_own(closed):
    with pytest.raises(UsageError, match="a closed loop has the paper's reward"):
        closed.at_prices(1.0, 0.0)
    with pytest.raises(UsageError, match=r"up to 2 and 0 for 'edgent', a closed loop"):
        price_grids(closed, 2.0, 0.0)
    setting = load_setting(priced_copy(read_scenario("lte-mobilenet")))
    assert [grid.tolist() for grid in price_grids(setting, 0.0, 0.0)] == [[0.5], [3.0]]
    assert [grid.tolist() for grid in price_grids(setting, 2.0, 12.0)] == [
        [0.0, 0.5, 2.0],
        [0.0, 3.0, 12.0],
    ]
    for most in (2.0, 16.0):
        with pytest.raises(
            UsageError, match=f"a megabyte: found at most {most:g}, expected 3 .* to 15"
        ):
            price_grids(setting, 0.0, most)


def test_tasks_of_a_price_range_reach_its_corners(stream, random_policy):
    args = replace(SMALL, most_device_second=2.0, most_megabyte=4.0)
    policy = train_policy(stream, args)
    rng = np.random.default_rng(0)
    found = for_prices(stream, policy.belief, policy.advantages, Data.of(stream), 32, rng)
    corners = {(0.0, 0.0), (0.0, 4.0), (2.0, 0.0), (2.0, 4.0)}
    for tasks in (found.trained, found.judged):
        pairs = {(c.setting.prices.device_second, c.setting.prices.megabyte) for c in tasks}
        assert corners <= pairs
    assert len(found.judged) == 4  # the scenario's own is a corner
    assert len(found.trained) == 8
    assert sum(c.lanes for c in found.trained) == 32


def test_one_price_may_be_a_range_and_the_other_fixed():
    setting = load_setting(priced_copy(read_scenario("3g-mobilenet")))
    policy = train_policy(setting, replace(SMALL, most_device_second=2.0, planning_backlogs=3))
    rng = np.random.default_rng(0)
    data = Data.of(setting)
    found = for_prices(setting, policy.belief, policy.advantages, data, 32, rng)
    prices = {c.setting.prices for c in (*found.trained, *found.judged)}
    assert {p.megabyte for p in prices} == {3.0}
    assert {p.device_second for p in prices} >= {0.0, 0.5, 2.0}


def test_several_tasks_are_judged_by_the_mean_and_the_greatest_loss(stream, monkeypatch):
    validation = Validation((stream, stream), 0.5)
    means = {"planning": (0.5, 0.7), "better": (0.6, 0.8), "mixed": (0.8, 0.6)}
    cases = [type("TrainingTask", (), {"setting": stream, "at": k})() for k in (0, 1)]
    validation._judged = cases
    monkeypatch.setattr(Validation, "rewards", lambda self, c, name: np.array([means[name][c.at]]))
    assert validation.reward("planning") == pytest.approx(0.6)
    assert validation.reward("better") == pytest.approx(0.7)
    assert validation.reward("mixed") == pytest.approx(0.7 - 0.1)


def test_traces_may_be_left_out_or_brought(stream):
    test = stream.traces("test").traces
    found = Data.leaving_out(stream, test[2].name)
    names = [t.name for t in found.train.traces]
    assert test[2].name not in names
    assert {t.name for t in test} - {test[2].name} <= set(names)
    judged = stream.traces("validation").traces
    assert [t.name for t in found.validation.traces] == [t.name for t in judged]
    bare = Data.leaving_out(stream, test[2].name.removesuffix(".generated"))
    assert [t.name for t in bare.train.traces] == names
    with pytest.raises(UsageError, match=f"expected one of {test[0].name}"):
        Data.leaving_out(stream, "nobody")
    brought = TraceSet(test[:11], False, "some")
    held = Data.held_out(brought)
    assert [t.name for t in held.validation.traces] == [test[k].name for k in (0, 5, 10)]
    assert len(held.train.traces) == 8
    one = Data.held_out(TraceSet(test[:1], False, "one"))
    assert one.train == one.validation
    with pytest.raises(UsageError, match="found none"):
        Data.held_out(TraceSet((), False, "none"))


def test_a_card_names_the_logs_and_not_what_was_laid_over_them(stream):
    plain = load_setting(tidy("3g-alexnet"))
    one, other = Data.of(stream), Data.of(plain)
    assert traces_digest(one.train.traces) != traces_digest(other.train.traces)
    assert one.record["trace_digests"] == other.record["trace_digests"]
    logs = (*other.train.traces, *other.validation.traces)
    assert other.record["trace_digests"] == sorted({trace_digest(log) for log in logs})


def test_where_the_policy_trails_is_drawn_more_often(stream, random_policy):
    """A policy that never sends trails on fast links and on no dead one."""
    fast = BandwidthTrace("fast", np.arange(20.0), np.full(20, 2e7), 20.0)
    dead = BandwidthTrace("dead", np.arange(20.0), np.zeros(20), 20.0)
    bank, policy = TraceBank([fast, dead]), random_policy(stream)
    belief = BandwidthBelief.from_traces(stream.traces("train").traces)
    trailing = WhereItTrails(stream, bank, belief, 60, 0.01)
    weights = replace(
        policy.weights,
        **{name: np.zeros_like(getattr(policy.weights, name)) for name in policy.weights.__slots__},
    )
    # 'bytes' speaks against what sends
    described = np.zeros_like(weights.described)
    described[DESCRIBED.index("bytes"), 0] = 1.0
    middle, out = np.zeros_like(weights.middle), np.zeros_like(weights.out)
    middle[0, 0], out[0] = 1.0, -50.0
    shy = replace(weights, described=described, middle=middle, out=out)
    shares = trailing.shares(policy.encoder(stream), shy, np.inf)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > shares[1]
    assert shares[0] / shares[1] <= MOST**2 + 1e-9
    lanes = group(stream, policy, 64, 0)
    lanes.simulator.bank, lanes.simulator.shares = bank, np.array([0.0, 1.0])
    lanes.simulator.place_randomly(np.ones(64, dtype=bool), 10)
    assert set(lanes.simulator.trace.tolist()) == {1}
    trained = train_policy(
        stream, replace(SMALL, frames=512, curriculum=0.01, generated=2, validation_frames=40)
    )
    assert "2 generated norway traces (fitted to" in trained.card.training["traces"]


def test_generated_traces_are_the_family_s_scaled_and_repeatable():
    setting = load_setting(read_scenario("lte-mobilenet"))
    one, two = (generated(setting, 3, np.random.default_rng(5)) for _ in range(2))
    assert [t.name for t in one.traces] == [t.name for t in two.traces]
    assert all(
        np.array_equal(a.rates_bps, b.rates_bps)
        for a, b in zip(one.traces, two.traces, strict=True)
    )
    # Belgium's logs at a tenth: a few Mbit/s
    assert all(5e5 < t.rates_bps.mean() < 8e6 for t in one.traces)
    both = with_generated(setting.traces("validation"), one)
    assert len(both.traces) == len(setting.traces("validation").traces) + 3


def test_inputs_that_are_left_out_change_no_score():
    hidden = ("log_rate_1", "advantage_slow")
    net = Scorer(8, 2.0, without=hidden)
    with torch.no_grad():
        net.out.weight.normal_()
    weights = net.exported()
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (20, WIDTH)).astype(np.float32)
    x[:, -12:] = 1.0
    other = x.copy()
    other[:, CONTEXT.index("log_rate_1")] = 3.0
    described = other[:, len(CONTEXT) : -12].reshape(20, 12, len(DESCRIBED))
    described[:, :, DESCRIBED.index("advantage_slow")] = -3.0
    assert np.array_equal(weights.scores(x), weights.scores(other))
    theirs = net(torch.from_numpy(other)).detach().numpy()
    assert theirs == pytest.approx(weights.scores(x), abs=1e-4)
    other[:, CONTEXT.index("log_rate_0")] += 1.0
    assert not np.array_equal(weights.scores(x), weights.scores(other))
    with pytest.raises(UsageError, match="without: found 'nothing', expected one of log_rate_0"):
        Scorer(8, 2.0, without=("nothing",))


def test_recurrent_ppo_begins_as_planning(stream, random_policy):
    import gymnasium as gym

    from envs.observed import HIDDEN

    space = gym.spaces.Box(-3.0, 3.0, (WIDTH + HIDDEN,), np.float32)
    policy = RecurrentScorerPolicy(
        space, gym.spaces.Discrete(12), lambda _: 1e-3, hidden=8, memory=4
    )
    rewards = []
    for run in (
        lambda lanes: recurrent_reward(lanes, policy, 50),
        lambda lanes: mean_reward(lanes, PlanningAlone(), 50),
    ):
        bank = TraceBank(stream.traces("validation").traces)
        lanes = ObservedLanes(
            stream, bank, len(bank.names), random_policy(stream).encoder(stream), "policy",
            np.random.default_rng(1), 0.5,
        )  # fmt: skip
        rewards.append(run(lanes))
    assert np.array_equal(*rewards)
    with torch.no_grad():
        policy.action_net.out.weight.normal_()
    assert isinstance(policy.optimizer, torch.optim.Adam)
    owned = {id(p) for g in policy.optimizer.param_groups for p in g["params"]}
    assert owned == {id(p) for p in policy.parameters()}


def test_a_slower_device_is_a_slower_profile_and_another_digest():
    plain = read_scenario("lte-mobilenet")
    slow = plain.with_node(0, slowdown=1.5)
    assert slow.digest != plain.digest
    assert slow.with_node(0, slowdown=1.0).digest == plain.digest
    one, two = load_setting(plain), load_setting(slow)
    assert two.device.interval_s(0, 0, 5) == pytest.approx(1.5 * one.device.interval_s(0, 0, 5))
    assert two.device.encode_s("jpeg35", "") == pytest.approx(
        1.5 * one.device.encode_s("jpeg35", "")
    )
    assert "1.5 times slower" in two.device.emulation
    assert two.profiles["edge"] == one.profiles["edge"]


@pytest.mark.parametrize(
    ("of_others", "chosen"),
    [
        ({}, BLIND_S),
        # better on every trace
        ({0.25: [0.01, 0.012, 0.011], 2.0: [0.02, 0.021, 0.022]}, 2.0),
        # better on average, by the luck of one trace
        ({1.0: [0.1, 0.05, -0.05]}, BLIND_S),
        ({1.0: [0.1, 0.05, -0.05], 4.0: [0.001, 0.001, 0.0012]}, 4.0),
        # one trace cannot tell
        ({0.25: [0.3]}, BLIND_S),
    ],
)
def test_another_time_to_ask_is_taken_where_the_traces_agree(monkeypatch, of_others, chosen):
    traces = len(next(iter(of_others.values()), (0.0, 0.0)))

    def rewards(self, task, decider):
        assert isinstance(decider, PlanningAlone)
        return 0.8 + np.array(of_others.get(self._blind_s, [0.0] * traces))

    monkeypatch.setattr(Validation, "rewards", rewards)
    found, means, planned = learnt_blind_s([None], 60)
    assert np.mean(planned) == pytest.approx(0.8 + np.mean(of_others.get(chosen, [0.0])))
    assert found == chosen
    (means,) = means.values()
    assert means["0.5"] == pytest.approx(0.8)
    assert means[f"{chosen:g}"] == pytest.approx(0.8 + np.mean(of_others.get(chosen, [0.0])))
    assert set(means) == {"0.25", "0.5", "1", "2", "4"}


def test_when_to_ask_is_learnt_and_what_is_trained_asks_so(stream, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "experiments.learning.training.learnt_blind_s",
        lambda judged, frames, heard: asked.append((judged, frames)) or (2.0, {"why": {}}, None),
    )
    policy = train_policy(stream, replace(SMALL, blind_s=0.0))
    assert policy.card.blind_s == policy.card.training["blind_s"] == 2.0
    assert policy.card.training["why"] == {}
    assert [frames for _, frames in asked] == [SMALL.validation_frames]
    assert train_policy(stream, SMALL).card.blind_s == 0.5
    assert len(asked) == 1
