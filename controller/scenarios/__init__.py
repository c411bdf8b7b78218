"""Scenarios: the file (`file`), what it names, loaded (`setting`, `loading`), prices, rewards.

`load_setting(read_scenario("3g-alexnet"))` is where planners, environments and daemons begin.
"""

from controller.scenarios.file import MOST, SHIPPED, read_scenario, shipped_scenarios
from controller.scenarios.loading import at_pace, load_setting
from controller.scenarios.outcome_rows import OutcomeRows
from controller.scenarios.prices import NO_PRICES, Prices, load_priced, priced_copy
from controller.scenarios.profiles import load_profile, profile_file
from controller.scenarios.sections import (
    FORMAT_VERSION,
    PRICED,
    FrameSection,
    NodeLinkSection,
    NodeSection,
    PlanSection,
    RewardSection,
    Scenario,
    SeedSection,
    TopologySection,
    TraceSection,
)
from controller.scenarios.setting import Setting, scale_trace

__all__ = [
    "FORMAT_VERSION",
    "MOST",
    "NO_PRICES",
    "PRICED",
    "SHIPPED",
    "FrameSection",
    "NodeLinkSection",
    "NodeSection",
    "OutcomeRows",
    "PlanSection",
    "Prices",
    "RewardSection",
    "Scenario",
    "SeedSection",
    "Setting",
    "TopologySection",
    "TraceSection",
    "at_pace",
    "load_priced",
    "load_profile",
    "load_setting",
    "priced_copy",
    "profile_file",
    "read_scenario",
    "scale_trace",
    "shipped_scenarios",
]
