"""Controllers for one setting in simulation and replay, made as the registry says.

`ControllerFactory` is the evaluation's `ControllerInputs`: what is learnt from training traces is
learnt once, whatever is tuned on them is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from artefacts import UsageError
from controller.interface import Controller
from controller.planners.configuration_map import ConfigurationMap
from controller.policies.network import Policy
from controller.registry import Future, default_names, find_controller, make_controller
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from controller.sensing.interface import ChangeDetector
from experiments.evaluation.detectors import make_detector
from experiments.evaluation.learned_policies import adapted_generalist, shipped_policy
from experiments.evaluation.maps import made_map
from experiments.evaluation.tuning import Tuning
from traces.library import TraceSet
from traces.trace import BandwidthTrace

Made = TypeVar("Made")
Maker = Callable[[int], Controller]


@dataclass
class ControllerFactory:
    """Makes controllers for one setting (`controller.registry.ControllerInputs`).

    `policy`, or the folder `policy_folder`, is the learned policy (the scenario's shipped one);
    `tuned_folder` holds tuned values that are kept (the user's cache).
    """

    setting: Setting
    policy: Policy | None = None
    policy_folder: Path | None = None
    generalist_folder: Path | None = None
    detector: str = "bayes"
    max_frames: int | None = None
    """How many frames of a trace are run, where not all: so far what has hindsight looks."""
    progress: Callable[[str], None] = field(default=lambda what: None)
    tuned_folder: Path | None = None
    live: bool = False
    policy_tells: bool = False
    """Planners take belief and device pace of the policy, as a daemon's do."""

    @cached_property
    def training(self) -> TraceSet:
        """The training split, scaled."""
        return self.setting.traces("train")

    @cached_property
    def belief(self) -> BandwidthBelief:
        """How the bandwidth moves, counted on the training traces."""
        if self.policy_tells:
            return self.learned.belief
        return BandwidthBelief.from_traces(self.training.traces)

    @cached_property
    def device_pace(self) -> float:
        """What computing takes on the device over its profile, as far as the policy tells."""
        return self.learned.card.device_pace if self.policy_tells else 1.0

    @cached_property
    def configuration_map(self) -> ConfigurationMap:
        """Algorithm 2 over Oboe's states (closed loop, as the paper) or the training traces'."""
        return made_map(self.setting, self.training.traces)

    @cached_property
    def tuning(self) -> Tuning:
        """What is tuned on the training traces."""
        return Tuning(self.setting, self.training, self.tuned_folder, self.progress)

    @cached_property
    def fixed_plan(self) -> int:
        """The single plan without hedging that did best on the training traces."""
        return self.tuning.single_plans().fixed_plan(self.setting)

    @cached_property
    def hedged_plan(self) -> int:
        """The single plan with hedging that did best on the training traces."""
        return self.tuning.single_plans().hedged_plan(self.setting)

    @cached_property
    def margin(self) -> float:
        """The rate rule's safety margin that did best on the training traces."""
        return self.tuning.margins().margin

    def change_detector(self) -> ChangeDetector:
        """A new detector, for the map."""
        return make_detector(self.detector)

    def maker(self, name: str, traces: Sequence[BandwidthTrace]) -> Maker:
        """A function that makes the controller `name` for trace k of `traces`.

        `UsageError` where there is no such controller, or it cannot serve the scenario. Without
        traces, as where frames are real, one that needs the future is refused.
        """
        entry = find_controller(name)
        entry.checked(self.setting)
        if not entry.deployable and not traces:
            raise UsageError(f"controller: found '{name}', expected one that needs no trace here")
        known = tuple(traces)
        return lambda k: make_controller(entry, self, Future(known, k) if known else None)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What several controllers of this factory share, made when it is first asked for."""
        if key not in self._shared:
            self._shared[key] = make()
        return cast("Made", self._shared[key])

    _shared: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def learned(self) -> Policy:
        """The policy given, or the shipped one of this scenario."""
        if self.policy is not None:
            return self.policy
        return shipped_policy(self.setting, self.policy_folder)

    @cached_property
    def planned(self) -> Policy:
        """The policy's planning alone."""
        return self.learned.planned()

    @cached_property
    def adapted(self) -> Policy:
        """The generalist, planned for this setting."""
        self.progress("planning for the generalist")
        return adapted_generalist(self.setting, self.generalist_folder)


def chosen_names(listed: str, setting: Setting | None = None, *, policy: bool = True) -> list[str]:
    """Controllers named in 'a,b'; where nothing is named, all that run unasked and can serve
    `setting`, without those of a learned policy where there is no `policy`.

    Refuses one that does not exist, or cannot serve `setting`.
    """
    names = [n.strip() for n in listed.split(",") if n.strip()]
    if listed.strip() and not names:
        raise UsageError(f"controllers: found '{listed}', expected names separated by commas")
    for name in names:
        entry = find_controller(name)
        entry.load()  # a factory that is not there is found before anything has run for minutes
        if setting is not None:
            entry.checked(setting)
    if names:
        return list(dict.fromkeys(names))
    every = default_names(setting)
    return [n for n in every if policy or "policy" not in find_controller(n).needs]
