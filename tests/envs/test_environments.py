"""The environments by name, in every form: what they promise, and what is refused."""

import contextlib
import doctest
import inspect
import io
import os
import re
import subprocess
import sys
import warnings

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from artefacts import ArtefactError, UsageError, data_directory
from controller.physics import TraceBank
from controller.policies import SHIPPED_POLICIES
from controller.policies.features import NAMES as NAMES_SEEN
from controller.policies.network import load_policy, save_policy
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, WIDTH
from controller.scenarios.file import SHIPPED
from envs.episodes import Episodes
from envs.observed import ObservedLanes
from envs.preparation import prepare, prepared
from envs.single import ClosedLoopEnv, CoInferenceEnv, FrameStreamEnv
from envs.stable_baselines import ObservedVecEnv, stable_baselines_env

PLACE = "coinfer.gym:"
NAMES = (PLACE + "coinfer/FrameStream-v0", PLACE + "coinfer/ClosedLoop-v0")


@pytest.mark.parametrize("name", NAMES)
def test_both_checkers_pass(name, capsys):
    env = gym.make(name)
    with warnings.catch_warnings():
        # SB3 remarks that it has no opinion on spaces of this shape; anything else is an error
        warnings.simplefilter("error")
        check_env(env.unwrapped)
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
def test_the_plan_that_was_executed_is_in_info(name):
    """A candidate that stays on the device gives way to one that sends where nothing is known."""
    env = gym.make(name)
    env.reset(seed=0)
    core, table = env.unwrapped.episodes, env.unwrapped.setting.table
    plans, asked = [], 0
    for _ in range(100):
        (seen,) = core._observations
        alone = int(np.flatnonzero(table.quiet[seen.plans[0]] & seen.present[0])[0])
        plan = env.step(np.int64(alone))[4]["plan"]
        plans.append(int(plan))
        assert plan == seen.plans[0, alone] or not table.local[plan]
        asked += plan != seen.plans[0, alone]
    assert not table.local[plans[0]], "nothing is known of the link"
    assert 0 < asked < 50


def episodes(setting, lanes, frames=256):
    made = prepared(setting).lanes(lanes, "policy", np.random.default_rng(0))
    return Episodes((made,), frames)


def test_the_parts_add_up_to_the_reward(stream):
    core = episodes(stream, 16)
    core.reset()
    for k in range(50):
        step = core.step(np.full(16, k % CANDIDATES))
        (result,) = step.results
        parts = result.quality - result.taken.quality - result.device_cost - result.byte_cost
        assert step.sampled == pytest.approx(parts)
        assert not result.quality[~result.in_time].any()
        assert np.array_equal(step.reward, core.groups[0].simulator.mean_reward(result))


def test_bandwidth_is_seen_only_through_transfers(stream):
    core = episodes(stream, 4)
    core.groups[0]._stream._prober._probe = None  # what follows is about plans that send nothing
    first = seen = core.reset()
    for local in (True, False):
        for _ in range(40):
            plans = core._observations[0].plans
            step = core.step(np.argmax(stream.table.local[plans] == local, axis=1))
            seen = step.observation
        known = NAMES_SEEN.index("seen_anything")
        assert seen[:, known].any() != local
        assert not local or np.array_equal(seen[:, :4], first[:, :4])
    assert seen[:, known].all()


def test_the_wrong_kind_of_scenario_is_refused():
    with pytest.raises(UsageError, match="found kind 'closed-loop', expected 'frame-stream'"):
        gym.make(NAMES[0], scenario="edgent")


def test_the_sb3_adapter_resets_and_tells_truncation(stream, random_policy):
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    encoder = random_policy(stream).encoder(stream)
    env = ObservedVecEnv([ObservedLanes(stream, bank, 3, encoder, "policy", rng, 0.5)], 10)
    space = env.observation_space
    assert space.contains(env.reset()[0])
    for step in range(1, 21):
        observation, reward, done, infos = env.step(np.zeros(3, dtype=np.int64))
        assert all(space.contains(row) for row in observation)
        assert reward.dtype == np.float32
        assert done.all() == (step % 10 == 0)
        assert all(("terminal_observation" in i) == (step % 10 == 0) for i in infos)


def test_the_docstring_names_every_number_of_the_observation():
    """The docstrings are the specification."""
    text = FrameStreamEnv.__doc__
    assert f"`Box(-3, 3, ({WIDTH},), float32)`" in text
    assert f"`Discrete({CANDIDATES})`" in text
    rows = re.findall(r"^ +\| (\d+)(?:-(\d+))?(?: \+ 15 k)? \| ", text, re.MULTILINE)
    named = [k for first, last in rows for k in range(int(first), int(last or first) + 1)]
    # the first row is the table of actions: 0
    assert named == [0, *range(len(CONTEXT) + len(DESCRIBED))]
    assert f"The last {CANDIDATES} numbers, {WIDTH - CANDIDATES} to {WIDTH - 1}," in text
    lines = text.splitlines()
    for names, begin, word in (
        (CONTEXT, 0, {"device_backlog": "device backlog", "shift_log_rate": "change point",
                      "round_trip": "round trip", "best_reward": "greatest expected reward"}),
        (DESCRIBED, len(CONTEXT), {"advantage": "advantage", "reward": "expected reward",
                                   "bytes": "KiB sent", "price": "price paid"}),
    ):  # fmt: skip
        behind = "" if begin == 0 else " + 15 k"
        for name, said in word.items():
            row = f"| {begin + names.index(name)}{behind} | "
            assert any(line.strip().startswith(row) and said in line for line in lines), name


@pytest.mark.parametrize("made", [FrameStreamEnv, ClosedLoopEnv])
def test_the_docstrings_name_every_argument_and_their_examples_run(made):
    arguments = inspect.signature(CoInferenceEnv.__init__).parameters
    for name in arguments:
        assert name == "self" or f"`{name}`" in made.__doc__
    ran = doctest.run_docstring_examples
    outcome = io.StringIO()
    with contextlib.redirect_stdout(outcome):
        ran(made.__doc__.replace("```python", "").replace("```", ""), {}, name=made.__name__)
    assert outcome.getvalue() == ""
    assert ">>> " in made.__doc__


def test_every_form_gives_the_same_numbers():
    """One lane by Gymnasium, by its vector API, and by stable-baselines3's, from one seed."""
    options = {"scenario": "3g-alexnet", "part": "validation", "episode_frames": 20}
    one = gym.make(NAMES[0], **options)
    many = gym.make_vec(NAMES[0], num_envs=1, **options)
    theirs = stable_baselines_env("3g-alexnet", 1, "validation", episode_frames=20)
    theirs.seed(5)
    seen = [one.reset(seed=5)[0], many.reset(seed=5)[0][0], theirs.reset()[0]]
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    for k in range(60):
        a, reward, _, over, info = one.step(k % CANDIDATES)
        b, rewards, _, overs, infos = many.step(np.array([k % CANDIDATES]))
        c, scores, dones, found = theirs.step(np.array([k % CANDIDATES]))
        assert reward == rewards[0] == pytest.approx(scores[0])
        assert over == overs[0] == dones[0] == (k % 20 == 19)
        assert info["plan"] == infos["plan"][0] == found[0]["plan"]
        assert info["quality"] == infos["quality"][0] == found[0]["quality"]
        assert info["correct"] == (info["quality"] == 1.0)  # its name of before, of a class
        if over:
            assert np.array_equal(a, infos["final_obs"][0])
            assert np.array_equal(a, found[0]["terminal_observation"])
            a, _ = one.reset()
        assert np.array_equal(a, b[0])
        assert np.array_equal(a, c[0])


def test_it_is_what_shipped_policies_are_trained_in(stream):
    """The environment's rows are those of a shipped policy's encoder, behind them nothing else."""
    policy = load_policy(SHIPPED_POLICIES / stream.scenario.name, stream)
    bank = TraceBank(stream.traces("train").traces)
    group = ObservedLanes(
        stream, bank, 3, policy.encoder(stream), "policy", np.random.default_rng(1),
        policy.card.blind_s,
    )  # fmt: skip
    training = ObservedVecEnv([group], 30)
    env = gym.make_vec(NAMES[0], num_envs=3, episode_frames=30)
    seen, theirs = env.reset(seed=1)[0], training.reset()
    for k in range(70):
        assert np.array_equal(seen, theirs[:, :WIDTH])
        actions = np.full(3, k % CANDIDATES)
        seen, reward, _, _, _ = env.step(actions)
        theirs, rewards, _, _ = training.step(actions)
        assert np.array_equal(reward.astype(np.float32), rewards)


def test_without_a_shipped_policy_it_is_planned_from_the_training_traces(tmp_path):
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace("3g-alexnet", "own"))
    env = gym.make(NAMES[0], scenario=tmp_path / "own.toml")
    assert env.unwrapped.prepared.setting.scenario.name == "own"
    table = env.unwrapped.prepared.advantages.table
    shipped = prepare("3g-alexnet").advantages.table
    assert table.shape == shipped.shape
    assert not np.array_equal(table, shipped) or data_directory() is not None
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_a_policy_s_folder_makes_the_observations(tmp_path, stream, random_policy):
    save_policy(tmp_path, random_policy(stream))
    env = gym.make(NAMES[0], policy=tmp_path)
    used = env.unwrapped.prepared
    assert np.array_equal(used.advantages.table, load_policy(tmp_path, stream).advantages.table)
    assert used.origin != prepare("3g-alexnet").origin
    assert used is gym.make(NAMES[0], policy=tmp_path).unwrapped.prepared
    with pytest.raises(ArtefactError, match=r"policy\.json: found no such file"):
        gym.make(NAMES[0], policy=tmp_path / "none")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_after_the_end_or_before_a_reset_is_refused(name):
    env = gym.make(name, episode_frames=3).unwrapped
    with pytest.raises(gym.error.ResetNeeded, match="found no episode under way"):
        env.step(0)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    with pytest.raises(gym.error.ResetNeeded, match="expected a reset before it"):
        env.step(0)
    env.reset()
    assert not env.step(0)[3]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"part": "exam"}, "part: found 'exam', expected train, validation, test"),
        ({"half": "both"}, "half: found 'both', expected policy or report"),
        ({"episode_frames": 0}, "episode_frames: found 0, expected a whole number above 0"),
        ({"episode_frames": 1.5}, "episode_frames: found 1.5, expected"),
        ({"episode_frames": True}, "episode_frames: found True, expected"),
        ({"episode_frames": "9"}, "episode_frames: found '9', expected"),
        ({"scenario": "nowhere"}, "scenario: found 'nowhere', expected one of"),
        ({"scenario": "edgent"}, "found kind 'closed-loop', expected 'frame-stream'"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_arguments_that_make_no_sense_are_one_line(make, options, why):
    with pytest.raises(UsageError, match=why):
        make(NAMES[0], **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_environment_goes_on_alike(name):
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=4)
    for k in range(10):
        env.step(k % CANDIDATES)
    other = cloudpickle.loads(cloudpickle.dumps(env))
    assert np.array_equal(env.render(), other.render())
    for k in range(300):
        mine, theirs = env.step(k % CANDIDATES), other.step(k % CANDIDATES)
        assert np.array_equal(mine[0], theirs[0])
        assert mine[1] == theirs[1]
        if mine[3]:
            break
    assert mine[3]
    assert other.observation_space.origin == env.unwrapped.prepared.origin


@pytest.mark.system
def test_subprocesses_step_what_this_process_would():
    def one():
        return gym.make(NAMES[0], episode_frames=6)

    apart, here = SubprocVecEnv([one, one]), DummyVecEnv([one, one])
    try:
        for env in (apart, here):
            env.seed(7)
        assert np.array_equal(apart.reset(), here.reset())
        for _ in range(15):
            mine, theirs = (env.step(np.array([0, 3])) for env in (apart, here))
            for a, b in zip(mine[:3], theirs[:3], strict=True):
                assert np.array_equal(a.astype(np.float32), b)
        origins = {found.origin for found in apart.get_attr("prepared")}
        assert origins == {prepare("3g-alexnet").origin}
    finally:
        apart.close()


@pytest.mark.system
def test_earlier_ids_make_the_same():
    """In a fresh process, so that nothing else has registered the names."""
    script = (
        "import gymnasium\n"
        "for name in ('FrameStream', 'ClosedLoop'):\n"
        "    env = gymnasium.make(f'envs.registration:coinfer/{name}-v0')\n"
        "    many = gymnasium.make_vec(f'envs.registration:coinfer/{name}-v0', num_envs=2)\n"
        "    print(env.spec.id, env.action_space, many.reset(seed=0)[0].shape)\n"
        "import sys; print('stable_baselines3' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"coinfer/FrameStream-v0 Discrete(12) (2, {WIDTH})",
        f"coinfer/ClosedLoop-v0 Discrete(12) (2, {WIDTH})",
        "False False",
    ]
