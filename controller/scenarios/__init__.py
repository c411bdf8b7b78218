"""Scenarios: the file (`file`), what it names, loaded (`setting`, `loading`), and rewards.

`load_setting(read_scenario("3g-alexnet"))` is where planners, environments and daemons begin.
"""

from controller.scenarios.file import (
    FORMAT_VERSION,
    MOST,
    SHIPPED,
    FrameSection,
    LinkSection,
    PlanSection,
    RewardSection,
    Scenario,
    SeedSection,
    TraceSection,
    read_scenario,
    shipped_scenarios,
)
from controller.scenarios.loading import load_setting
from controller.scenarios.outcome_rows import OutcomeRows
from controller.scenarios.profiles import load_profile, profile_file
from controller.scenarios.setting import Setting, scale_trace

__all__ = [
    "FORMAT_VERSION",
    "MOST",
    "SHIPPED",
    "FrameSection",
    "LinkSection",
    "OutcomeRows",
    "PlanSection",
    "RewardSection",
    "Scenario",
    "SeedSection",
    "Setting",
    "TraceSection",
    "load_profile",
    "load_setting",
    "profile_file",
    "read_scenario",
    "scale_trace",
    "shipped_scenarios",
]
