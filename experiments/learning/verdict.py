"""A policy before and after it has learnt from its device's records, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats
from controller.interface import Controller
from controller.planners.robust import RobustPlanner
from controller.policies.learned import LearnedController
from controller.policies.network import Policy
from controller.scenarios import Setting
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.evaluation.statistics import Paired, paired
from traces.trace import BandwidthTrace

BEFORE, NEW = "policy before", "policy from records"
ROBUST, NEW_ROBUST = "robust before", "robust from records"
CLAIM_P = 0.05
"""A sign-flip test that says less is no claim."""


@dataclass(frozen=True)
class Judged:
    """One controller on held-back traces; `rewards` (T,) per frame of each."""

    rewards: Floats
    goodput_accuracy: float
    late_share: float


@dataclass(frozen=True)
class Verdict:
    """What held-back records say of a policy before and after, and of the robust planner."""

    controllers: dict[str, Judged]
    seed: int

    def over(self, other: str) -> Paired:
        """The new policy less another controller, paired over traces."""
        table = self.controllers
        return paired(table[NEW].rewards, table[other].rewards, self.seed)

    @property
    def best(self) -> str:
        """Of greatest mean reward."""
        table = self.controllers
        return max(table, key=lambda name: float(table[name].rewards.mean()))

    def said(self, other: str) -> str:
        """Whether the new policy is better than another controller, in words."""
        found = self.over(other)
        if found.p_value > CLAIM_P:
            return f"no difference between '{NEW}' and '{other}' is shown"
        return f"'{NEW}' is {'better' if found.mean > 0 else 'worse'} than '{other}'"


def judge(
    setting: Setting,
    there: Setting,
    before: Policy,
    new: Policy,
    held_back: Sequence[BandwidthTrace],
) -> Verdict:
    """Simulate both policies, and the robust planner with what each knows, as a daemon's.

    `held_back` are traces of `setting` that nothing was learnt or chosen on; `there` is the setting
    in the world of the device; `before` and `new` are policies. Answers are those of the half of
    the samples that is kept for reports.
    """
    makers: dict[str, Callable[[int], Controller]] = {
        NEW: lambda k: LearnedController(new, setting),
        BEFORE: lambda k: LearnedController(before, setting),
        NEW_ROBUST: lambda k: RobustPlanner(setting, new.belief, pace=new.card.device_pace),
        ROBUST: lambda k: RobustPlanner(setting, before.belief, pace=before.card.device_pace),
    }
    daemon = not setting.closed_loop
    found = {
        name: _judged(evaluate(there, held_back, make, as_daemon=daemon))
        for name, make in makers.items()
    }
    return Verdict(found, setting.scenario.seeds.evaluate)


def _judged(runs: Sequence[TraceRun]) -> Judged:
    in_time = np.concatenate([run.in_time for run in runs])
    quality = np.concatenate([np.where(run.in_time, run.quality, 0.0) for run in runs])
    rewards = np.array([run.reward.mean() for run in runs])
    return Judged(rewards, float(quality.mean()), float((~in_time).mean()))
