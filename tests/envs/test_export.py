"""stable-baselines3 models become policies: the same decisions, and what is refused."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import NormalizeObservation, TransformAction
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize
from torch import nn

from artefacts import ArtefactError, UsageError
from coinfer import export_policy
from controller.policies.network import NETWORK_VERSION, load_policy, read_card, save_policy
from controller.policies.observation import CANDIDATES, CONTEXT, WIDTH
from envs.export import exported_weights
from envs.stable_baselines import ObservedVecEnv, stable_baselines_env

NAME = "coinfer.gym:coinfer/FrameStream-v0"


@pytest.fixture(scope="module")
def lanes():
    return stable_baselines_env("3g-alexnet", 64)


@pytest.fixture(scope="module")
def seen(lanes):
    """10,048 observations under candidates drawn at random."""
    rng = np.random.default_rng(0)
    lanes.seed(0)
    rows = [lanes.reset()]
    for _ in range(156):
        rows.append(lanes.step(rng.integers(0, CANDIDATES, 64))[0])
    return np.concatenate(rows)


def model(algorithm, env, net_arch=None, activation=None, seed=0, **more):
    kwargs = {"net_arch": net_arch} if net_arch is not None else {}
    kwargs |= {"activation_fn": activation} if activation is not None else {}
    return algorithm("MlpPolicy", env, policy_kwargs=kwargs, seed=seed, device="cpu", **more)


def assert_decides_alike(weights, trained, observations):
    """Where torch's two best are apart by more than rounding: the same choice; at most 1 in 10,000
    is closer.
    """
    theirs, _ = trained.predict(observations, deterministic=True)
    outputs = weights.outputs(observations)
    off = outputs.argmax(axis=1) != theirs
    rows = np.flatnonzero(off)
    near = outputs[rows].max(axis=1) - outputs[rows, theirs[rows]]
    assert np.all(near <= 1e-5 * np.maximum(np.abs(outputs[rows]).max(axis=1), 1.0))
    assert off.sum() <= 1
    present = observations[np.arange(len(theirs)), WIDTH - CANDIDATES + theirs] > 0
    chosen = np.where(present, theirs, 0)
    assert np.array_equal(weights.decide(observations)[~off], chosen[~off])


@pytest.mark.parametrize(
    ("algorithm", "net_arch", "activation"),
    [
        (PPO, None, None),
        (A2C, None, None),
        (DQN, None, None),
        (PPO, [], None),
        (DQN, [], None),
        (PPO, [8], nn.ReLU),
        (PPO, {"pi": [32, 16, 8], "vf": [4]}, nn.ELU),
        (A2C, {"vf": [4]}, nn.Tanh),
        (A2C, [24, 24], nn.LeakyReLU),
        (PPO, [16], nn.SiLU),
        (DQN, [16, 16, 16], nn.GELU),
        (DQN, [40], nn.Sigmoid),
    ],
)
def test_numpy_decides_as_the_model_on_10_000_observations(
    lanes, seen, algorithm, net_arch, activation
):
    made = model(algorithm, lanes, net_arch, activation)
    with torch.no_grad():  # untrained biases are 0, and PPO's last layer is nearly so
        for parameter in made.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    weights = exported_weights(made)
    assert len(seen) > 10_000
    assert len(np.unique(weights.decide(seen))) > 1
    assert_decides_alike(weights, made, seen)


def test_candidates_that_are_absent_stand_for_the_first_as_in_the_environment():
    env = stable_baselines_env("edgent", 64)
    made = model(PPO, env, [16])
    with torch.no_grad():
        made.policy.action_net.weight.normal_()
    env.seed(1)
    rows, rng = [env.reset()], np.random.default_rng(0)
    for _ in range(40):
        rows.append(env.step(rng.integers(0, CANDIDATES, 64))[0])
    observations = np.concatenate(rows)
    theirs, _ = made.predict(observations, deterministic=True)
    absent = observations[np.arange(len(theirs)), WIDTH - CANDIDATES + theirs] == 0
    assert 0.05 < absent.mean() < 0.95
    weights = exported_weights(made)
    assert_decides_alike(weights, made, observations)
    assert not weights.decide(observations)[absent].any()


def test_a_trained_model_is_written_read_and_decides_alike(tmp_path, stream, lanes, seen):
    trained = model(PPO, lanes, [16], n_steps=16, batch_size=256).learn(2048)
    made = export_policy(trained, tmp_path / "new" / "folder")
    again = load_policy(tmp_path / "new" / "folder", stream)
    assert np.array_equal(again.decide(seen), made.decide(seen))
    assert_decides_alike(again.weights, trained, seen)
    card = read_card(tmp_path / "new" / "folder")
    assert (card.format_version, card.hidden, card.network.widths) == (NETWORK_VERSION, 0, (16,))
    assert card.training["frames_seen"] == 2048
    assert card.training["algorithm"] == "PPO"
    assert card.training["seed"] == 0
    assert not (again.outside(seen[:, : len(CONTEXT)])).any(), "met in training"
    save_policy(tmp_path / "again", again)
    for name in ("policy.json", "policy.npz"):
        one, two = (tmp_path / place / name for place in ("new/folder", "again"))
        assert one.read_bytes() == two.read_bytes()


def test_planning_alone_of_an_exported_policy_takes_the_first_candidate(tmp_path, lanes, seen):
    planned = export_policy(model(A2C, lanes), tmp_path).planned()
    assert not planned.decide(seen).any()


def test_a_model_that_was_read_needs_its_environment(tmp_path, lanes):
    model(PPO, lanes, [8]).save(tmp_path / "model.zip")
    read = PPO.load(tmp_path / "model.zip", device="cpu")
    with pytest.raises(UsageError, match=r"export, env: found none .*export_policy\(model, folder"):
        export_policy(read, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    one = gym.make(NAME)
    for env in (one, make_vec_env(lambda: gym.make(NAME), 2), VecMonitor(lanes)):
        export_policy(read, tmp_path / "p", env)
    assert (tmp_path / "p" / "policy.npz").exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: make_vec_env(NAME, 2),
        lambda: VecMonitor(stable_baselines_env("3g-alexnet", 2)),
        lambda: VecNormalize(stable_baselines_env("3g-alexnet", 2), norm_obs=False),
        lambda: gym.make(NAME, episode_frames=9),
    ],
)
def test_every_form_of_the_environment_will_do(tmp_path, wrap):
    trained = model(A2C, wrap(), [8], n_steps=8).learn(64)
    export_policy(trained, tmp_path)
    assert read_card(tmp_path).training["frames_seen"] == 64


class Squeezed(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 4)
        self.net = nn.Linear(WIDTH, 4)

    def forward(self, x):
        return self.net(x)


class Slow(gym.Env):
    """Somebody's own environment with spaces that look alike."""

    observation_space = gym.spaces.Box(-3.0, 3.0, (WIDTH,), np.float32)
    action_space = gym.spaces.Discrete(CANDIDATES)

    def reset(self, *, seed=None, options=None):
        return np.zeros(WIDTH, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(WIDTH, dtype=np.float32), 0.0, False, True, {}


class Fewer(Slow):
    action_space = gym.spaces.Discrete(5)


class Pictures(Slow):
    observation_space = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)


def nan_weights(lanes):
    made = model(PPO, lanes)
    with torch.no_grad():
        made.policy.action_net.weight[0, 0] = torch.nan
    return made


REFUSED = {
    "no model": (lambda e: "x", r"model: found str, expected a stable-baselines3 model"),
    "cnn": (
        lambda e: PPO("CnnPolicy", Pictures(), device="cpu"),
        r"observation space: found Box of shape \(36, 36, 3\)|found Box of shape \(3, 36, 36\)",
    ),
    "recurrent": (
        lambda e: RecurrentPPO("MlpLstmPolicy", e, n_steps=8, device="cpu"),
        "policy: found RecurrentPPO with RecurrentActorCriticPolicy, expected MlpPolicy of PPO",
    ),
    "action space": (
        lambda e: model(PPO, Fewer()),
        r"action space: found Discrete\(5\), expected Discrete\(12\)",
    ),
    "extractor": (
        lambda e: PPO(
            "MlpPolicy", e, policy_kwargs={"features_extractor_class": Squeezed}, device="cpu"
        ),
        "policy: found features by Squeezed, expected MlpPolicy without",
    ),
    "activation": (
        lambda e: model(PPO, e, [8], nn.Softplus),
        r"activation: found Softplus\(.*\), expected one of ELU, GELU, LeakyReLU",
    ),
    "activation's parameter": (
        lambda e: model(PPO, e, [8], lambda: nn.ELU(alpha=2.0)),
        r"activation: found ELU\(alpha=2.0\), expected one of",
    ),
    "too deep": (
        lambda e: model(PPO, e, [4] * 9),
        r"network: found layers of \[4, 4, 4, 4, 4, 4, 4, 4, 4\], expected at most 8",
    ),
    "too wide": (
        lambda e: model(PPO, e, {"pi": [4097], "vf": [1]}),
        r"network: found layers of \[4097\], expected at most 8 of at most 4096",
    ),
    "not numbers": (nan_weights, "network: found NaN or infinite weights"),
    "somebody's own": (
        lambda e: model(PPO, Slow()),
        "env: found DummyVecEnv around another environment, expected one of coinfer.gym",
    ),
    "training's own": (
        lambda e: model(PPO, ObservedVecEnv(e.groups, 9)),
        r"observation space: found Box of shape \(233,\), expected 228 numbers",
    ),
    "normalised": (
        lambda e: model(PPO, VecNormalize(e)),
        "env: found VecNormalize around it, expected none that changes observations",
    ),
    "stacked": (
        lambda e: model(PPO, VecFrameStack(e, 2)),
        r"observation space: found Box of shape \(456,\)",
    ),
    "wrapped": (
        lambda e: model(PPO, NormalizeObservation(gym.make(NAME))),
        "found a model trained on|env: found ObservationWrapper around it",
    ),
    "other actions": (
        lambda e: model(
            PPO,
            TransformAction(gym.make(NAME), lambda a: (a + 1) % 12, gym.spaces.Discrete(12)),
        ),
        "env: found ActionWrapper around it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_model_is_one_line_and_nothing_is_written(tmp_path, lanes, name):
    make, why = REFUSED[name]
    with pytest.raises(UsageError, match=why) as refused:
        export_policy(make(lanes), tmp_path / "p")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "p").exists()


def test_more_weights_than_whoever_reads_them_takes_are_refused(lanes, monkeypatch):
    made = model(PPO, lanes, [1024])
    monkeypatch.setattr("controller.policies.weights.MOST_PRODUCTS", 2**17)
    why = r"network: found 245,760 multiplications a decision, expected at most 131,072"
    with pytest.raises(UsageError, match=why):
        exported_weights(made)


def test_a_model_of_another_scenario_is_refused_and_by_whoever_reads_it(tmp_path, lanes, closed):
    trained = model(PPO, lanes, [8])
    other = stable_baselines_env("edgent", 2)
    why = r"found a model trained on '3g-alexnet \w{12}', expected one trained on 'edgent \w{12}'"
    with pytest.raises(UsageError, match=why):
        export_policy(trained, tmp_path, other)
    export_policy(trained, tmp_path)
    with pytest.raises(ArtefactError, match="found a policy of '3g-alexnet', expected one of 'edg"):
        load_policy(tmp_path, closed)


@pytest.mark.system
def test_without_stable_baselines_there_is_one_line(tmp_path):
    script = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "import coinfer\n"
        "try:\n    coinfer.export_policy\n"
        "except coinfer.DependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "export_policy: found no package 'stable_baselines3', expected pip"
    )
