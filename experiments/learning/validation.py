"""What a policy is worth where it is judged: every validation trace run once from its start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from artefacts.arrays import Float32s, Floats, Ints
from controller.policies.probing import BLIND_S
from controller.policies.weights import ScorerWeights
from controller.scenarios.rewards import reward_scale
from envs.observed import Decider, PlanningAlone, mean_reward
from experiments.learning.tasks import TrainingTask

OTHER_BLIND_S = (0.25, 1.0, 2.0, 4.0)
SURE = 3.0
"""Four other times are tried, on few traces."""
Judging = Callable[[str, float], None]
"""What is judged, and the share of it that is done: judging takes minutes where training is short.
"""
HEARD_FRAMES = 50
"""Of every trace, after which the share is said again."""


def unheard(what: str, share: float) -> None:
    """Nobody hears how far judging is."""


class Validation:
    """Mean reward where tasks are judged, each trace run once from its start (policy half)."""

    def __init__(
        self,
        judged: Sequence[TrainingTask],
        blind_s: float,
        frames: int = 4000,
        heard: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Tasks are `judged` with policies that ask the link after `blind_s` seconds without a
        measurement, on so many `frames` of every trace; `heard` is called with the
        share that is done.
        """
        self._judged, self._blind_s, self._frames = judged, blind_s, frames
        self._heard = heard
        self._first: Floats | None = None

    def reward(self, weights: ScorerWeights) -> float:
        """Mean over the tasks of the mean over their traces, each counted equally.

        Of several tasks, the greatest loss against what was judged first (planning) counts once
        more: what gains on one scenario what it loses on another is no gain for who has that other.
        """
        count = len(self._judged)
        found = []
        for k, task in enumerate(self._judged):
            found.append(self.rewards(task, weights))
            self._heard((k + 1) / count)
        return self.weighed(found)

    def weighed(self, rewards: Sequence[Floats]) -> float:
        """The same of rewards that are known: those of every trace, by task."""
        found = np.array([of_task.mean() for of_task in rewards])
        if len(found) == 1:
            return float(found[0])
        # a closed loop's rewards are of another size than a stream's
        found *= [reward_scale(task.setting) for task in self._judged]
        self._first = found if self._first is None else self._first
        return float(found.mean() + min((found - self._first).min(), 0.0))

    def rewards(self, task: TrainingTask, decider: Decider) -> Floats:
        """Mean reward per frame of every trace of the task."""
        rng = np.random.default_rng(task.setting.scenario.seeds.evaluate)
        progress = ProgressDecider(decider, self._frames, lambda share: self._heard_of(task, share))
        return mean_reward(task.started(rng, self._blind_s), progress, self._frames)

    def _heard_of(self, task: TrainingTask, share: float) -> None:
        at = next(k for k, one in enumerate(self._judged) if one is task)
        self._heard((at + share) / len(self._judged))


class ProgressDecider:
    """Decides as another does, and says which share of so many frames it has decided."""

    def __init__(self, decider: Decider, frames: int, heard: Callable[[float], None]) -> None:
        """`decider` decides `frames` times at most; `heard` is called with the share now and
        then.
        """
        self._decider, self._frames, self._heard = decider, frames, heard
        self._count = 0

    def decide(self, flat: Float32s) -> Ints:
        """See `Decider`."""
        self._count += 1
        if self._count % HEARD_FRAMES == 0:
            self._heard(min(self._count / self._frames, 1.0))
        return self._decider.decide(flat)


def learnt_blind_s(
    judged: Sequence[TrainingTask], frames: int, judging: Judging = unheard
) -> tuple[float, dict[str, dict[str, float]], list[Floats]]:
    """After how long without a measurement to ask the link, the mean reward of every choice, and
    what planning alone earns with the chosen one on every trace, by task.

    Planning alone is judged with each on the same frames, tasks averaged within a trace. Another
    time than `BLIND_S` takes its place where it is ahead by more than `SURE` standard errors of the
    paired differences over traces: who asks later saves bytes, who asks sooner is back sooner, and
    both are small beside the luck of single outages.

    `judged` are the tasks, judged on so many `frames` of every trace; `judging` hears how far it
    is.
    """
    times = (BLIND_S, *OTHER_BLIND_S)
    earned: dict[float, list[Floats]] = {}
    for k, blind_s in enumerate(times):

        def heard(share: float, before: int = k) -> None:
            judging("when to ask the link", (before + share) / len(times))

        of = Validation(judged, blind_s, frames, heard)
        heard(0.0)
        earned[blind_s] = [of.rewards(task, PlanningAlone()) for task in judged]
    judging("when to ask the link", 1.0)
    means: dict[float, Any] = {b: np.mean(of_tasks, axis=0) for b, of_tasks in earned.items()}
    chosen, most = BLIND_S, 0.0
    for blind_s in OTHER_BLIND_S:
        ahead = means[blind_s] - means[BLIND_S]
        error = ahead.std(ddof=1) / np.sqrt(len(ahead)) if len(ahead) > 1 else np.inf
        if ahead.mean() > max(most, SURE * error):
            chosen, most = blind_s, float(ahead.mean())
    earned_by = {f"{blind_s:g}": float(found.mean()) for blind_s, found in means.items()}
    return chosen, {"validation_reward_asking_after_s": earned_by}, earned[chosen]


def same_weights(one: ScorerWeights, other: ScorerWeights) -> bool:
    """Whether two scorers decide alike: every array is the same, bit by bit."""
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in one.__slots__)
