"""A device plans without nodes that are away, and asks for them again now and then."""

import dataclasses

import pytest

from controller.device.further_nodes import AWAY_S, FurtherNodes
from controller.interface import Measurement, Situation
from controller.physics import NodeLink, Topology
from controller.physics.building import build_table
from controller.plans import Hop, Plan, device_only, edge_only
from models.facts.cards import load_model

pytestmark = pytest.mark.quick

TIERS = Topology(
    ("device", "edge", "cloud"), (NodeLink("device", "edge"), NodeLink("edge", "cloud", 1e9))
)
SITUATION = Situation(0.0, 1, 0.5, 0.0, 0, 0.02)
FAST = Measurement(0.0, 100_000, 0.1)
AWAY = {"away": "cloud"}


@pytest.fixture(scope="module")
def table(stream):
    """On the device, at the edge, over both, and at the cloud alone."""
    spec, last = load_model("alexnet").spec, 4
    length = len(spec.branches[last])
    plans = [
        device_only(spec, 0), edge_only(spec, last, "uint8"),
        Plan(last, (Hop("edge", 0, 5, "uint8"), Hop("cloud", 5, length, "int8"))),
        Plan(last, (Hop("cloud", 0, length, "uint8"),)),
    ]  # fmt: skip
    profiles = stream.profiles | {"cloud": stream.profiles["edge"]}
    return build_table(spec, profiles, stream.outcomes, plans, topology=TIERS)


@pytest.fixture
def nodes(table):
    return FurtherNodes(table, 0.5)


def test_nothing_changes_while_all_are_there(nodes):
    assert [nodes.instead(k, SITUATION, FAST, 0.0) for k in range(4)] == [0, 1, 2, 3]
    nodes.heard({"class": 1, "hops": [{"node": "cloud"}]}, 0.0)
    assert nodes.away(0.0) == frozenset()


def test_plans_without_the_node_take_its_place_until_it_is_asked_again(nodes):
    nodes.heard(AWAY, 10.0)
    assert nodes.away(10.0) == {"cloud"}
    assert [nodes.instead(k, SITUATION, FAST, 11.0) for k in range(4)] == [0, 1, 1, 1]
    later_s = 10.0 + AWAY_S
    asked = [nodes.instead(2, SITUATION, FAST, later_s + 0.1 * k) for k in range(4)]
    assert asked == [2, 1, 1, 1]  # one frame asks


def test_an_answer_that_it_had_a_part_in_ends_it_at_once(nodes):
    nodes.heard(AWAY, 10.0)
    for said in ({"hops": [{"node": "mars"}, 7]}, {"hops": "cloud"}, {}, {"hops": [{}]}):
        nodes.heard(said, 10.1)
    assert nodes.away(10.2) == {"cloud"}
    nodes.heard({"hops": [{"node": "cloud", "compute_s": 0.1}]}, 10.2)
    assert nodes.away(10.2) == frozenset()


def test_a_node_that_is_none_is_not_away(nodes):
    for said in ({"away": "mars"}, {"away": 7}, {"away": ["cloud"]}, {"away": "edge"}):
        nodes.heard(said, 0.0)
    assert nodes.away(0.1) == frozenset()


def test_on_a_slow_link_the_device_answers_and_without_a_measurement_the_edge_sees_to_it(nodes):
    nodes.heard(AWAY, 0.0)
    slow = Measurement(0.0, 100, 1.0)
    assert nodes.instead(2, SITUATION, slow, 0.1) == 0
    behind = dataclasses.replace(SITUATION, uplink_backlog_bytes=10_000_000)
    assert nodes.instead(2, behind, FAST, 0.1) == 0
    assert nodes.instead(2, SITUATION, None, 0.1) == 2
