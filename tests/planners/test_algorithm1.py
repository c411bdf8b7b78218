import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import ArtefactError, UsageError
from controller.physics import DEVICE_AND_EDGE, PlanTable
from controller.physics.candidates import candidate_plans
from controller.planners.algorithm1 import (
    ORDERS,
    BranchInputs,
    PlanningInputs,
    algorithm1,
    fastest,
    partition_latencies,
    planning_inputs,
)
from controller.planners.deadline_rule import choose_plan
from controller.plans import Plan, one_hop
from models.facts.alexnet import alexnet
from models.facts.reference import reference_profile

ACCURACIES = (0.70, 0.74, 0.77, 0.79, 0.80)


def brute_force(inputs, exit_, bandwidth, order, rtt):
    """(latency, plan) for p = 1 ... N+1, each term summed on its own, straight from the paper."""
    branch = inputs.branches[exit_]
    length = len(branch.edge_s)
    sizes = [inputs.input_bytes, *branch.output_bytes]
    found = []
    for p in range(1, length + 2):
        before, after = range(1, p), range(p, length + 1)
        if order == "edge-first":
            compute = sum(branch.edge_s[j - 1] for j in before)
            compute += sum(branch.device_s[j - 1] for j in after)
            local, plan = p == 1, one_hop(exit_, 0, p - 1)
            moved = inputs.input_bytes + sizes[p - 1]
        else:
            compute = sum(branch.device_s[j - 1] for j in before)
            compute += sum(branch.edge_s[j - 1] for j in after)
            local, plan = p == length + 1, one_hop(exit_, p - 1, length)
            moved = sizes[p - 1] + sizes[-1]
        if local:
            found.append((compute, Plan(exit_)))
        else:
            found.append((compute + 8 * moved / bandwidth + rtt, plan))
    return found


# whole seconds and bytes at 8 bit/s: every sum is exact, so ties are real ties
@st.composite
def networks(draw):
    branches = []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 7))
        rows = st.lists(st.integers(0, 9), min_size=length, max_size=length)
        accuracy = draw(st.floats(0, 1))
        branches.append(
            BranchInputs(*(np.array(draw(rows), dtype=float) for _ in range(3)), accuracy)
        )
    return PlanningInputs(tuple(branches), float(draw(st.integers(1, 9))))


@given(
    networks(),
    st.sampled_from([1.0, 2.0, 8.0, 64.0]),
    st.integers(0, 40),
    st.sampled_from(ORDERS),
    st.booleans(),
    st.sampled_from([0.0, 3.0]),
)
def test_equals_brute_force(inputs, bandwidth, deadline, order, full_range, rtt):
    expected = None
    everything = []
    for exit_ in reversed(range(len(inputs.branches))):
        found = brute_force(inputs, exit_, bandwidth, order, rtt)
        found = found if full_range else found[:-1]
        best = min(found, key=lambda pair: pair[0])
        everything.append(best)
        if expected is None and best[0] <= deadline:
            expected = best
    choice = algorithm1(inputs, bandwidth, float(deadline), order, full_range, rtt)
    if expected is None:
        assert choice is None
    else:
        assert (choice.latency_s, choice.plan) == expected
        assert choice.accuracy == inputs.branches[choice.plan.exit].accuracy
    quickest = fastest(inputs, bandwidth, order, full_range, rtt)
    assert (quickest.latency_s, quickest.plan) == min(everything, key=lambda pair: pair[0])


@given(networks(), st.floats(1e-3, 1e9), st.sampled_from(ORDERS), st.floats(0, 1))
def test_parts_add_up_at_any_bandwidth(inputs, bandwidth, order, rtt):
    for exit_ in range(len(inputs.branches)):
        latencies = partition_latencies(inputs, exit_, bandwidth, order, rtt)
        expected = [x[0] for x in brute_force(inputs, exit_, bandwidth, order, rtt)]
        np.testing.assert_allclose(latencies, expected, rtol=1e-12)
    choice = fastest(inputs, bandwidth, order, rtt_s=rtt)
    parts = choice.edge_s + choice.device_s + choice.uplink_s + choice.downlink_s
    trip = 0.0 if choice.plan.is_local else rtt
    assert choice.latency_s == pytest.approx(parts + trip)


def small():
    branch = BranchInputs(
        np.array([1.0, 1.0]), np.array([5.0, 7.0]), np.array([4.0, 1.0]), accuracy=0.8
    )
    shallow = BranchInputs(np.array([1.0]), np.array([3.0]), np.array([1.0]), accuracy=0.6)
    return PlanningInputs((shallow, branch), 2.0)


def test_the_printed_terms_of_a_small_network_by_hand():
    # 8 bit/s: one second a byte. Edge-first p=2: edge 1 + device 7 + up 2 + down 4
    np.testing.assert_array_equal(partition_latencies(small(), 1, 8.0), [12.0, 14.0, 5.0])
    # device-first p=2: device 5 + up 4 + edge 1 + answer 1
    np.testing.assert_array_equal(
        partition_latencies(small(), 1, 8.0, "device-first"), [5.0, 11.0, 12.0]
    )


def test_exits_are_tried_from_the_deepest_and_null_is_none():
    deep = algorithm1(small(), 8.0, 5.0)
    assert deep is not None
    assert (deep.plan, deep.partition, deep.accuracy) == (one_hop(1, 0, 2), 3, 0.8)
    shallow = algorithm1(small(), 8.0, 4.0)
    assert shallow is not None
    assert shallow.plan == Plan(0)
    assert algorithm1(small(), 8.0, 2.9) is None
    assert fastest(small(), 8.0).plan == Plan(0)


def test_the_printed_range_never_lets_the_edge_do_the_last_layer():
    printed = algorithm1(small(), 8.0, 12.0, full_range=False)
    assert printed is not None
    assert printed.plan == Plan(1)


def test_without_bandwidth_only_the_device_is_left():
    assert fastest(small(), 0.0).plan.is_local
    assert fastest(small(), 0.0, "device-first").plan.is_local
    # the printed range mirrored leaves no local plan: nothing ever ends
    assert fastest(small(), 0.0, "device-first", full_range=False).latency_s == math.inf
    assert algorithm1(small(), 0.0, 1e9, "device-first", full_range=False) is None


def test_ties_take_the_smallest_partition_and_the_deepest_exit():
    flat = BranchInputs(np.zeros(3), np.zeros(3), np.zeros(3), accuracy=0.5)
    inputs = PlanningInputs((flat, flat), 1.0)
    assert fastest(inputs, 8.0).plan == Plan(1)
    # device-first, p = 1 sends the input; 2, 3 and 4 all cost nothing
    assert fastest(inputs, 8.0, "device-first").plan == one_hop(1, 1, 3)
    slow = PlanningInputs((small().branches[0], small().branches[0]), 2.0)
    assert fastest(slow, 8.0).plan == Plan(1)


def test_the_paper_s_anchor_edge_only():
    spec = alexnet()
    inputs = planning_inputs(
        spec,
        reference_profile("edgent-pi3", spec),
        reference_profile("edgent-pc", spec),
        ACCURACIES,
    )
    assert inputs.input_bytes == 12288
    for bandwidth, seconds in ((1e6, 0.105), (50e3, 1.973)):
        edge_only = partition_latencies(inputs, 4, bandwidth)[-1]
        assert edge_only == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize("order", ORDERS)
def test_agrees_with_the_rule_over_a_plan_table(order):
    spec = alexnet()
    device, edge = (reference_profile(n, spec) for n in ("edgent-pi3", "edgent-pc"))
    inputs = planning_inputs(spec, device, edge, ACCURACIES)
    plans = candidate_plans(
        spec, edge_first=order == "edge-first", device_first=order == "device-first"
    )
    table = _table(inputs, spec, plans)
    for bandwidth in np.geomspace(2e4, 1e7, 40):
        for deadline in (0.05, 0.2, 0.5, 1.0):
            chosen, met = choose_plan(table, float(bandwidth), deadline, 0.0)
            ours = algorithm1(inputs, float(bandwidth), deadline, order)
            assert met == (ours is not None)
            if ours is None:
                ours = fastest(inputs, float(bandwidth), order)
            assert table.plans[chosen] == ours.plan


def _table(inputs, spec, plans):
    """A plan table of the paper's own costs: the whole last tensor comes back, no answer frame."""
    rows = []
    for plan in plans:
        b = inputs.branches[plan.exit]
        sizes = np.concatenate([[inputs.input_bytes], b.output_bytes])
        hop = plan.hops[0] if plan.hops else None
        up, down = (0.0, 0.0) if hop is None else (sizes[hop.start], sizes[hop.stop])
        if hop is None:
            times = (b.device_s.sum(), 0.0, 0.0)
        else:
            times = (
                b.device_s[: hop.start].sum(),
                b.edge_s[hop.start : hop.stop].sum(),
                b.device_s[hop.stop :].sum(),
            )
        rows.append((*times, up, down, b.accuracy))
    head, edge, tail, up, down, accuracy = np.array(rows).T
    nothing = np.zeros((len(plans), 1))
    return PlanTable(
        spec=spec,
        topology=DEVICE_AND_EDGE,
        plans=tuple(plans),
        costs=np.stack([head, up, edge, down, tail], axis=1),
        exit=np.array([p.exit for p in plans]),
        local=np.array([p.is_local for p in plans]),
        wait_s=nothing,
        wait_exit=nothing.astype(np.int64) - 1,
        wait_pause_s=nothing,
        rescue_s=np.full(len(plans), np.inf),
        rescue_pause_s=nothing[:, 0],
        early_s=np.zeros((len(plans), 0)),
        early_exit=np.zeros((len(plans), 0), dtype=np.int64),
        gate_share=np.zeros((len(plans), 0)),
        accuracy=accuracy,
        exit_accuracy=np.array(ACCURACIES),
        sigmas=(0.0, 0.0),
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 1.0), "bandwidth_bps: found -1.0"),
        ((math.nan, 1.0), "bandwidth_bps: found nan"),
        ((1e6, math.inf), "deadline_s: found inf"),
        ((1e6, 1.0, "sideways"), "order: found 'sideways'"),
        ((1e6, 1.0, "edge-first", True, -0.1), "rtt_s: found -0.1"),
    ],
)
def test_refuses_what_cannot_be_meant(arguments, named):
    with pytest.raises(UsageError, match=named):
        algorithm1(small(), *arguments)


def test_refuses_inputs_that_do_not_fit():
    with pytest.raises(UsageError, match="'device_s': found shape"):
        BranchInputs(np.ones(2), np.ones(3), np.ones(2), 0.5)
    with pytest.raises(UsageError, match="'output_bytes': found a negative"):
        BranchInputs(np.ones(2), np.ones(2), -np.ones(2), 0.5)
    with pytest.raises(UsageError, match="'accuracy': found 55"):
        BranchInputs(np.ones(2), np.ones(2), np.ones(2), 55.0)
    with pytest.raises(UsageError, match="found no branch"):
        PlanningInputs((), 1.0)
    with pytest.raises(UsageError, match="'input_bytes': found 0"):
        PlanningInputs(small().branches, 0.0)
    spec = alexnet()
    profile = reference_profile("edgent-pc", spec)
    with pytest.raises(UsageError, match="found 2 accuracies, expected 5"):
        planning_inputs(spec, profile, profile, (0.5, 0.6))


def test_refuses_a_profile_of_another_network():
    spec = alexnet()
    profile = reference_profile("edgent-pc", spec)
    other = msgspec.structs.replace(profile, network_digest="0" * 64)
    with pytest.raises(ArtefactError, match="network_digest"):
        planning_inputs(spec, other, profile, ACCURACIES)
