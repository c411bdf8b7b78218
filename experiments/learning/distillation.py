"""A learned policy distilled to a configuration map: what it does most in each bandwidth state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.planners.configuration_map import (
    ConfigurationMap,
    MapController,
    map_of,
    state_bandwidths,
)
from controller.policies.network import Policy
from controller.policies.observation import log_rate
from controller.rewards import expected_rewards
from controller.scenario import Setting
from controller.sensing import make_detector
from controller.sensing.state_tracker import StateTracker
from envs.vector import LaneCore
from experiments.controllers import map_states
from experiments.evaluation import evaluate
from experiments.learning.training import Validation

LANES, FRAMES = 128, 256


@dataclass(frozen=True, slots=True)
class Distillation:
    """Mean reward on the validation traces of the policy and of the map made from it."""

    policy_reward: float
    map_reward: float


def distil(setting: Setting, policy: Policy) -> tuple[ConfigurationMap, Distillation]:
    """Run the policy on training traces; each state takes the plan chosen most near it.

    Near is by the slow mean of the measured rate, as the policy saw it. A state that the policy
    never met takes the plan of greatest expected reward.
    """
    states, source = map_states(setting, setting.traces("train").traces)
    means = np.array([float(log_rate(np.array(s.mean_bps))) for s in states])
    votes = np.zeros((len(states), len(setting.table)))
    core = LaneCore(setting, LANES, seed=setting.scenario.seeds.train, episode_frames=FRAMES)
    observation = core.reset()
    slow = policy.card.observation.index("slow_log_rate")
    for _ in range(FRAMES):
        plan = policy.decide(observation)
        nearest = np.abs(observation[:, [slow]] - means).argmin(axis=1)
        np.add.at(votes, (nearest, plan), 1.0)
        _, over = core.step(plan)
        observation = core.reset(over) if over.any() else core.observe()
    rewards = [expected_rewards(setting, state_bandwidths(s)).mean(axis=0) for s in states]
    plans = [
        int(np.argmax(vote)) if vote.any() else int(np.argmax(reward))
        for vote, reward in zip(votes, rewards, strict=True)
    ]
    made = map_of(setting, states, plans, f"distilled from a policy over {source}", rewards)
    return made, Distillation(Validation(setting).reward(policy), _map_reward(setting, made))


def _map_reward(setting: Setting, made: ConfigurationMap) -> float:
    traces = setting.traces("validation").traces
    runs = evaluate(
        setting,
        traces,
        lambda k: MapController(setting, made, StateTracker(made.states, make_detector("bayes"))),
        half="policy",
        max_frames=4000,
    )
    rewards = np.concatenate([r.reward for r in runs])
    return float(rewards.mean()) if len(rewards) else 0.0
