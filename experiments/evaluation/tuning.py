"""Tunes what baselines rest on, on the training traces: once, with progress, and keeps it.

Values are `controller.registry.tuned.Tuned`. Those that are known are used where this code still
gives what they say of it (`Tuned.check`); so a change of the physics makes them anew, and one of
names or layout does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from artefacts import ArtefactError, write_json
from artefacts.arrays import Floats
from controller.physics import TraceBank
from controller.planners.rate_rule import MARGINS, RateRule
from controller.registry import tuned
from controller.registry.tuned import Tuned
from controller.scenarios import Setting
from experiments.evaluation.evaluator import mean_rewards
from experiments.evaluation.single_plans import single_plan_rewards
from traces.library import TraceSet
from traces.trace import BandwidthTrace

CHECK_FRAMES = 64
CHECK_TOLERANCE = 1e-9
"""Relative: processors differ in the last bits of a logarithm, changes of the code in more."""
NOT_TRIED = -1e9
RUNS = 1 + len(MARGINS) + tuned.FINALISTS
"""Over the training traces, until everything is tuned; `progress` hears of each."""


class Tuning:
    """The tuned values of a setting on `training`, looked up or made when they are asked for.

    They are kept in `folder` (the user's cache); where nothing can be kept they are made each time.
    With `again` what is known is not looked at.
    """

    def __init__(
        self,
        setting: Setting,
        training: TraceSet,
        folder: Path | None = None,
        progress: Callable[[str], None] = lambda what: None,
        *,
        again: bool = False,
    ) -> None:
        self._setting, self._training, self._folder = setting, training, folder
        self._progress, self._again = progress, again

    def single_plans(self) -> Tuned:
        """Values with what every plan alone earned."""
        if not self._values.single_rewards:
            self._progress("best plan on the training traces")
            found = single_plan_rewards(
                self._setting, self._training.traces, "policy", max_frames=tuned.CHOICE_FRAMES
            )
            self._keep(msgspec.structs.replace(self._values, single_rewards=numbers(found)))
        return self._values

    def margins(self) -> Tuned:
        """Values with what the rate rule earned with each margin."""
        if not self._values.margin_rewards:
            found = margin_rewards(self._setting, self._training.traces, self._progress)
            self._keep(
                msgspec.structs.replace(
                    self._values, margins=MARGINS, margin_rewards=numbers(found)
                )
            )
        return self._values

    @cached_property
    def key(self) -> str:
        """What the values depend on."""
        return tuned.tuned_key(self._setting, self._training.traces)

    @cached_property
    def _values(self) -> Tuned:
        check = numbers(check_rewards(self._setting, self._training.traces))
        if not self._again:
            for found in tuned.kept_values(self._setting, self.key, self._folder):
                if len(found.check) == len(check) and np.allclose(
                    found.check, check, rtol=CHECK_TOLERANCE, atol=CHECK_TOLERANCE
                ):
                    return found
        name, source = self._setting.scenario.name, self._training.source
        return Tuned(tuned.FORMAT_VERSION, self.key, name, source, check)

    def _keep(self, made: Tuned) -> None:
        self.__dict__["_values"] = made
        path = tuned.values_file(self.key, self._folder)
        if path is not None:
            # a read-only file system costs the next run some minutes, and nothing else
            with contextlib.suppress(ArtefactError):
                write_json(path, made)


def check_rewards(setting: Setting, traces: tuple[BandwidthTrace, ...]) -> Floats:
    """What every plan alone, and the rate rule, earn on the first frames of the shortest trace."""
    shortest = [min(traces, key=lambda trace: trace.duration_s)]
    alone = single_plan_rewards(setting, shortest, "policy", max_frames=CHECK_FRAMES)
    rule = _rule_rewards(setting, TraceBank(shortest), 1.0, CHECK_FRAMES)
    return np.append(alone, rule)


def margin_rewards(
    setting: Setting,
    traces: tuple[BandwidthTrace, ...],
    progress: Callable[[str], None] = lambda what: None,
) -> Floats:
    """What the rate rule earned with each of `MARGINS` on the training traces.

    `NOT_TRIED` where it was not among the `FINALISTS`.
    """
    bank, runs = TraceBank(traces), len(MARGINS) + tuned.FINALISTS

    def earned(run: int, margin: float, frames: int) -> float:
        progress(f"the rate rule's margin on the training traces, {run} of {runs}")
        return _rule_rewards(setting, bank, margin, frames)

    first = [earned(k + 1, m, tuned.FIRST_FRAMES) for k, m in enumerate(MARGINS)]
    found = np.full(len(MARGINS), NOT_TRIED)
    for run, k in enumerate(np.argsort(first)[-tuned.FINALISTS :].tolist(), len(MARGINS) + 1):
        found[k] = earned(run, MARGINS[k], tuned.CHOICE_FRAMES)
    return found


def _rule_rewards(setting: Setting, bank: TraceBank, margin: float, frames: int) -> float:
    rules = [RateRule(setting, margin) for _ in bank.names]
    return float(mean_rewards(setting, bank, rules, "policy", frames).mean())


def numbers(values: Floats) -> tuple[float, ...]:
    """An array's numbers as JSON keeps them: to the last bit."""
    return tuple(values.tolist())
