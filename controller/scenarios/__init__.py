"""Scenarios: the file (`file`), what it names, loaded (`setting`, `loading`), and rewards.

`load_setting(read_scenario("3g-alexnet"))` is where planners, environments and daemons begin.
"""

from controller.scenarios.file import MOST, SHIPPED, read_scenario, shipped_scenarios
from controller.scenarios.loading import at_pace, load_setting
from controller.scenarios.outcome_rows import OutcomeRows
from controller.scenarios.profiles import load_profile, profile_file
from controller.scenarios.sections import (
    FORMAT_VERSION,
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
    "SHIPPED",
    "FrameSection",
    "NodeLinkSection",
    "NodeSection",
    "OutcomeRows",
    "PlanSection",
    "RewardSection",
    "Scenario",
    "SeedSection",
    "Setting",
    "TopologySection",
    "TraceSection",
    "at_pace",
    "load_profile",
    "load_setting",
    "profile_file",
    "read_scenario",
    "scale_trace",
    "shipped_scenarios",
]
