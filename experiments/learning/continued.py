"""A policy goes on learning from what its own device has measured, and is judged on the rest.

The belief is counted, and the policy trained, on the device's records and on some of the
scenario's own traces: a few hours of one place do not hold everything that a link can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from controller.interface import Controller
from controller.planners.robust import RobustPlanner
from controller.policies.learned import LearnedController
from controller.policies.network import Policy, make_policy
from controller.policies.weights import ScorerWeights
from controller.scenarios import Setting
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.evaluation.statistics import Paired, paired
from experiments.learning.records import RecordedLink, between
from experiments.learning.tasks import Data
from experiments.learning.training import TrainArgs, TrainReport, train_policy
from traces.library import TraceSet
from traces.trace import BandwidthTrace

OWN_S, PIECE_S = 600.0, 60.0
"""So much of the scenario's own traces stands beside the records, in pieces from all over them."""
LEARNING_RATE = 3e-4
"""Small steps: what was learnt before is worth keeping."""
BEFORE, NEW = "policy before", "policy from records"
ROBUST, NEW_ROBUST = "robust before", "robust from records"
CLAIM_P = 0.05
"""A sign-flip test that says less is no claim."""


@dataclass(frozen=True)
class Mixed:
    """What is learnt from: records, and the scenario's own traces beside them."""

    data: Data
    records_s: float
    scenario_s: float

    @property
    def weight(self) -> float:
        """Of the records, in the belief and in training."""
        return self.records_s / (self.records_s + self.scenario_s)


def mixed(setting: Setting, link: RecordedLink) -> Mixed:
    """The records to learn from with `OWN_S` of the scenario's training traces."""
    own = own_pieces(setting.traces("train").traces)
    records = link.train.traces
    source = f"{link.train.source} and pieces of {setting.traces('train').source}"
    train = TraceSet((*records, *own), link.train.generated, source)
    return Mixed(Data(train, link.validation), _seconds(records), _seconds(own))


def own_pieces(traces: Sequence[BandwidthTrace]) -> list[BandwidthTrace]:
    """Pieces of `PIECE_S`, evenly spaced over all traces laid end to end."""
    total, count = _seconds(traces), round(OWN_S / PIECE_S)
    begins = [k * total / count for k in range(count)]
    return [piece for at in begins for piece in between(traces, at, at + min(PIECE_S, total))]


def _seconds(traces: Sequence[BandwidthTrace]) -> float:
    return sum(trace.duration_s for trace in traces)


def continued(
    setting: Setting,
    start: Policy,
    material: Mixed,
    args: TrainArgs,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
) -> Policy:
    """Belief and planning anew from `material`, then training goes on from the weights of `start`.

    It serves the prices of `start` and asks the link as that does. What either training has met
    counts as met. `setting` is the scenario loaded, `args` say how is learnt; `report`, `stopped`
    and `planning` are those of `train_policy`.
    """
    if not isinstance(start.weights, ScorerWeights):
        raise UsageError(
            f"training from records: found a plain network as the policy of '{start.card.scenario}'"
            ", expected a policy of coinfer train"
        )
    grids = start.advantages.device_second, start.advantages.megabyte
    most = [float(grid[-1]) if len(grid) > 1 else 0.0 for grid in grids]
    args = replace(
        args, hidden=start.card.hidden, blind_s=start.card.blind_s,
        most_device_second=most[0], most_megabyte=most[1],
    )  # fmt: skip
    made = train_policy(
        setting, args, report, stopped, planning, material.data, start=start.weights
    )
    assert isinstance(made.weights, ScorerWeights)
    met = np.minimum(made.lowest, start.lowest), np.maximum(made.highest, start.highest)
    training = made.card.training | {
        "went_on_from": start.card.weights_digest, "records_s": material.records_s,
        "scenario_s": material.scenario_s,
    }  # fmt: skip
    return make_policy(
        setting, made.weights, made.belief, made.advantages, met, training, made.card.blind_s
    )


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
    setting: Setting, before: Policy, new: Policy, held_back: Sequence[BandwidthTrace]
) -> Verdict:
    """Simulate both policies, and the robust planner with the belief of each, as a daemon's.

    `held_back` are traces of `setting` that nothing was learnt or chosen on; `before` and `new` are
    policies. Answers are those of the half of the samples that is kept for reports.
    """
    makers: dict[str, Callable[[int], Controller]] = {
        NEW: lambda k: LearnedController(new, setting),
        BEFORE: lambda k: LearnedController(before, setting),
        NEW_ROBUST: lambda k: RobustPlanner(setting, new.belief),
        ROBUST: lambda k: RobustPlanner(setting, before.belief),
    }
    daemon = not setting.closed_loop
    found = {
        name: _judged(evaluate(setting, held_back, make, as_daemon=daemon))
        for name, make in makers.items()
    }
    return Verdict(found, setting.scenario.seeds.evaluate)


def _judged(runs: Sequence[TraceRun]) -> Judged:
    in_time = np.concatenate([run.in_time for run in runs])
    right = np.concatenate([run.correct for run in runs]) & in_time
    rewards = np.array([run.reward.mean() for run in runs])
    return Judged(rewards, float(right.mean()), float((~in_time).mean()))
