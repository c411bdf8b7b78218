"""`[topology]`: format 2 says what format 1 does, and more; bad ones are refused by field."""

import msgspec
import numpy as np
import pytest

from artefacts import CoinferError
from controller.device.greeting import asked_intervals
from controller.plans import all_remote
from controller.scenarios import SHIPPED, load_setting, read_scenario, shipped_scenarios
from controller.scenarios.loading import with_edge_only

TOPOLOGY = """
[[topology.nodes]]
name = "device"
profile = "pi4-one-core"
slowdown = 1.25

[[topology.nodes]]
name = "edge"
profile = "edge-x86"

[[topology.links]]
between = ["device", "edge"]
traces = { family = "norway", scale = 1.0 }
rtt_s = 0.050
message_bytes = 256.0
packet_bytes = 66.0
"""
REST = """
[frames]
rate_fps = 18.0
deadline_s = 0.130

[plans]
codecs = ["int8c", "jpeg35"]
edge_first = false
"""
HEAD = """format_version = {version}
name = "own"
kind = "frame-stream"
description = "A test's own"
network = "mobilenetv2"
"""
FORMAT_1 = """device_profile = "pi4-one-core"
device_slowdown = 1.25
edge_profile = "edge-x86"
[traces]
family = "norway"
[link]
rtt_s = 0.050
message_bytes = 256.0
packet_bytes = 66.0
"""
CLOUD = """
[[topology.nodes]]
name = "cloud"
profile = "edge-x86"
[[topology.links]]
between = ["edge", "cloud"]
rate_bps = 1e9
rtt_s = 0.020
"""


def written(path, topology, version=2):
    path.write_text(HEAD.format(version=version) + topology + REST)
    return path


def test_both_formats_say_the_same_and_have_one_digest(tmp_path):
    one = read_scenario(written(tmp_path / "one.toml", FORMAT_1, 1))
    two = read_scenario(written(tmp_path / "two.toml", TOPOLOGY))
    assert one == two
    assert one.digest == two.digest
    assert (two.device_slowdown, two.edge_profile, two.link.rtt_s) == (1.25, "edge-x86", 0.05)


PUBLISHED = {
    "3g-alexnet": "0c8c9c855a31b3f9fc4a81de40618515b077d8b1a4d90379fcfbb99feaf42344",
}


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_has_the_digest_that_its_policies_record(name):
    scenario = read_scenario(name)
    assert scenario.topology.nodes[0].name == "device"
    if name in PUBLISHED:
        assert scenario.digest == PUBLISHED[name]
    for folder in (SHIPPED.parents[1] / "policies" / "shipped").glob(f"{name}/policy.json"):
        card = msgspec.json.decode(folder.read_bytes())
        assert card["scenario_digest"] == scenario.digest


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (
            'name = "edge"',
            'name = "device"',
            "'topology': topology nodes: found 'device', 'device'",
        ),
        ('name = "edge"', 'name = "../x"', "'topology.nodes[1].name': found '../x'"),
        ('profile = "edge-x86"', 'profile = "mars"', "'topology.nodes[1].profile': .*'mars'"),
        (
            "slowdown = 1.25",
            "slowdown = 0.0",
            "'topology.nodes[0].slowdown': found 0.0, expected a",
        ),
        ('"device", "edge"]', '"edge", "device"]', "found one from 'edge' to 'device', expected"),
        (
            '"device", "edge"]',
            '"device", "sun"]',
            "found one to 'sun', expected nodes among device",
        ),
        ("rtt_s = 0.050", "rtt_s = -1.0", "'topology.links[0].rtt_s': found -1.0, expected 0 or"),
        ("rtt_s = 0.050", "rtt = 0.050", "unknown field 'rtt'"),
        ("scale = 1.0 }", "scale = 0.0 }", "'topology.links[0].traces.scale': found 0.0, expected"),
        ("rtt_s = 0.050", "rate_bps = 1e6", "'topology.links[0]': found both, expected traces or"),
        ("traces = {", "# ", "'topology.links[0]': found neither, expected traces or rate_bps"),
        (
            "[[topology.links]]",
            CLOUD + "[[topology.links]]",
            "'topology.links[1].traces': found traces, expected rate_bps",
        ),
        ("format_version = 2", "format_version = 3", "'format_version': found 3, expected 1 or 2"),
        ("format_version = 2", "", "'format_version': found nothing, expected 1 or 2"),
        ("format_version = 2", "format_version = 1", "topology"),
    ],
)
def test_a_topology_that_cannot_be_meant_is_refused_in_one_line(tmp_path, was, now, said):
    path = written(tmp_path / "own.toml", TOPOLOGY)
    text = path.read_text()
    assert text.count(was) == 1
    path.write_text(text.replace(was, now))
    with pytest.raises(CoinferError, match=said.replace("[", r"\[")) as found:
        read_scenario(path)
    assert "\n" not in str(found.value)
    assert "own.toml" in str(found.value)


def test_plans_go_on_to_a_further_node(tmp_path):
    """Straight to it, or over the one between: what stands on either is the plan's."""
    scenario = read_scenario(written(tmp_path / "own.toml", TOPOLOGY + CLOUD))
    assert scenario.make_topology().resources[-4:] == (
        "uplink to cloud", "cloud CPU", "downlink from cloud", "downlink from edge",
    )  # fmt: skip
    setting = load_setting(scenario.with_node(1, slowdown=20.0))
    ways = {tuple(hop.node for hop in plan.hops) for plan in setting.candidates.plans}
    assert ways == {(), ("edge",), ("cloud",), ("edge", "cloud")}
    # an edge twenty times slower than the cloud behind it computes next to nothing
    chosen = {tuple(hop.node for hop in plan.hops) for plan in setting.table.plans}
    assert ("cloud",) in chosen
    # the edge makes ready what it will be asked for itself, and nothing of the cloud's part
    cloud_starts = {h.start for p in setting.table.plans for h in p.hops if h.node == "cloud"}
    asked = asked_intervals(setting.table)
    assert cloud_starts
    assert all(start < stop for _, start, stop in asked)


def test_a_link_of_constant_rate_and_an_edge_of_another_name(tmp_path):
    text = TOPOLOGY.replace('traces = { family = "norway", scale = 1.0 }', "rate_bps = 2e6")
    text = text.replace('"edge"', '"server"')
    setting = load_setting(read_scenario(written(tmp_path / "own.toml", text)))
    found = setting.traces("test")
    assert found.source == "a constant rate of 2 Mbit/s"
    assert np.array_equal(found.traces[0].rates_bps, [2e6])
    assert {hop.node for plan in setting.table.plans for hop in plan.hops} == {"server"}
    assert setting.table.topology.resources == (
        "device CPU", "uplink to server", "server CPU", "downlink from server",
    )  # fmt: skip
    slow = read_scenario(tmp_path / "own.toml").with_node(1, slowdown=3.0)
    assert load_setting(slow).profiles["server"].interval_s(0, 0, 1) == pytest.approx(
        3.0 * setting.profiles["server"].interval_s(0, 0, 1)
    )
    with pytest.raises(CoinferError, match="found a first link of constant rate"):
        _ = slow.traces


def test_a_plan_of_the_edge_alone_stays_to_be_shown_where_the_device_is_better_at_everything():
    setting = load_setting(read_scenario("lte-mobilenet"))
    every = setting.candidates
    local = every.take(np.flatnonzero(every.local))
    found = with_edge_only(every, local)
    [plan] = found.plans[len(local) :]
    assert all_remote(every.spec, plan)
    whole = [k for k, p in enumerate(every.plans) if all_remote(every.spec, p)]
    assert found.accuracy[-1] == every.accuracy[whole].max()
    assert with_edge_only(every, found) is found
    assert with_edge_only(local, local) is local  # a network that no codec takes there whole
