"""Which controller the daemon decides by: any that a device can run, shipped or installed."""

import json
import logging
import os
import urllib.request
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.daemon.configuration.choosing import DaemonInputs, make_controller
from controller.daemon.configuration.settings import FORMAT_VERSION, DeviceSettings, PriceSettings
from controller.daemon.live_controllers import AnyDeadline
from controller.interface import Measurement, Situation
from controller.planners.configuration_map import build_map, write_map
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy, save_policy
from controller.registry import SHIPPED
from controller.scenarios import Prices, load_priced
from controller.sensing.belief import BandwidthBelief
from traces.states import BandwidthState

ALONE = """
from controller.planners.fixed import FixedController, device_only_plan


def make(inputs):
    return FixedController("hermit", device_only_plan(inputs.setting))
"""
TUNED = ("fixed", "fixed-hedged", "rate-rule")


def settings(controller, **more):
    return DeviceSettings(FORMAT_VERSION, "3g-alexnet", controller=controller, **more)


@pytest.mark.parametrize(
    "name", [e.name for e in SHIPPED if e.deployable and e.name not in (*TUNED, "generalist")]
)
def test_whatever_a_device_can_run_decides(stream, name, tmp_path):
    path = tmp_path / "map.json"
    write_map(path, build_map(stream, [BandwidthState(5e5, 1e5)], "one state"))
    made = make_controller(settings(name, map=str(path)), stream)
    assert made.name == name
    made.reset()
    for frame in range(20):
        made.observe(Measurement(0.1 * frame, 3000, 0.05))
        for deadline_s in (stream.scenario.frames.deadline_s, 2.0):
            plan = made.decide(Situation(0.1 * frame, frame, deadline_s, 0.0, 0, 0.04))
            assert 0 <= plan < len(stream.table)


def test_the_device_alone_needs_no_second_rule(stream):
    assert not isinstance(make_controller(settings("device-only"), stream), AnyDeadline)
    assert isinstance(make_controller(settings("edge-only"), stream), AnyDeadline)


@pytest.mark.parametrize("name", ["oracle", "best-single", "optimum"])
def test_hindsight_is_refused(stream, name):
    with pytest.raises(UsageError, match=f"found '{name}', expected one of ") as refused:
        make_controller(settings(name), stream)
    listed = str(refused.value).rpartition("expected one of ")[2].replace(",", " ").split()
    assert {"device-only", "edge-only", "robust"} <= set(listed)
    assert not {"oracle", "best-single", "optimum"} & set(listed)


def test_what_is_tuned_nowhere_says_what_to_run(stream):
    other = replace(stream, scenario=stream.scenario).at_prices(0.123, 0.456)
    with pytest.raises(UsageError, match="coinfer tune --scenario 3g-alexnet"):
        make_controller(settings("rate-rule"), other)


def test_a_belief_is_taken_from_a_policy_for_other_prices(random_policy, tmp_path):
    dear = load_priced("lte-mobilenet", Prices(0.5, 3.0))
    policy = random_policy(dear)
    save_policy(tmp_path, policy)
    begun = dear.at_prices(0.0, 0.0)
    asked = settings("robust", policy=str(tmp_path), prices=PriceSettings(0.25, 1.0))
    found = DaemonInputs(asked, begun, begun.at_prices(0.25, 1.0))
    assert np.array_equal(found.belief.rates_bps, policy.belief.rates_bps)
    with pytest.raises(ArtefactError, match="'prices': found those of 0.5 and 3"):
        _ = found.learned


def test_prices_that_a_controller_does_not_know_are_said(stream, caplog):
    prices = PriceSettings(0.5, 3.0)
    with caplog.at_level(logging.WARNING):
        make_controller(settings("robust", prices=prices), stream)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        make_controller(settings("edge-only", prices=prices), stream)
    assert "controller 'edge-only' knows none" in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [({"name": "mine"}, "brings no policy of scenario 'mine'"),
     ({"description": "edited"}, "does not fit this scenario '3g-alexnet' ('scenario_digest')")],
)  # fmt: skip
def test_a_scenario_without_a_policy_is_planned_under_a_belief_of_its_own_traces(
    stream, caplog, change, why
):
    own = replace(stream, scenario=msgspec.structs.replace(stream.scenario, **change))
    inputs = DaemonInputs(settings("robust"), own, own)
    with caplog.at_level(logging.INFO, "coinfer.device"):
        found = inputs.belief
    own_belief = BandwidthBelief.from_traces(own.traces("train").traces)
    assert np.array_equal(found.kernels, own_belief.kernels)
    assert np.array_equal(found.rates_bps, own_belief.rates_bps)
    assert f"counted on {own.traces('train').source}" in caplog.text
    assert why in caplog.text
    assert (
        0
        <= make_controller(settings("robust"), own).decide(
            Situation(0.0, 0, own.scenario.frames.deadline_s, 0.0, 0, 0.04)
        )
        < len(own.table)
    )
    # a policy cannot be made so: the key and the command are named
    for name in ("learned", "planning"):
        with pytest.raises(UsageError) as refused:
            make_controller(settings(name), own)
        assert why in str(refused.value)
        assert str(refused.value).startswith("policy: found none")
        assert "coinfer train --scenario 3g-alexnet --out" in str(refused.value)


def test_a_shipped_scenario_is_planned_under_its_policy_s_belief(stream):
    found = DaemonInputs(settings("robust"), stream, stream).belief
    shipped = load_policy(SHIPPED_POLICIES / "3g-alexnet", stream).belief
    assert np.array_equal(found.kernels, shipped.kernels)


def test_a_policy_that_is_named_must_be_there(stream, tmp_path):
    for name in ("learned", "robust"):
        with pytest.raises(ArtefactError, match="found no such file") as refused:
            make_controller(settings(name, policy=str(tmp_path / "none")), stream)
        assert refused.value.path == tmp_path / "none" / "policy.json"


def test_a_map_that_is_not_named_says_how_to_make_one(stream):
    with pytest.raises(UsageError, match="coinfer map --scenario 3g-alexnet --out FILE"):
        make_controller(settings("map"), stream)


@pytest.mark.system
def test_a_package_s_controller_decides_in_the_daemon(running, tmp_path):
    site = tmp_path / "site"
    about = site / "alone-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "alone.py").write_text(ALONE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: alone\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[coinfer.controllers]\nhermit = alone:make\n")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    with running('controller = "hermit"', PYTHONPATH=path) as daemon:
        with urllib.request.urlopen(f"{daemon.address}/live/state", timeout=30) as answer:
            assert json.load(answer)["controller"] == "hermit"
        daemon.write('controller = "oracle"')
        daemon.until(lambda: "controller: found 'oracle', expected one of" in daemon.said())
        assert "hermit" in daemon.said().rpartition("expected one of")[2]
