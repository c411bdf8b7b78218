import dataclasses
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from artefacts import UsageError
from controller.physics import TraceBank
from controller.physics.table import build_table
from controller.planners.fixed import FixedController
from controller.plans import device_only
from controller.policies.features import FEATURES
from controller.policies.features import NAMES as OBSERVED
from controller.policies.probing import probe_plan
from controller.scenarios import load_setting, read_scenario
from envs.observed import ObservedLanes
from envs.simulator import Simulator
from envs.single import FrameStreamEnv
from envs.vector import LaneCore, VectorEnv
from experiments.evaluation.evaluator import bound_per_frame, clairvoyant_values, evaluate
from experiments.learning.environment import ViewVecEnv
from traces.trace import BandwidthTrace

PLACE = "envs.registration:"
NAMES = (PLACE + "coinfer/FrameStream-v0", PLACE + "coinfer/ClosedLoop-v0")


@pytest.mark.parametrize("name", NAMES)
def test_both_checkers_pass(name):
    env = gym.make(name)
    with warnings.catch_warnings():
        # SB3 remarks that it has no opinion on spaces of this shape; anything else is an error
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
        check_env_sb3(env.unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_everything(name):
    def rollout(seed):
        env = gym.make(name)
        out = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        for _ in range(300):
            action = np.int64(rng.integers(env.action_space.n))
            observation, reward, _, truncated, _ = env.step(action)
            out.append(np.append(observation, reward))
            if truncated:
                out.append(env.reset()[0])
        return np.concatenate(out)

    one, two, other = rollout(3), rollout(3), rollout(4)
    assert np.array_equal(one, two)
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_that_was_executed_is_told(name):
    env = gym.make(name)
    env.reset(seed=0)
    table = env.unwrapped.setting.table
    alone, asking = np.flatnonzero(table.quiet)[0], probe_plan(table)
    told = [env.step(np.int64(alone))[4]["plan"] for _ in range(100)]
    assert told[0] == asking, "nothing is known of the link"
    assert set(told) == {alone, asking}
    assert told.count(alone) > told.count(asking)


def test_the_vector_env_is_the_same_batched_physics():
    env = gym.make_vec(NAMES[0], num_envs=7)
    observation, _ = env.reset(seed=1)
    assert observation.shape == (7, env.single_observation_space.shape[0])
    for _ in range(300):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert not terminated.any()
        if truncated.any():
            assert info["final_obs"].shape == observation.shape
    env.close()


def rewards(env, frames=200):
    """Of the first plan in every lane, (frames, L)."""
    env.reset()
    return np.array([env.step(np.zeros(env.num_envs, dtype=np.int64))[1] for _ in range(frames)])


def test_lanes_that_nobody_seeded_differ():
    """One scenario, one plan: only what an environment draws by itself can tell lanes apart."""
    sync = rewards(gym.make_vec(NAMES[0], num_envs=3, vectorization_mode="sync"))
    batched, other = (rewards(gym.make_vec(NAMES[0], num_envs=3)) for _ in range(2))
    columns = [*sync.T, *batched.T, *other.T]
    assert len({column.tobytes() for column in columns}) == 9


def test_a_seed_decides_every_lane():
    def rollout(seed):
        env = gym.make_vec(NAMES[0], num_envs=3)
        env.reset(seed=seed)
        zeros = np.zeros(3, dtype=np.int64)
        return np.concatenate([env.step(zeros)[0] for _ in range(50)])

    assert np.array_equal(rollout(5), rollout(5))
    assert not np.array_equal(rollout(5), rollout(6))
    assert np.array_equal(rollout([1, 2, 3]), rollout([1, 2, 3]))
    assert not np.array_equal(rollout([1, 2, 3]), rollout([1, 2, 4])), "every seed of a list counts"


@pytest.mark.parametrize("seed", [[1, 2], [1, None, 2], [1, 2, 3, 4]])
def test_seeds_that_are_not_one_a_lane_are_refused(seed):
    env = gym.make_vec(NAMES[0], num_envs=3)
    with pytest.raises(UsageError, match=r"expected one for each of 3 lanes, or none at all"):
        env.reset(seed=seed)


def test_a_reset_mask_resets_its_lanes_alone():
    env = gym.make_vec(NAMES[0], num_envs=3)
    env.reset(seed=0)
    for _ in range(5):
        before = env.step(np.zeros(3, dtype=np.int64))[0]
    at = env.core.simulator.now_s.copy()
    after, _ = env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env.core.simulator.frame.tolist() == [0, 5, 5]
    assert np.array_equal(env.core.simulator.now_s[1:], at[1:])
    assert np.array_equal(after[1:], before[1:])
    assert not np.array_equal(after[0], before[0])


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (np.array([1, 0, 0]), r"int64 \(3,\)"),
        (np.array([True, False]), r"bool \(2,\)"),
        (np.zeros(3, dtype=bool), "no lane in it"),
        ([True, False, False], r"\[True, False, False\]"),
    ],
)
def test_a_reset_mask_that_is_none_is_refused(mask, found):
    env = gym.make_vec(NAMES[0], num_envs=3)
    env.reset(seed=0)
    env.step(np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError, match=rf"reset_mask'\]: found {found}, expected booleans"):
        env.reset(options={"reset_mask": mask})
    assert env.core.simulator.frame.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_number_of_lanes_that_is_none_is_refused(count):
    with pytest.raises(UsageError, match="num_envs: found"):
        VectorEnv("3g-alexnet", count)


@pytest.mark.parametrize("seed", [-1, "x", 1.5, [1, -2]])
def test_a_seed_that_is_none_is_refused(seed):
    env = gym.make_vec(NAMES[0], num_envs=2)
    with pytest.raises(UsageError, match="seed: found"):
        env.unwrapped.reset(seed=seed)


def test_an_option_that_is_misspelt_is_refused():
    env = gym.make_vec(NAMES[0], num_envs=2)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="options: found 'reset_mas', expected reset_mask"):
        env.reset(options={"reset_mas": np.array([True, False])})


def test_a_mask_neither_seeds_nor_begins():
    env = gym.make_vec(NAMES[0], num_envs=2)
    mask = {"reset_mask": np.array([True, False])}
    with pytest.raises(UsageError, match="lanes that never began"):
        env.reset(options=mask)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="a seed beside it"):
        env.reset(seed=1, options=mask)


def test_a_vector_step_before_a_reset_is_refused():
    env = gym.make_vec(NAMES[0], num_envs=2)
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step(np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (-1, "found -1, expected 0 to"),
        (10**6, "found 1000000, expected 0 to"),
        (0.9, "found float64, expected whole numbers"),
        (np.nan, "found float64, expected whole numbers"),
        (True, "found bool, expected whole numbers"),
    ],
)
def test_actions_outside_the_space_are_refused(action, why, stream, random_policy):
    env = gym.make_vec(NAMES[0], num_envs=2)
    env.reset(seed=0)
    with pytest.raises(UsageError, match=why):
        env.step(np.array([action] * 2))
    assert env.core.simulator.frame.tolist() == [0, 0]
    one = gym.make(NAMES[0])
    one.reset(seed=0)
    with pytest.raises(UsageError, match=why):
        one.step(action)
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    view = random_policy(stream).view(stream)
    training = ViewVecEnv([ObservedLanes(stream, bank, 2, view, "policy", rng, 0.5)], 10)
    training.reset()
    with pytest.raises(UsageError, match=why):
        training.step(np.array([action] * 2))


def test_actions_of_another_shape_are_refused():
    env = gym.make_vec(NAMES[0], num_envs=2)
    env.reset(seed=0)
    with pytest.raises(UsageError, match=r"actions: found shape \(3,\), expected \(2,\)"):
        env.step(np.zeros(3, dtype=np.int64))


def test_the_parts_add_up_to_the_reward(stream):
    core = LaneCore(stream, 16, seed=0)
    core.reset()
    for k in range(50):
        result, _ = core.step(np.full(16, k % len(stream.table)))
        parts = result.correct - result.device_cost - result.byte_cost
        assert result.reward == pytest.approx(parts)
        assert not np.any(result.correct & ~result.in_time)


def test_bandwidth_is_seen_only_through_transfers(stream):
    core = LaneCore(stream, 4, seed=0)
    core.prober._probe = None  # what follows is about plans that send nothing
    first = core.reset()
    local = int(np.flatnonzero(stream.table.local)[0])
    for _ in range(40):
        core.step(np.full(4, local))
        seen = core.observe()
    assert np.array_equal(seen[:, :4], first[:, :4])
    assert not seen[:, -1].any()
    remote = int(np.flatnonzero(~stream.table.local)[0])
    for _ in range(40):
        core.step(np.full(4, remote))
        seen = core.observe()
    assert seen[:, -1].all()


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
    plan, told = no_rescue(stream), []
    for frame in range(8):
        decided_s = float(simulator.now_s[0])
        told += [(int(e.frame[0]), float(e.known_s[0]), decided_s) for e in simulator.ends()]
        simulator.step(np.array([plan]))
        assert int(simulator.frame[0]) == frame + 1
    assert [frame for frame, _, _ in told] == list(range(len(told)))
    deadline, interval = simulator.deadline_s, simulator.interval_s
    for frame, known_s, decided_s in told:
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


def test_the_wrong_kind_of_scenario_is_refused():
    with pytest.raises(UsageError, match="found kind 'closed-loop', expected 'frame-stream'"):
        gym.make(NAMES[0], scenario="edgent")


def test_the_sb3_adapter_resets_and_tells_truncation(stream, random_policy):
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    view = random_policy(stream).view(stream)
    env = ViewVecEnv([ObservedLanes(stream, bank, 3, view, "policy", rng, 0.5)], 10)
    space = env.observation_space
    assert space.contains(env.reset()[0])
    for step in range(1, 21):
        observation, reward, done, infos = env.step(np.zeros(3, dtype=np.int64))
        assert all(space.contains(row) for row in observation)
        assert reward.dtype == np.float32
        assert done.all() == (step % 10 == 0)
        assert all(("terminal_observation" in i) == (step % 10 == 0) for i in infos)


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
    accuracy = rows.correct.mean(axis=1)
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
    setting = load_setting(read_scenario("3g-mobilenet"))
    plan = device_only(setting.spec, 4)
    plans = [plan, dataclasses.replace(plan, gates=(0,), threshold=0.7)]
    table = build_table(
        setting.spec, setting.device, setting.edge, setting.outcomes, plans,
        temperatures=setting.model.temperatures,
    )  # fmt: skip
    calm = dataclasses.replace(
        setting, table=dataclasses.replace(table, device_sigma=0.0, edge_sigma=0.0)
    )
    traces = [BandwidthTrace("t", np.array([0.0]), np.array([1e6]), 100.0)]
    lanes = 200
    simulator = Simulator(calm, TraceBank(traces), lanes, "policy", np.random.default_rng(0))
    everyone = np.ones(lanes, dtype=np.bool_)
    simulator.place(everyone, np.zeros(lanes, dtype=np.int64), np.zeros(lanes))
    simulator.step(np.ones(lanes, dtype=np.int64))
    real = simulator.resources.device_s.copy()
    assert 0.1 < (real < table.head_s[1] - 1e-9).mean() < 0.9
    gate = float(table.early_s[1, 0])
    simulator.now_s = np.full(lanes, gate - 1e-6)
    believed = np.full(lanes, max(table.mean_head_s[1] - gate + 1e-6, 0.0))
    assert simulator.backlogs()[0] == pytest.approx(believed, abs=1e-9)
    simulator.now_s = np.full(lanes, gate + 1e-6)
    assert simulator.backlogs()[0] == pytest.approx(np.maximum(real - gate - 1e-6, 0.0), abs=1e-9)
    # whatever began later waits for what really happens
    assert table.mean_head_s[1] == pytest.approx(real.mean(), rel=0.1)


def test_an_upload_counts_from_when_it_is_handed_over():
    setting = load_setting(read_scenario("3g-mobilenet"))
    table = setting.table
    whole = ~table.local & ~table.gated & (table.up_bytes > 1200)
    late = int(np.argmax(np.where(whole & (table.head_s < 0.08), table.head_s, 0.0)))
    traces = [BandwidthTrace("t", np.array([0.0]), np.array([1e5]), 100.0)]
    simulator = Simulator(setting, TraceBank(traces), 1, "policy", np.random.default_rng(0))
    simulator.place(np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.int64), np.zeros(1))
    simulator.step(np.array([late]))
    simulator.now_s = np.array([0.5 * float(table.head_s[late])])
    assert simulator.backlogs()[1][0] == 0.0
    simulator.now_s = np.array([1.6 * float(table.head_s[late])])
    owed = float(simulator.backlogs()[1][0])
    assert float(table.up_bytes[late]) <= owed < 1.1 * float(table.up_bytes[late])  # headers too


def test_the_docstring_names_every_number_of_the_observation():
    """README calls the docstrings the specification."""
    text = FrameStreamEnv.__doc__
    assert f"`Box(-3, 3, ({FEATURES},), float32)`" in text
    rows = re.findall(r"^ +\| (\d+)(?:-(\d+))? \| ", text, re.MULTILINE)
    named = [k for first, last in rows for k in range(int(first), int(last or first) + 1)]
    assert named == list(range(FEATURES))
    lines = text.splitlines()
    for name, told in (("device_backlog", "device backlog"), ("shift_log_rate", "change point")):
        assert any(line.strip().startswith(f"| {OBSERVED.index(name)} | ") and told in line
                   for line in lines)  # fmt: skip
