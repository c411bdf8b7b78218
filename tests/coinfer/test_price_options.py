"""What commands make of `--device-second` and `--megabyte`."""

from pathlib import Path

import pytest

from artefacts import UsageError
from coinfer.cli.learning.from_records import _setting_of
from coinfer.cli.scenario import (
    policy_of,
    prices_of,
    say_no_policy,
    setting_of,
    trained_setting,
    usual_out,
)
from controller.policies import SHIPPED_POLICIES
from controller.scenarios import NO_PRICES, SHIPPED, Prices


def prices(setting):
    return setting.prices.device_second, setting.prices.megabyte


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.toml"
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    path.write_text(text.replace('name = "3g-alexnet"', 'name = "own"'))
    return path


def test_a_policy_for_prices_is_looked_for_and_kept_apart(own):
    assert policy_of("lte-mobilenet") == SHIPPED_POLICIES / "lte-mobilenet"
    assert policy_of("lte-mobilenet", None, Prices(0.5)) is None
    assert policy_of("lte-mobilenet", Path("own"), Prices(0.5)) == Path("own")
    dear = setting_of(str(own), 0.5, None)
    assert dear.scenario.name == "own-priced"
    assert usual_out(str(own), dear) == Path("runs/policies/own-priced")
    assert usual_out(str(own), setting_of(str(own))) == own.parent / "policy"


def test_who_asks_for_a_range_of_prices_asks_for_prices(own):
    found = trained_setting(str(own), NO_PRICES, 2.0, 0.0)
    assert (found.scenario.name, prices(found)) == ("own-priced", (0.0, 0.0))
    found = trained_setting(str(own), Prices(0.5, 3.0), 2.0, 12.0)
    assert prices(found) == (0.5, 3.0)
    assert trained_setting(str(own), NO_PRICES, 0.0, 0.0).scenario.name == "own"
    with pytest.raises(UsageError, match="a device second: found at most 0.25, expected 0.5"):
        trained_setting(str(own), Prices(0.5), 0.25, 0.0)
    own.write_text(own.read_text() + "\n[reward]\nmegabyte = 4.0\n")
    found = trained_setting(str(own), NO_PRICES, 0.0, 8.0)
    assert (found.scenario.name, prices(found)) == ("own", (0.0, 4.0))
    assert usual_out(str(own), found) == own.parent / "policy"


def test_how_a_policy_for_prices_is_made_is_said(capsys):
    say_no_policy("lte-mobilenet", "compared without 'learned'", prices_of(0.5, 3.0))
    said = capsys.readouterr().err
    assert "has no policy at these prices (coinfer train --scenario lte-mobilenet " in said
    assert "--device-second 0.5 --megabyte 3.0 --out FOLDER makes one" in said


def test_records_of_a_device_that_knew_prices_name_their_scenario(own):
    found = _setting_of("", "3g-alexnet-priced", NO_PRICES)
    assert (found.scenario.name, prices(found)) == ("3g-alexnet-priced", (0.5, 3.0))
    assert prices(_setting_of("", "3g-alexnet-priced", Prices(0.2, 8.0))) == (0.2, 8.0)
    assert _setting_of(str(own), "own-priced", NO_PRICES).scenario.name == "own-priced"
    assert _setting_of(str(own), "own", NO_PRICES).scenario.name == "own"
    with pytest.raises(UsageError, match="records of 'mars-priced', expected the file of that"):
        _setting_of("", "mars-priced", NO_PRICES)
