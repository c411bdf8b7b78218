"""A learned policy distilled to a configuration map: what it does most in each bandwidth state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats
from controller.physics import TraceBank
from controller.planners.configuration_map import (
    ConfigurationMap,
    MapController,
    map_of,
    state_bandwidths,
)
from controller.policies.network import Policy
from controller.scenarios import Setting
from controller.scenarios.rewards import expected_rewards
from controller.sensing import make_detector
from controller.sensing.log_rates import log_rate
from controller.sensing.state_tracker import StateTracker
from envs.observed import ObservedLanes, mean_reward
from experiments.evaluation.evaluator import mean_rewards
from experiments.evaluation.maps import map_states
from experiments.learning.tasks import Data
from traces.states import BandwidthState

LANES, FRAMES = 128, 256
JUDGED_FRAMES = 4000
"""Of every validation trace."""
USED = 0.1
MAKING = 0.2
"""Share of the time that making a map takes; judging it takes the rest."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """Mean reward on the validation traces of the policy and of the map made from it."""

    policy_reward: float
    map_reward: float


def distil(
    setting: Setting,
    policy: Policy,
    data: Data | None = None,
    frames: int | None = None,
    heard: Callable[[float], None] = lambda share: None,
    policy_reward: float | None = None,
) -> tuple[ConfigurationMap, Distillation]:
    """Run the policy on training traces; each state takes a plan that was chosen near it.

    Near is by the fast mean of the measured rate, as the policy saw it. Of the plans it used there
    for at least `USED` of the frames, the one that a whole stream is served best by: a policy mixes
    plans as the queue allows, a map has one. A state never met has the plan of greatest reward.
    `data`: what the policy was trained and chosen on, where that is not the scenario's own. Policy
    and map are judged on `frames` of every validation trace.

    `policy` was trained for `setting`. `heard` is called with the share that is done.
    `policy_reward`: its mean reward on the same frames, where they were judged already.
    """
    data = Data.of(setting) if data is None else data
    frames = JUDGED_FRAMES if frames is None else frames
    states, source = map_states(setting, data.train.traces)
    votes = _votes(setting, policy, data, states, lambda share: heard(MAKING * share))
    rewards = [expected_rewards(setting, state_bandwidths(s)).mean(axis=0) for s in states]
    plans = [
        int(np.argmax(np.where(vote >= USED * vote.sum(), reward, -np.inf)))
        for vote, reward in zip(votes, rewards, strict=True)
    ]
    made = map_of(setting, states, plans, f"distilled from a policy over {source}", rewards)
    # both on the same frames, with the answers' accuracies: single samples' luck is as large as
    # what is lost
    judging = TraceBank(data.validation.traces)
    if policy_reward is None:
        judged = ObservedLanes(
            setting, judging, len(judging.names), policy.encoder(setting), "policy",
            np.random.default_rng(setting.scenario.seeds.evaluate), policy.card.blind_s,
        )  # fmt: skip
        policy_reward = float(mean_reward(judged, policy, frames).mean())
    maps = [
        MapController(setting, made, StateTracker(made.states, make_detector("bayes")))
        for _ in judging.names
    ]

    def of_map(share: float) -> None:
        heard(MAKING + (1.0 - MAKING) * share)

    map_reward = float(mean_rewards(setting, judging, maps, "policy", frames, of_map).mean())
    heard(1.0)
    return made, Distillation(policy_reward, map_reward)


def _votes(
    setting: Setting,
    policy: Policy,
    data: Data,
    states: Sequence[BandwidthState],
    heard: Callable[[float], None],
) -> Floats:
    """How often the policy chose each plan near each state, (states, plans)."""
    means = np.array([float(log_rate(np.array(s.mean_bps))) for s in states])
    votes = np.zeros((len(states), len(setting.table)))
    rng = np.random.default_rng(setting.scenario.seeds.train)
    bank, blind_s = TraceBank(data.train.traces), policy.card.blind_s
    lanes = ObservedLanes(setting, bank, LANES, policy.encoder(setting), "policy", rng, blind_s)
    everyone = np.ones(LANES, dtype=np.bool_)
    lanes.simulator.place_randomly(everyone, FRAMES)
    lanes.forget(everyone)
    fast = policy.card.context.index("fast_log_rate")
    for frame in range(FRAMES):
        heard(frame / FRAMES)
        observation = lanes.observe()
        chosen = policy.decide(observation.flat)
        nearest = np.abs(observation.context[:, [fast]] - means).argmin(axis=1)
        np.add.at(votes, (nearest, observation.plans[np.arange(LANES), chosen]), 1.0)
        over = lanes.step(observation, chosen).ended
        if over.any():
            lanes.simulator.place_randomly(over, FRAMES)
            lanes.forget(over)
    return votes
