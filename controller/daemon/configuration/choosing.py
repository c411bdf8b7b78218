"""Which controller decides: the one that `device.toml` names, made of the files it names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from artefacts import UsageError
from controller.daemon.configuration.settings import DeviceSettings, PriceSettings
from controller.daemon.live_controllers import AnyDeadline, fault_tolerant
from controller.interface import Controller
from controller.planners.configuration_map import ConfigurationMap, read_map
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.generalist import load_generalist
from controller.policies.network import Policy, load_policy
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
    """The scenario at its own prices."""
    setting: Setting
    """The scenario at the prices of now."""
    live: bool = True

    @cached_property
    def training(self) -> TraceSet:
        """The training split, or its stand-ins."""
        return self.setting.traces("train")

    @property
    def _folder(self) -> Path:
        shipped = SHIPPED_POLICIES / self.setting.scenario.name
        return Path(self.settings.policy) if self.settings.policy else shipped

    @cached_property
    def learned(self) -> Policy:
        """The policy that `device.toml` names, or the shipped one."""
        return load_policy(self._folder, self.setting)

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
        """The policy's belief, which knows no prices."""
        return load_policy(self._folder, self.own).belief

    @cached_property
    def configuration_map(self) -> ConfigurationMap:
        """The map's file."""
        if not self.settings.map:
            raise UsageError("map: found none, expected the file of a configuration map")
        return read_map(self.settings.map, self.setting)

    @cached_property
    def _tuned(self) -> Tuned:
        return tuned_values(self.setting, self.training.traces)

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
