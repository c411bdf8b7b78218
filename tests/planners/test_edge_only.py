"""`edge-only` where no plan leaves everything to the edge."""

import re

import msgspec
import pytest

from artefacts import UsageError
from controller.planners.fixed import edge_only_plan
from controller.scenarios import load_setting, read_scenario


def test_plans_that_all_need_the_device_are_one_line():
    scenario = read_scenario("lte-mobilenet")
    plans = msgspec.structs.replace(scenario.plans, codecs=("int8c",))
    setting = load_setting(msgspec.structs.replace(scenario, plans=plans))
    said = f"'edge-only', plans: found none of {len(setting.table)} that the edge alone computes"
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        edge_only_plan(setting)
    assert ", expected one at least" in str(refused.value)
