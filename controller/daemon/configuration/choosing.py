"""Which controller decides: the one that `device.toml` names, made of the files it names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from artefacts import ArtefactError, UsageError
from controller.daemon.configuration.settings import DeviceSettings, PriceSettings
from controller.daemon.live_controllers import AnyDeadline, fault_tolerant
from controller.interface import Controller
from controller.planners.configuration_map import ConfigurationMap, read_map
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.generalist import load_generalist
from controller.policies.network import Policy, load_policy, policy_folder
from controller.registry import find_controller
from controller.registry import make_controller as made_by
from controller.registry.factories import algorithm1_online
from controller.registry.tuned import Tuned, tuned_values
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from controller.sensing.change_point import BayesianDetector
from traces.library import TraceSet

log = logging.getLogger("coinfer.device")


@dataclass(frozen=True)
class DaemonInputs:
    """What controllers are made of on a device (`controller.registry.ControllerInputs`)."""

    settings: DeviceSettings
    own: Setting
    """The scenario at the prices that its file names."""
    setting: Setting
    """The scenario at the prices of now."""
    live: bool = True

    @cached_property
    def training(self) -> TraceSet:
        """The training split, or its stand-ins."""
        return self.setting.traces("train")

    @cached_property
    def learned(self) -> Policy:
        """The policy that `device.toml` names, or the scenario's own."""
        if self.settings.policy:
            return load_policy(self.settings.policy, self.setting)
        own = self._own_policy
        if isinstance(own, Policy) and self._own_folder is not None:
            # at the prices of now, which it may not cover
            return load_policy(self._own_folder, self.setting)
        raise UsageError(
            f"policy: found none, and {own}, expected the folder of one (coinfer train "
            f"--scenario {self.settings.scenario} --out FOLDER; controller 'robust' needs none)"
        )

    @cached_property
    def _own_folder(self) -> Path | None:
        return policy_folder(self.settings.scenario, self.own.scenario.name)

    @cached_property
    def _own_policy(self) -> Policy | str:
        """The policy beside the scenario's file, or that coinfer brings, or why there is none."""
        name = self.own.scenario.name
        if self._own_folder is None:
            return f"coinfer brings no policy of scenario '{name}'"
        try:
            return load_policy(self._own_folder, self.own, any_prices=True)
        except ArtefactError as error:
            what = f"file '{error.path.name}'" if error.field is None else f"'{error.field}'"
            brought = self._own_folder.parent == SHIPPED_POLICIES
            which = "that coinfer brings" if brought else f"in '{self._own_folder}'"
            return f"the policy {which} does not fit this scenario '{name}' ({what})"

    @cached_property
    def planned(self) -> Policy:
        """Its planning alone."""
        return self.learned.planned()

    @cached_property
    def adapted(self) -> Policy:
        """The shipped generalist, planned here."""
        return load_generalist(SHIPPED_GENERALIST).adapted(self.setting)

    @cached_property
    def belief(self) -> BandwidthBelief:
        """The belief of the policy that `device.toml` names, or of the scenario's own.

        Where there is none it is counted on the scenario's training traces, as the evaluation's is.
        No belief knows prices.
        """
        if self._given_policy is not None:
            return self._given_policy.belief
        own = self._own_policy
        if isinstance(own, Policy):
            return own.belief
        log.info("belief: counted on %s: %s", self.training.source, own)
        return BandwidthBelief.from_traces(self.training.traces)

    @cached_property
    def device_pace(self) -> float:
        """What computing takes on this device over its profile, as the named policy tells."""
        return 1.0 if self._given_policy is None else self._given_policy.card.device_pace

    @cached_property
    def _given_policy(self) -> Policy | None:
        """The policy that `device.toml` names, whatever the prices are."""
        named = self.settings.policy
        return load_policy(named, self.own, any_prices=True) if named else None

    @cached_property
    def configuration_map(self) -> ConfigurationMap:
        """The map's file."""
        if not self.settings.map:
            raise UsageError(
                "map: found none, expected the file of a configuration map (coinfer map "
                f"--scenario {self.settings.scenario} --out FILE makes one)"
            )
        return read_map(self.settings.map, self.setting)

    @cached_property
    def _tuned(self) -> Tuned:
        return tuned_values(self.setting, self.training.traces, self.settings.scenario)

    @property
    def fixed_plan(self) -> int:
        """The plan without hedging that was best on the training traces."""
        return self._tuned.fixed_plan(self.setting)

    @property
    def hedged_plan(self) -> int:
        """The plan with hedging that was best on the training traces."""
        return self._tuned.hedged_plan(self.setting)

    @property
    def margin(self) -> float:
        """The rate rule's margin that was best on the training traces."""
        return self._tuned.margin

    def change_detector(self) -> BayesianDetector:
        """Algorithm 3's."""
        return BayesianDetector()


def make_controller(settings: DeviceSettings, setting: Setting) -> Controller:
    """The controller that `device.toml` names, able to serve other deadlines too."""
    entry = find_controller(settings.controller, deployable=True)
    priced, prices = setting, settings.prices
    if prices != PriceSettings():
        if not entry.knows_prices:
            log.warning("prices: controller '%s' knows none", settings.controller)
        usual = setting.prices
        priced = setting.at_prices(
            usual.device_second if prices.device_second is None else prices.device_second,
            usual.megabyte if prices.megabyte is None else prices.megabyte,
        )
    entry.checked(priced)
    inputs = DaemonInputs(settings, setting, priced)
    made = fault_tolerant(made_by(entry, inputs), setting)
    if entry.any_deadline:
        return made
    other = algorithm1_online(inputs)
    return AnyDeadline(made, other, setting.scenario.frames.deadline_s)
