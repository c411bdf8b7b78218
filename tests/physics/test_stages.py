"""The stages of plans: they compute a branch once, in order, and cost what plain sums say."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from controller.physics import (
    ConstantLink,
    LinkModel,
    NodeLink,
    Resources,
    Timing,
    Topology,
    plan_stages,
    run_frames,
)
from controller.physics.building import build_table
from controller.physics.candidates import candidate_plans, gated_plans
from controller.physics.costs import compute_s, device_bytes
from controller.physics.stages import Decode, Encode, Layers, Reply, Tensor, on_node
from controller.plans import Hop, Plan, check_plan, device_only, one_hop, passed_exits
from controller.scenarios import load_setting, read_scenario

THREE = Topology(
    ("device", "edge", "cloud"),
    (
        NodeLink("device", "edge", None, LinkModel(0.03)),
        NodeLink("edge", "cloud", 1e8, LinkModel(0.02, 100.0)),
    ),
)
RATE_BPS = 4e6


@functools.cache
def loaded(name):
    return load_setting(read_scenario(name))


@st.composite
def plans(draw, spec, hops=2):
    """Any plan of a network over at most so many hops along `THREE`, its gates and all."""
    exit_ = draw(st.integers(0, len(spec.exits) - 1))
    length = len(spec.branches[exit_])
    count = draw(st.integers(0, min(hops, length)))
    cuts = sorted(
        draw(st.lists(st.integers(0, length), min_size=count + 1, max_size=count + 1, unique=True))
    )
    nodes = ("edge", "cloud") if count == 2 else (draw(st.sampled_from(["edge", "cloud"])),)
    chain = tuple(
        Hop(node, a, b) for node, a, b in zip(nodes, cuts, cuts[1:], strict=False) if count
    )
    plan = Plan(exit_, chain, hedge=bool(chain) and draw(st.booleans()), rescue=draw(st.booleans()))
    before = [j for j in passed_exits(spec, plan) if j < exit_]
    gates = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
    if gates:
        plan = Plan(exit_, chain, plan.hedge, plan.rescue, tuple(sorted(gates)), 0.5)
    return check_plan(plan, spec)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(["3g-alexnet", "3g-mobilenet"]), anytime=st.booleans())
def test_a_plans_stages_compute_its_branch_once_and_in_order(data, name, anytime):
    spec = loaded(name).spec
    plan = data.draw(plans(spec))
    stages = plan_stages(spec, plan, THREE, anytime=anytime)
    own = [w for s in stages.chain for w in s.layers if w.branch == plan.exit]
    assert [w for layer in own for w in range(layer.start, layer.stop)] == list(
        range(len(spec.branches[plan.exit]))
    )
    # every hop's layers on its node, the rest on the device
    for hop in plan.hops:
        (at,) = [s for s in stages.chain if s.resource == f"{hop.node} CPU"]
        assert at.layers == (Layers(plan.exit, hop.start, hop.stop),)
        assert at.work[0] == Decode(hop.codec, plan.exit, hop.start)
    # resources come in the topology's order, whatever is left out
    order = [slot.resource for slot in THREE.slots]
    at = 0
    for stage in stages.chain:
        at = order.index(stage.resource, at)
    ups = [w for s in stages.chain for w in s.work if isinstance(w, Tensor)]
    downs = [w for s in stages.chain for w in s.work if isinstance(w, Reply)]
    farthest = 0 if plan.is_local else THREE.nodes.index(plan.hops[-1].node)
    assert (len(ups), len(downs)) == (farthest, farthest)
    assert [s.answers for s in stages.prefix[: len(plan.gates)]] == list(plan.gates)
    asked = [w for s in stages.prefix for w in s.layers if w.branch != plan.exit]
    assert [w.branch for w in asked] == list(plan.gates)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(["3g-alexnet", "3g-mobilenet"]))
def test_what_runs_meanwhile_begins_with_what_there_is(data, name):
    """Each own answer of the device goes on from a tensor that prefix or answer before has left."""
    spec = loaded(name).spec
    plan = data.draw(plans(spec))
    stages = plan_stages(spec, plan, THREE)
    there = {0} | {w.stop for s in stages.prefix for w in s.layers if w.branch == plan.exit}
    answers = []
    for stage in stages.meanwhile:
        first, *rest = stage.layers
        assert first.start in there
        for one, two in zip(stage.layers, rest, strict=False):
            assert one.stop == two.start
        assert stage.layers[-1].stop == len(spec.branches[stage.answers])
        there |= {w.stop for w in stage.layers if w.stop <= spec.exits[w.branch].after}
        answers.append(stage.answers)
    assert answers == sorted(set(answers))
    assert all(j <= plan.exit and j not in plan.gates for j in answers)
    if plan.hedge and not plan.is_local:
        assert answers[-1:] in ([plan.exit], []) or passed_exits(spec, plan)[-1] == plan.exit
    if stages.fallback is not None:
        assert not stages.meanwhile
        assert stages.fallback.layers[0].start in there
        assert stages.fallback.answers == 0


def account(setting, plan):
    """Costs of a plan of one hop at most, written out: (costs, waits, rescue, early)."""
    spec, device, edge = setting.spec, setting.device, setting.profiles["edge"]
    length, heads = len(spec.branches[plan.exit]), []

    def head(j):
        return device.interval_s(j, spec.exits[j].after, len(spec.branches[j]))

    for gate in plan.gates:
        heads.append(head(gate))
    early = [
        device.interval_s(plan.exit, 0, spec.exits[g].after) + sum(heads[: k + 1])
        for k, g in enumerate(plan.gates)
    ]
    if plan.is_local:
        return [device.interval_s(plan.exit, 0, length) + sum(heads), 0, 0, 0, 0], [], None, early
    (hop,) = plan.hops
    after = spec.crossing(plan.exit, hop.start)
    shapes = spec.shapes[plan.exit]
    sent = {"float32": 4 * math.prod(shapes[hop.start]), "int8c": math.prod(shapes[hop.start])}
    costs = [
        device.interval_s(plan.exit, 0, hop.start) + sum(heads) + device.encode_s(hop.codec, after),
        sent[hop.codec],
        edge.interval_s(plan.exit, hop.start, hop.stop) + edge.decode_s(hop.codec, after),
        64 + (4 * math.prod(shapes[hop.stop]) if hop.stop < length else 0),
        device.interval_s(plan.exit, hop.stop, length),
    ]
    passed = [j for j in range(plan.exit + 1) if spec.exits[j].after <= hop.start]
    waits = []
    if passed and passed[-1] not in plan.gates:
        j = passed[-1]
        own = hop.start if j == plan.exit else spec.exits[j].after
        waits.append((j, device.interval_s(j, own, len(spec.branches[j]))))
    if plan.hedge:
        begin = hop.start
        for j in range(passed[-1] + 1 if passed else 0, plan.exit + 1):
            waits.append((j, device.interval_s(j, begin, len(spec.branches[j]))))
            begin = spec.exits[j].after
    rescue = None
    if not waits and not plan.gates and plan.rescue:
        rescue = device.interval_s(0, hop.start, len(spec.branches[0]))
    return costs, waits, rescue, early


@pytest.mark.parametrize("name", ["3g-alexnet", "3g-mobilenet"])
def test_a_table_costs_what_plain_sums_say(name):
    setting = loaded(name)
    spec = setting.spec
    plain = candidate_plans(spec, ("float32", "int8c")[: 1 if name == "3g-alexnet" else 2],
                            hedge=True, no_rescue=True)  # fmt: skip
    every = (*plain, *gated_plans(spec, plain[::5], [0.7]))
    table = build_table(
        spec, setting.profiles, setting.outcomes, every, temperatures=setting.model.temperatures
    )
    for p, plan in enumerate(every):
        costs, waits, rescue, early = account(setting, plan)
        assert table.costs[p] == pytest.approx(costs, rel=1e-12), str(plan)
        exits = [j for j in table.wait_exit[p].tolist() if j >= 0]
        assert exits == [j for j, _ in waits], str(plan)
        assert table.wait_s[p, : len(waits)] == pytest.approx([s for _, s in waits], rel=1e-12)
        kept = table.rescue_s[p]
        assert kept == (math.inf if rescue is None else pytest.approx(rescue, rel=1e-12))
        assert table.early_s[p, : len(early)] == pytest.approx(early, rel=1e-12)


def three_table(chosen):
    setting = loaded("3g-alexnet")
    profiles = setting.profiles | {"cloud": setting.profiles["edge"].slowed(0.25)}
    return profiles, build_table(
        setting.spec, profiles, setting.outcomes, chosen, topology=THREE, anytime=False
    )


def test_a_third_node_is_an_entry_of_the_topology_and_its_stages_take_their_time():
    """Idle, link by link and node by node; and the table's own account of it."""
    setting = loaded("3g-alexnet")
    spec = setting.spec
    chosen = [
        device_only(spec, 2),
        one_hop(4, 4, 12),
        Plan(4, (Hop("edge", 4, 12), Hop("cloud", 12, 22))),
        Plan(4, (Hop("edge", 0, 4), Hop("cloud", 4, 12))),
        one_hop(4, 4, 22, node="cloud"),
    ]
    profiles, table = three_table(chosen)
    links, models = (
        (ConstantLink(np.array(RATE_BPS)), ConstantLink(np.array(1e8))),
        [link.model for link in THREE.links],
    )
    shape = (len(chosen),)
    outcome, after = run_frames(
        table, np.arange(len(chosen)), np.zeros(shape), Resources.idle(shape, topology=THREE),
        links, models, Timing(None),
    )  # fmt: skip
    for p, plan in enumerate(chosen):
        expected = 0.0
        for stage in plan_stages(spec, plan, THREE, anytime=False).chain:
            for work in stage.work:
                if isinstance(work, Tensor | Reply):
                    far = stage.resource.split()[-1]
                    shapes = spec.shapes[work.branch]
                    size = 4.0 * math.prod(shapes[work.cut])
                    if isinstance(work, Reply):
                        size = 64.0 + (size if work.cut < len(spec.branches[plan.exit]) else 0.0)
                    k = THREE.nodes.index(far) - 1
                    wire = float(models[k].on_wire(np.array(size)))
                    expected += 8.0 * wire / (RATE_BPS, 1e8)[k] + models[k].rtt_s / 2
            if stage.layers:
                node = stage.resource.removesuffix(" CPU")
                expected += compute_s(profiles[node], stage.work)
        assert outcome.latency_s[p] == pytest.approx(expected, rel=1e-9), str(plan)
        idle = table.latency_s(RATE_BPS, 0.03)[p]
        assert idle == pytest.approx(expected, rel=1e-9), str(plan)
    cloud = [p for p, plan in enumerate(chosen) if any(h.node == "cloud" for h in plan.hops)]
    assert np.flatnonzero(after["cloud CPU"] > 0).tolist() == cloud
    # whoever only crosses a node does not wait for its CPU
    assert after["edge CPU"][4] == 0.0
    assert after["uplink to cloud"][4] > 0.0
    assert on_node(spec, tuple(chosen), "cloud", THREE) == (
        Decode("float32", 4, 12), Layers(4, 12, 22), Decode("float32", 4, 4), Layers(4, 4, 12),
        Layers(4, 4, 22),
    )  # fmt: skip


def test_hops_lead_away_from_the_device():
    spec = loaded("3g-alexnet").spec
    back = Plan(4, (Hop("cloud", 4, 12), Hop("edge", 12, 22)))
    with pytest.raises(UsageError, match="found a hop from 'cloud' to 'edge', expected a node"):
        plan_stages(spec, back, THREE)
    with pytest.raises(UsageError, match="found a hop from 'device' to 'cloud'"):
        plan_stages(spec, one_hop(4, 4, 22, node="cloud"))
    with pytest.raises(UsageError, match="expected them to go on from layer 12"):
        check_plan(Plan(4, (Hop("edge", 4, 12), Hop("cloud", 13, 22))), spec)
    with pytest.raises(UsageError, match=r"found layers \[4, 4\), expected at least one layer"):
        check_plan(one_hop(4, 4, 4), spec)
    assert str(Plan(4, (Hop("edge", 4, 12), Hop("cloud", 12, 22, "int8")), rescue=False)) == (
        "exit 5, edge [4, 12), float32, cloud [12, 22), int8, no rescue"
    )


def test_a_devices_memory_is_of_all_that_it_may_run():
    """Heads that gates ask count, a hedge's exits, and a fallback that time is kept for."""
    setting = loaded("3g-mobilenet")
    spec, device = setting.spec, setting.device
    length = len(spec.branches[4])
    cut = spec.exits[1].after
    picture = math.prod(spec.input_shape)

    def needed(plan):
        return device_bytes(spec, device, plan_stages(spec, plan)) - picture

    heads = [(j, spec.exits[j].after, len(spec.branches[j])) for j in range(2)]
    split = one_hop(4, cut, length)
    assert needed(split) == device.device_bytes((4, 0, cut), heads[1])
    gated = one_hop(4, cut, length, gates=(0, 1), threshold=0.5)
    assert needed(gated) == device.device_bytes((4, 0, cut), *heads)
    assert needed(one_hop(4, 0, length)) == device.device_bytes((0, 0, len(spec.branches[0])))
    assert needed(one_hop(4, 0, length, rescue=False)) == 0
    hedged = [(j, min(cut, spec.exits[j].after), len(spec.branches[j])) for j in range(1, 5)]
    assert needed(one_hop(4, cut, length, hedge=True)) == device.device_bytes((4, 0, cut), *hedged)
    local = Plan(4, gates=(0,), threshold=0.5)
    assert needed(local) == device.device_bytes((4, 0, length), heads[0])
    assert Encode("float32", 4, cut) in on_node(spec, (split,), "device")
