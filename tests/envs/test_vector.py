"""Gymnasium's vector API: seeds, masks and actions of many lanes."""

import inspect

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from artefacts import UsageError
from controller.physics import TraceBank
from controller.policies import SHIPPED_POLICIES
from envs.observed import ObservedLanes
from envs.single import CoInferenceEnv, FrameStreamEnv
from envs.stable_baselines import ObservedVecEnv, stable_baselines_env
from envs.vector import CoInferenceVectorEnv, FrameStreamVectorEnv

PLACE = "coinfer.gym:"
NAMES = (PLACE + "coinfer/FrameStream-v0", PLACE + "coinfer/ClosedLoop-v0")


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


def seen_by_lanes(env, frames=50):
    """What every lane sees under the first candidate, as bytes."""
    env.reset()
    rows = np.array([env.step(np.zeros(env.num_envs, dtype=np.int64))[0] for _ in range(frames)])
    return [rows[:, lane].tobytes() for lane in range(env.num_envs)]


def test_lanes_that_nobody_seeded_differ():
    """One scenario, one plan: only what an environment draws by itself can tell lanes apart."""
    sync = seen_by_lanes(gym.make_vec(NAMES[0], num_envs=3, vectorization_mode="sync"))
    batched, other = (seen_by_lanes(gym.make_vec(NAMES[0], num_envs=3)) for _ in range(2))
    assert len({*sync, *batched, *other}) == 9


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
    at = env.episodes.groups[0].simulator.now_s.copy()
    after, _ = env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env.episodes.groups[0].simulator.frame.tolist() == [0, 5, 5]
    assert np.array_equal(env.episodes.groups[0].simulator.now_s[1:], at[1:])
    # lanes of the same backlogs share a matrix product: the last bits depend on who shares it
    assert np.allclose(after[1:], before[1:], rtol=0.0, atol=1e-5)
    assert not np.allclose(after[0], before[0], rtol=0.0, atol=1e-2)


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
    assert env.episodes.groups[0].simulator.frame.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_number_of_lanes_that_is_none_is_refused(count):
    with pytest.raises(UsageError, match="num_envs: found"):
        FrameStreamVectorEnv("3g-alexnet", count)


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
    assert env.episodes.groups[0].simulator.frame.tolist() == [0, 0]
    one = gym.make(NAMES[0])
    one.reset(seed=0)
    with pytest.raises(UsageError, match=why):
        one.step(action)
    bank, rng = TraceBank(stream.traces("train").traces), np.random.default_rng(0)
    encoder = random_policy(stream).encoder(stream)
    training = ObservedVecEnv([ObservedLanes(stream, bank, 2, encoder, "policy", rng, 0.5)], 10)
    training.reset()
    with pytest.raises(UsageError, match=why):
        training.step(np.array([action] * 2))


def test_actions_of_another_shape_are_refused():
    env = gym.make_vec(NAMES[0], num_envs=2)
    env.reset(seed=0)
    with pytest.raises(UsageError, match=r"actions: found shape \(3,\), expected \(2,\)"):
        env.step(np.zeros(3, dtype=np.int64))


def test_lanes_of_a_vector_are_not_drawn():
    with pytest.raises(UsageError, match="render_mode: found 'human', expected rgb_array"):
        FrameStreamVectorEnv("3g-alexnet", 2, render_mode="human")
    with pytest.raises(UsageError, match="render_mode: found 'svg', expected human or rgb_array"):
        FrameStreamEnv(render_mode="svg")


def test_every_lane_is_drawn():
    """An episode that begins anew is drawn anew."""
    many = gym.make_vec(NAMES[0], num_envs=2, render_mode="rgb_array", episode_frames=6)
    many.reset(seed=3)
    blank = many.render()
    assert len(blank) == 2
    assert np.array_equal(*blank)
    for _ in range(5):
        many.step(np.zeros(2, dtype=np.int64))
    one, other = many.render()
    assert one.shape == blank[0].shape
    assert not np.array_equal(one, other)
    recorders = many.unwrapped._recorders
    _, _, _, truncated, info = many.step(np.zeros(2, dtype=np.int64))
    assert truncated.all()
    assert all(np.array_equal(picture, blank[0]) for picture in many.render())
    assert [len(r.frames) for r in recorders] == [0, 0]
    many.step(np.ones(2, dtype=np.int64))
    _, _, _, _, info = many.step(np.ones(2, dtype=np.int64))
    last = [r.frames[-1] for r in recorders]
    table = many.unwrapped.setting.table
    assert [f.plan for f in last] == [table.plans[k] for k in info["plan"]]
    assert [f.in_time for f in last] == info["in_time"].tolist()


def test_every_argument_of_the_single_environment_is_one_of_many():
    """By the signatures, and by making them."""
    single = inspect.signature(CoInferenceEnv.__init__).parameters
    many = inspect.signature(CoInferenceVectorEnv.__init__).parameters
    assert set(many) - set(single) == {"num_envs"}
    assert set(single) <= set(many)
    documented = FrameStreamEnv.__doc__.split("## Arguments")[1].split("```")[0]
    for name in set(single) - {"self"}:
        assert f"- `{name}` (" in documented
    for mode in ("vector_entry_point", "sync"):
        env = gym.make_vec(
            NAMES[0], num_envs=2, vectorization_mode=mode, scenario="3g-alexnet",
            part="validation", half="report", episode_frames=5, render_mode="rgb_array",
            policy=SHIPPED_POLICIES / "3g-alexnet",
        )  # fmt: skip
        assert env.reset(seed=0)[0].shape == (2, 228)
        env.close()


def test_a_lane_of_stable_baselines_is_reset_before_it_is_stepped():
    env = stable_baselines_env("3g-alexnet", 2)
    env.step_async(np.zeros(2, dtype=np.int64))
    with pytest.raises(ResetNeeded, match="step: found no reset before it"):
        env.step_wait()
    env.reset()
    assert env.step(np.zeros(2, dtype=np.int64))[0].shape == (2, 228)
