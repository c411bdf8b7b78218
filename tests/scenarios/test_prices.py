"""Prices are options: a scenario's priced copy, and what it is at prices that are given."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.policies.network import load_policy, policy_folder, save_policy
from controller.scenarios import (
    NO_PRICES,
    SHIPPED,
    Prices,
    load_priced,
    load_setting,
    priced_copy,
    read_scenario,
    shipped_scenarios,
)
from envs.preparation import prepare

DIGESTS = {
    "lte-mobilenet": "043b6bd1555a628ce233a4b292885219e349f5854549e0cabd708d3593b9d180",
    "3g-mobilenet": "d1402aa2ff54689fb1da92dfa010d5c94c051fead67ed7dea6081a20685d5b49",
}
"""Of the scenarios with prices that coinfer brought before prices were options."""


@pytest.mark.parametrize("name", DIGESTS)
def test_a_priced_copy_is_the_scenario_that_had_prices(name):
    """Policies, records and tuned values of those scenarios go on being of this one."""
    assert priced_copy(read_scenario(name)).digest == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_a_priced_copy_differs_by_prices_and_hedging_alone(name):
    plain = read_scenario(name)
    priced = priced_copy(plain)
    assert priced.name == f"{name}-priced"
    assert (priced.reward.device_second, priced.reward.megabyte) == (0.5, 3.0)
    assert (plain.reward.device_second, plain.reward.megabyte) == (0.0, 0.0)
    assert priced.plans == msgspec.structs.replace(plain.plans, hedge=True)
    for part in ("network", "topology", "frames", "seeds", "world", "kind"):
        assert getattr(priced, part) == getattr(plain, part)
    assert priced_copy(priced) == priced


def test_its_plans_are_the_same_at_any_price():
    found = [load_priced("lte-mobilenet", p) for p in (Prices(0.5, 3.0), Prices(0.0), Prices(2.0))]
    assert all(setting.table.plans == found[0].table.plans for setting in found)
    assert any(plan.hedge for plan in found[0].table.plans)
    assert [(s.prices.device_second, s.prices.megabyte) for s in found] == [
        (0.5, 3.0), (0.0, 0.0), (2.0, 0.0),
    ]  # fmt: skip
    plain = load_priced("lte-mobilenet", NO_PRICES)
    assert plain.digest == load_setting(read_scenario("lte-mobilenet")).digest
    assert not any(plan.hedge for plan in plain.table.plans)


def test_the_prices_of_a_file_said_again_change_nothing():
    setting = load_setting(priced_copy(read_scenario("lte-mobilenet")))
    assert setting.at_prices(0.5, 3.0).digest == setting.digest
    assert setting.at_prices(0.5, 3.5).digest != setting.digest


def test_a_file_that_names_prices_keeps_its_plans_and_its_other_price(tmp_path):
    """A user's own file may be called as those that coinfer brought."""
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    text = text.replace('name = "3g-alexnet"', 'name = "lte-mobilenet-priced"')
    path = tmp_path / "lte-mobilenet-priced.toml"
    path.write_text(text + "\n[reward]\nmegabyte = 4.0\n")
    own = load_priced(path, NO_PRICES)
    dear = load_priced(path, Prices(device_second=1.0))
    assert dear.scenario == own.scenario
    assert dear.table.plans == own.table.plans
    assert (own.prices.device_second, own.prices.megabyte) == (0.0, 4.0)
    assert (dear.prices.device_second, dear.prices.megabyte) == (1.0, 4.0)


@pytest.mark.parametrize("name", DIGESTS)
def test_an_earlier_name_says_which_options_to_use(name):
    assert f"{name}-priced" not in shipped_scenarios()
    line = f"found '{name}-priced', expected '{name}' with prices: --device-second 0.5 --megabyte 3"
    with pytest.raises(UsageError, match=line):
        read_scenario(f"{name}-priced")
    with pytest.raises(UsageError, match="expected one of 3g-alexnet"):
        read_scenario("mars-priced")


def test_a_closed_loop_has_no_prices():
    with pytest.raises(UsageError, match="expected none: a closed loop has the paper's reward"):
        load_priced("edgent", Prices(1.0))
    assert load_priced("edgent", Prices(0.0, 0.0)).scenario.name == "edgent"


def test_a_policy_is_one_of_its_prices(random_policy, tmp_path):
    made_at = load_priced("lte-mobilenet", Prices(0.5, 3.0))
    policy = random_policy(made_at)
    save_policy(tmp_path, policy)
    assert load_policy(tmp_path, made_at).card.scenario == "lte-mobilenet-priced"
    with pytest.raises(ArtefactError, match=r"found those of 0.5 and 3 .* expected 0.5 and 4"):
        load_policy(tmp_path, load_priced("lte-mobilenet", Prices(0.5, 4.0)))
    with pytest.raises(ArtefactError, match="a policy of 'lte-mobilenet-priced', expected one of"):
        load_policy(tmp_path, load_priced("lte-mobilenet", NO_PRICES))
    other = load_priced("lte-mobilenet", Prices(0.5, 4.0))
    found = load_policy(tmp_path, other, any_prices=True)
    assert np.array_equal(found.belief.rates_bps, policy.belief.rates_bps)
    assert policy_folder("lte-mobilenet", made_at.scenario.name) is None


def test_an_environment_has_prices_as_arguments(random_policy, tmp_path):
    prices = Prices(1.0, 2.0)
    save_policy(tmp_path, random_policy(load_priced("lte-mobilenet", prices)))
    found = prepare("lte-mobilenet", "test", tmp_path, prices=prices)
    assert (found.setting.prices.device_second, found.setting.prices.megabyte) == (1.0, 2.0)
    assert found.origin.startswith("lte-mobilenet-priced ")


def test_words_of_a_command_line():
    assert Prices(0.5).options() == ["--device-second", "0.5"]
    assert Prices(0.0, 3.0).options() == ["--device-second", "0.0", "--megabyte", "3.0"]
    assert NO_PRICES.options() == []


@pytest.mark.system
def test_a_device_is_run_at_prices():
    """As `coinfer replay` starts it: by the scenario's name and the prices."""
    command = [
        sys.executable, "-m", "coinfer.cli.entry", "device", "--scenario", "lte-mobilenet",
        "--device-second", "0.5", "--megabyte", "3", "--controller", "device-only",
        "--edge", "127.0.0.1:9", "--frames", "2", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
