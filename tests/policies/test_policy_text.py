"""A policy's text is one short line, whatever arrays it has."""

from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy
from controller.scenarios import load_setting, read_scenario


def test_a_policy_is_shown_in_a_line():
    setting = load_setting(read_scenario("lte-mobilenet"))
    shown = repr(load_policy(SHIPPED_POLICIES / "lte-mobilenet", setting))
    assert shown.startswith("Policy(scenario='lte-mobilenet', ")
    assert len(shown) < 120
    assert "\n" not in shown
