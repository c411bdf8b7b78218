"""Which controller decides: the one that `device.toml` names, made of the files it names."""

from __future__ import annotations

import logging
from pathlib import Path

from artefacts import UsageError
from controller.daemon.service import AnyDeadline
from controller.daemon.settings import DeviceSettings, PriceSettings
from controller.interface import Controller
from controller.planners.configuration_map import MapController, read_map
from controller.planners.deadline_rule import OnlineAlgorithm1
from controller.planners.fixed import FixedController, device_only_plan, edge_only_plan
from controller.planners.robust import RobustPlanner
from controller.policies import SHIPPED_POLICIES
from controller.policies.learned import LearnedController
from controller.policies.network import load_policy
from controller.scenarios import Setting
from controller.sensing.change_point import BayesianDetector
from controller.sensing.state_tracker import StateTracker

log = logging.getLogger("coinfer.device")
LISTEN_AGAIN_S = 1.0
"""Where nothing was heard of the link for so long, a frame is sent to find out."""


def make_controller(settings: DeviceSettings, setting: Setting) -> Controller:
    """The controller that `device.toml` names, able to serve other deadlines too."""
    own, prices = setting, settings.prices
    if prices != PriceSettings():
        if settings.controller not in ("learned", "robust"):
            log.warning("prices: controller '%s' knows none", settings.controller)
        usual_prices = setting.prices
        setting = setting.at_prices(
            usual_prices.device_second if prices.device_second is None else prices.device_second,
            usual_prices.megabyte if prices.megabyte is None else prices.megabyte,
        )
    frames, table = setting.scenario.frames, setting.table
    online = OnlineAlgorithm1(
        table, setting.interval_s, patience_s=LISTEN_AGAIN_S, initial_probe=False
    )
    usual: Controller
    if settings.controller in ("learned", "robust"):
        shipped = SHIPPED_POLICIES / setting.scenario.name
        folder = Path(settings.policy) if settings.policy else shipped
        if settings.controller == "learned":
            usual = LearnedController(load_policy(folder, setting), setting)
        else:  # of the policy it needs the belief alone, which knows no prices
            usual = RobustPlanner(setting, load_policy(folder, own).belief)
    elif settings.controller == "map":
        if not settings.map:
            raise UsageError("map: found none, expected the file of a configuration map")
        made = read_map(settings.map, setting)
        usual = MapController(setting, made, StateTracker(made.states, BayesianDetector()))
    elif settings.controller == "algorithm1-online":
        usual = online
    elif settings.controller == "device-only":
        return FixedController("device-only", device_only_plan(setting))
    elif settings.controller == "edge-only":
        usual = FixedController("edge-only", edge_only_plan(setting))
    else:
        raise UsageError(
            f"controller: found '{settings.controller}', expected learned, robust, map, "
            "algorithm1-online, edge-only or device-only"
        )
    return AnyDeadline(usual, online, frames.deadline_s)
