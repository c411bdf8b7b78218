"""More training where the policy trails what an engineer would write.

After Genet (Xia et al., SIGCOMM 2022): what is trained on is drawn more often where the gap to a
rule is greatest, not where rewards are lowest, for a hard trace may be as hard for everybody.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from artefacts.arrays import Floats
from controller.interface import Controller
from controller.physics import TraceBank
from controller.planners.rate_rule import RateRule
from controller.planners.robust import RobustPlanner
from controller.policies.observation import ObservationEncoder
from controller.policies.weights import ScorerWeights
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from envs.observed import ObservedLanes, mean_reward
from experiments.evaluation.evaluator import mean_rewards
from traces.generator import generate, read_fit
from traces.library import TraceSet

MARGIN = 0.7
"""The rate rule's."""
MOST = 4.0
"""A trace is drawn at most so many times as often as its length alone would have it, or as seldom.
"""
GENERATED_S = 600.0


class WhereItTrails:
    """How often each trace of a bank is to be drawn, by the policy's gap to the best of the rules.

    Both run the same frames, with the answers' accuracies in place of single samples.
    """

    def __init__(
        self, setting: Setting, bank: TraceBank, belief: BandwidthBelief, frames: int, scale: float
    ) -> None:
        self._setting, self._bank, self._frames, self._scale = setting, bank, frames, scale
        lanes = range(len(bank.names))
        rivals: list[list[Controller]] = [
            [RobustPlanner(setting, belief) for _ in lanes],
            [RateRule(setting, MARGIN) for _ in lanes],
        ]
        self.rules: Floats = np.max(
            [mean_rewards(setting, bank, some, "policy", frames) for some in rivals], axis=0
        )

    def shares(self, encoder: ObservationEncoder, weights: ScorerWeights, blind_s: float) -> Floats:
        """Chances (T,) of the traces: their lengths, times exp(gap / scale) within `MOST`."""
        rng = np.random.default_rng(self._setting.scenario.seeds.evaluate)
        lanes = ObservedLanes(
            self._setting, self._bank, len(self._bank.names), encoder, "policy", rng, blind_s
        )
        gap = self.rules - mean_reward(lanes, weights, self._frames)
        factor = np.exp(np.clip((gap - gap.mean()) / self._scale, -np.log(MOST), np.log(MOST)))
        found = self._bank.durations_s * factor
        return np.asarray(found / found.sum())


def generated(setting: Setting, count: int, rng: np.random.Generator) -> TraceSet:
    """Traces of the scenario's family as fitted, and bent: up to three times the outages, slow and
    fast parts of up to twice or half their correlation times.

    The shipped fits are to statistics of all of a family's logs, the test logs among them (as
    published for Belgium): the source says so, and no headline policy is trained on them.
    """
    family = setting.scenario.traces.family
    fit, made = read_fit(family), []
    for k in range(count):
        mode = sorted(fit.modes)[int(rng.integers(len(fit.modes)))]
        more, slower, faster = rng.random(3)
        was = fit.modes[mode]
        bent = msgspec.structs.replace(
            was,
            outages_per_hour=was.outages_per_hour * 3.0**more,
            slow_s=was.slow_s * 2.0 ** (2.0 * slower - 1.0),
            fast_s=was.fast_s * 2.0 ** (2.0 * faster - 1.0),
        )
        of = msgspec.structs.replace(fit, modes={mode: bent})
        made.append(generate(of, mode, GENERATED_S, rng, name=f"{family}-{mode}-{k}"))
    source = f"{count} generated {family} traces (fitted to statistics of all its logs)"
    return setting.scaled(TraceSet(tuple(made), True, source))


def with_generated(traces: TraceSet, more: TraceSet) -> TraceSet:
    """Both; the source names both."""
    source = f"{traces.source} and {more.source}"
    return replace(traces, traces=(*traces.traces, *more.traces), source=source)
