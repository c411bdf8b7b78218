"""How the controllers of this room are made, each from `ControllerInputs`."""

from __future__ import annotations

from artefacts import UsageError
from controller.planners.bandit import BanditController
from controller.planners.configuration_map import MapController
from controller.planners.deadline_rule import OnlineAlgorithm1, StaticAlgorithm1
from controller.planners.fixed import (
    FixedController,
    device_only_plan,
    edge_only_plan,
    hedging_plans,
)
from controller.planners.rate_rule import RateRule
from controller.planners.robust import RobustPlanner
from controller.policies.learned import LearnedController
from controller.registry.entry import ControllerInputs
from controller.scenarios import Setting
from controller.sensing.state_tracker import StateTracker

LISTEN_AGAIN_S = 1.0
"""Where nothing was heard of a live link for so long, a frame is sent to find out."""


def device_only(inputs: ControllerInputs) -> FixedController:
    """The device's best plan."""
    return FixedController("device-only", device_only_plan(inputs.setting))


def edge_only(inputs: ControllerInputs) -> FixedController:
    """Everything on the edge."""
    return FixedController("edge-only", edge_only_plan(inputs.setting))


def fixed(inputs: ControllerInputs) -> FixedController:
    """The plan without hedging that did best on the training traces."""
    return FixedController("fixed", inputs.fixed_plan)


def fixed_hedged(inputs: ControllerInputs) -> FixedController:
    """The plan with hedging that did best on the training traces."""
    return FixedController("fixed-hedged", inputs.hedged_plan)


def check_hedges(setting: Setting) -> None:
    """Refuse a scenario without plans that hedge."""
    if not hedging_plans(setting).any():
        raise UsageError(
            f"controller 'fixed-hedged': scenario '{setting.scenario.name}' has no plan that "
            "hedges, expected some ([plans] hedge = true)"
        )


def algorithm1(inputs: ControllerInputs) -> StaticAlgorithm1:
    """Edgent's static mode."""
    return StaticAlgorithm1(inputs.setting.table, inputs.setting.interval_s)


def algorithm1_online(inputs: ControllerInputs) -> OnlineAlgorithm1:
    """Algorithm 1 at every frame."""
    table, interval_s = inputs.setting.table, inputs.setting.interval_s
    if inputs.live:
        return OnlineAlgorithm1(table, interval_s, patience_s=LISTEN_AGAIN_S, initial_probe=False)
    return OnlineAlgorithm1(table, interval_s)


def configuration_map(inputs: ControllerInputs) -> MapController:
    """Edgent's dynamic mode."""
    made = inputs.configuration_map
    tracker = StateTracker(made.states, inputs.change_detector())
    return MapController(inputs.setting, made, tracker)


def rate_rule(inputs: ControllerInputs) -> RateRule:
    """A rate rule with the margin that did best on the training traces."""
    return RateRule(inputs.setting, inputs.margin)


def robust(inputs: ControllerInputs) -> RobustPlanner:
    """The planner under a belief, on a device of a known pace."""
    return RobustPlanner(inputs.setting, inputs.belief, pace=inputs.device_pace)


def bandit(inputs: ControllerInputs) -> BanditController:
    """The model-free bandit."""
    return BanditController(inputs.setting)


def planning(inputs: ControllerInputs) -> LearnedController:
    """The learned policy's planning, without what training has added."""
    return LearnedController(inputs.planned, inputs.setting, "planning")


def learned(inputs: ControllerInputs) -> LearnedController:
    """The learned policy."""
    return LearnedController(inputs.learned, inputs.setting)


def generalist(inputs: ControllerInputs) -> LearnedController:
    """The policy for scenarios that have none of their own."""
    return LearnedController(inputs.adapted, inputs.setting, "generalist")
