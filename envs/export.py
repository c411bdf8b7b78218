"""A stable-baselines3 model becomes a policy: numpy and JSON, that `--policy` and the daemon take.

What is exported is the plain network of an `MlpPolicy` that was trained in an environment of
`coinfer.gym`, by PPO, A2C or DQN: at most `LAYERS` hidden layers of at most `UNITS` units, and
`MOST_PRODUCTS` weights. It decides as `model.predict(observation, deterministic=True)` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from artefacts import UsageError
from artefacts.arrays import Float32s
from controller.policies.network import LAYERS, UNITS, Policy, make_policy, save_policy
from controller.policies.observation import CANDIDATES, CONTEXT, WIDTH
from controller.policies.weights import Activation, MlpWeights, unfit
from envs.episodes import Episodes, ObservationSpace
from envs.preparation import Prepared
from traces.trace import log_digest

LANES, FRAMES = 128, 128
"""Of episodes that the exported policy runs, for the range of contexts it meets."""
_ACTIVATIONS: dict[type[nn.Module], tuple[Activation, dict[str, Any]]] = {
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.LeakyReLU: ("leaky-relu", {"negative_slope": 0.01}),
    nn.ReLU: ("relu", {}),
    nn.Sigmoid: ("sigmoid", {}),
    nn.SiLU: ("silu", {}),
    nn.Tanh: ("tanh", {}),
}
"""By class: the name in the artefact, and the parameters that it stands for."""
_HARMLESS = (VecCheckNan, VecMonitor, VecVideoRecorder)
"""Wrappers that change neither observations nor actions."""


def export_policy(
    model: BaseAlgorithm,
    folder: str | Path,
    env: VecEnv | gym.Env[Any, Any] | None = None,
) -> Policy:
    """Write a trained model as a policy of its scenario, and give the policy.

    Args:
        model: a stable-baselines3 model with an `MlpPolicy`: any `net_arch`, one of the
            activations ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU and Tanh.
        folder: where `policy.json` and `policy.npz` are written; made where it is not there.
        env: the environment the model was trained in, where the model has none (one that was
            read by `PPO.load(path)`).

    Raises:
        UsageError: the model is no such model, or was trained in another environment.

    """
    weights = exported_weights(model)
    given = env if env is not None else model.get_env()
    if given is None:
        raise UsageError(
            "export, env: found none (the model has no environment), expected the environment it "
            "was trained in: export_policy(model, folder, env)"
        )
    prepared = _prepared_of(given)
    _check_origin(model, prepared)
    contexts = _contexts(given, prepared, weights)
    traces = prepared.setting.traces(prepared.part)
    training = {
        "exported_from": f"stable-baselines3 {stable_baselines3.__version__}",
        "algorithm": type(model).__name__,
        "frames_seen": int(model.num_timesteps),
        "seed": model.seed,
        "traces": traces.source,
        "trace_digests": sorted({log_digest(trace) for trace in traces.traces}),
    }
    policy = make_policy(
        prepared.setting, weights, prepared.belief, prepared.advantages, contexts, training,
        prepared.blind_s,
    )  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_policy(folder, policy)
    return policy


def exported_weights(model: BaseAlgorithm) -> MlpWeights:
    """The network of a model that decides, as numpy arrays."""
    if not isinstance(model, BaseAlgorithm):
        raise UsageError(
            f"export, model: found {type(model).__name__}, expected a stable-baselines3 model"
        )
    _check_spaces(model)
    layers = _layers(model)
    linear, between = layers[0::2], layers[1::2]
    for layer in linear:
        if type(layer) is not nn.Linear:
            raise UsageError(f"export, network: found {layer}, expected a linear layer there")
    names = {_activation(layer) for layer in between}
    if len(names) > 1:
        raise UsageError(
            f"export, network: found {' and '.join(sorted(names))} between layers, expected one "
            "activation"
        )
    if len(linear) - 1 > LAYERS or any(layer.out_features > UNITS for layer in linear):
        raise UsageError(
            f"export, network: found layers of {[layer.out_features for layer in linear[:-1]]}, "
            f"expected at most {LAYERS} of at most {UNITS}"
        )
    weights = MlpWeights(
        tuple(_array(layer.weight.T) for layer in linear),
        tuple(_bias(layer) for layer in linear),
        next(iter(names), "relu"),
    )
    arrays = weights.arrays().values()
    if not all(np.isfinite(array).all() for array in arrays):
        raise UsageError("export, network: found NaN or infinite weights, expected numbers")
    if (wrong := unfit(weights)) is not None:
        raise UsageError(f"export, network: found {wrong[0]}, expected {wrong[1]}")
    return weights


def _check_spaces(model: BaseAlgorithm) -> None:
    """The model takes what our environments give, and answers what they take."""
    seen, action = model.observation_space, model.action_space
    if not isinstance(seen, gym.spaces.Box) or seen.shape != (WIDTH,):
        raise UsageError(
            f"export, observation space: found {_short(seen)}, expected {WIDTH} numbers "
            "(an environment of coinfer.gym)"
        )
    if not isinstance(action, gym.spaces.Discrete) or action.n != CANDIDATES or action.start != 0:
        raise UsageError(
            f"export, action space: found {_short(action)}, expected Discrete({CANDIDATES}) "
            "(an environment of coinfer.gym)"
        )


def _short(space: Any) -> str:
    if isinstance(space, gym.spaces.Box):
        return f"Box of shape {space.shape}"
    return str(space)[:80]


def _layers(model: BaseAlgorithm) -> list[Any]:
    """Linear layers with activations between them."""
    policy = model.policy
    # subclasses (CNNs, memories, users' own) compute something else
    if type(policy) is ActorCriticPolicy and type(policy.mlp_extractor) is MlpExtractor:
        extractor = policy.pi_features_extractor
        layers = [*policy.mlp_extractor.policy_net, policy.action_net]
    elif type(policy) is DQNPolicy and type(policy.q_net) is QNetwork:
        extractor = policy.q_net.features_extractor
        layers = list(policy.q_net.q_net)
    else:
        raise UsageError(
            f"export, policy: found {type(model).__name__} with {type(policy).__name__}, expected "
            "MlpPolicy of PPO, A2C or DQN"
        )
    if type(extractor) is not FlattenExtractor:
        raise UsageError(
            f"export, policy: found features by {type(extractor).__name__}, expected MlpPolicy "
            "without an extractor of its own"
        )
    return layers


def _activation(layer: nn.Module) -> Activation:
    name, parameters = _ACTIVATIONS.get(type(layer), (None, {}))
    if name is None or any(getattr(layer, key) != value for key, value in parameters.items()):
        usual = ", ".join(kind.__name__ for kind in _ACTIVATIONS)
        raise UsageError(
            f"export, activation: found {layer}, expected one of {usual} with torch's defaults"
        )
    return name


def _array(tensor: Any) -> Float32s:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C", copy=True)


def _bias(layer: Any) -> Float32s:
    if layer.bias is None:
        return np.zeros(layer.out_features, dtype=np.float32)
    return _array(layer.bias)


def _prepared_of(env: Any) -> Prepared:
    """What the environment was made of; refused where wrappers change what a policy sees."""
    if isinstance(env, VecEnv):
        base = _unwrapped(env)
        for kind in (gym.ObservationWrapper, gym.ActionWrapper):
            if any(base.env_is_wrapped(kind)):
                raise _changed(kind.__name__)
        found = _attribute(base, "prepared")
    else:
        for wrapper in _wrappers(env):
            if isinstance(wrapper, gym.ObservationWrapper | gym.ActionWrapper):
                raise _changed(type(wrapper).__name__)
        found = [getattr(getattr(env, "unwrapped", env), "prepared", None)]
    if not all(isinstance(one, Prepared) for one in found):
        raise UsageError(
            f"export, env: found {type(env).__name__} around another environment, expected one of "
            "coinfer.gym"
        )
    if len({one.origin for one in found}) > 1:
        raise UsageError("export, env: found several scenarios side by side, expected one")
    prepared: Prepared = found[0]
    return prepared


def _wrappers(env: Any) -> Iterator[Any]:
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def _unwrapped(env: VecEnv) -> VecEnv:
    """The vector environment below wrappers that change nothing."""
    while isinstance(env, VecEnvWrapper):
        harmless = isinstance(env, _HARMLESS) or (
            isinstance(env, VecNormalize) and not env.norm_obs
        )
        if not harmless:
            raise _changed(type(env).__name__)
        env = env.venv
    return env


def _changed(name: str) -> UsageError:
    return UsageError(
        f"export, env: found {name} around it, expected none that changes observations or actions "
        "(a device does not have it; observations lie within -3 and 3 already)"
    )


def _attribute(env: VecEnv, name: str) -> Sequence[Any]:
    try:
        return env.get_attr(name)
    except AttributeError:
        return [None]


def _check_origin(model: BaseAlgorithm, prepared: Prepared) -> None:
    space = model.observation_space
    origin = space.origin if isinstance(space, ObservationSpace) else "an unknown environment"
    if origin != prepared.origin:
        raise UsageError(
            f"export, env: found a model trained on '{origin}', expected one trained on "
            f"'{prepared.origin}', the environment's"
        )


def _contexts(env: Any, prepared: Prepared, weights: MlpWeights) -> tuple[Float32s, Float32s]:
    """Least and greatest context met in training, and by the policy in episodes of its own."""
    if isinstance(env, VecEnv):
        met = list(_attribute(_unwrapped(env), "contexts"))
    else:
        met = [env.unwrapped.contexts]
    rng = np.random.default_rng(prepared.setting.scenario.seeds.train)
    episodes = Episodes((prepared.lanes(LANES, "policy", rng),), FRAMES)
    observation = episodes.reset()
    for _ in range(FRAMES):
        step = episodes.step(weights.decide(observation))
        observation = episodes.reset(step.over) if step.over.any() else step.observation
    met.append((episodes.lowest, episodes.highest))
    lowest = np.min([low for low, _ in met], axis=0)
    highest = np.max([high for _, high in met], axis=0)
    assert lowest.shape == (len(CONTEXT),)
    return lowest, highest
