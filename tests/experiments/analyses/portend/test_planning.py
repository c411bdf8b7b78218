"""Plans over three tiers by PORTEND's model: the planner finds what exhaustive search finds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError, data_directory
from experiments.analyses.portend.__main__ import main
from experiments.analyses.portend.cost import COMPOSITIONS, Costs, Platform, TierPlan, evaluate
from experiments.analyses.portend.measurements import (
    Exits,
    Network,
    Serialisation,
    read_networks,
    read_serialisation,
)
from experiments.analyses.portend.planning import (
    best_plan,
    every_plan,
    exhaustive,
    whole_accuracy,
    without_exits,
)

MACHINES = Platform().machines


def drawn_costs(seed, blocks, composition, thresholds=3):
    """A network with times, sizes and exits as they come: deeper exits may take fewer samples."""
    rng = np.random.default_rng(seed)
    latency = {}
    for machine, speed in zip(MACHINES, (20.0, 5.0, 1.0), strict=True):
        made = np.full((blocks + 2, blocks + 2), np.nan)
        for first in range(1, blocks + 2):
            made[first, first - 1] = 0.0
            steps = rng.uniform(0.1, 1.0, max(blocks + 1 - first, 0)).cumsum()
            made[first, first : blocks + 1] = speed * steps
        latency[machine] = made
    sizes = np.full(blocks + 2, np.nan)
    sizes[1 : blocks + 1] = rng.uniform(100, 60_000, blocks)
    samples = 100
    would = np.zeros((thresholds, blocks + 1))
    would[:, 1:] = np.sort(rng.integers(0, samples + 1, (thresholds, blocks)), axis=0)
    would[-1, 1:] = samples
    right = np.floor(would * rng.uniform(0.5, 1.0, would.shape))
    exits = Exits(np.linspace(0.1, 1.0, thresholds), would, right, samples)
    at = np.array([0.0, 1e4, 1e5])
    machines = {m: Serialisation(at, at * k / 1e5, at * k / 2e5) for k, m in enumerate(MACHINES)}
    network = Network("drawn", blocks, latency, sizes, {"validation": exits})
    return Costs(network, exits, Platform(), machines, composition)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 5), st.sampled_from(COMPOSITIONS), st.floats(0.0, 0.3)
)
def test_the_planner_finds_the_optimum_of_exhaustive_search(seed, blocks, composition, loss):
    costs = drawn_costs(seed, blocks, composition)
    floor = whole_accuracy(costs) - loss
    try:
        right = exhaustive(costs, floor)
    except UsageError:
        with pytest.raises(UsageError, match="found no plan that reaches"):
            best_plan(costs, floor)
        return
    found = best_plan(costs, floor)
    assert found.predicted.latency_ms == pytest.approx(right.predicted.latency_ms, rel=1e-12)
    assert found.predicted.accuracy >= floor - 1e-12


@given(st.integers(0, 10_000), st.sampled_from(COMPOSITIONS))
@settings(max_examples=30, deadline=None)
def test_shares_are_shares_and_a_bound_is_one(seed, composition):
    costs, bound = (drawn_costs(seed, 3, kind) for kind in (composition, "bound"))
    for plan in every_plan(costs):
        found = evaluate(costs, plan)
        assert sum(found.exit_shares) == pytest.approx(1.0)
        assert min(found.exit_shares) >= 0.0
        assert len(found.exit_shares) == len(plan.tiers)
        assert found.accuracy >= evaluate(bound, plan).accuracy - 1e-12


def by_hand():
    """Two blocks of 8 and 4 ms (tier 0), half of that on tier 1, a quarter on tier 2."""
    latency = {}
    for machine, share in zip(MACHINES, (1.0, 0.5, 0.25), strict=True):
        made = np.zeros((4, 4))
        made[1, 1], made[2, 2], made[1, 2] = 8 * share, 4 * share, 12 * share
        latency[machine] = made
    exits = Exits(
        np.array([0.5, 1.0]),
        np.array([[0.0, 40.0, 60.0], [0.0, 100.0, 100.0]]),
        np.array([[0.0, 38.0, 57.0], [0.0, 70.0, 90.0]]),
        100,
    )
    free = Serialisation(np.array([0.0, 1e6]), np.array([0.0, 100.0]), np.array([0.0, 10.0]))
    network = Network("two", 2, latency, np.array([np.nan, 3000.0, 10_000.0, np.nan]), {})
    return Costs(network, exits, Platform(), dict.fromkeys(MACHINES, free))


def test_the_cost_model_by_hand():
    costs = by_hand()
    # 10,000 bytes over 10 Mbit/s are 8 ms, 20 ms of way there and back, 1.1 ms to write and read
    found = evaluate(costs, TierPlan(1, 2, 2, 0.5))
    assert found.latency_ms == pytest.approx(8 + 0.6 * (8 + 20 + 1.1 + 2 + 20))
    assert found.exit_shares == pytest.approx((0.4, 0.6))
    # 2 of the 40 left wrongly; at worst the last exit would have been right of all 40
    assert found.accuracy == pytest.approx(0.38 + 0.9 - 0.4)
    assert evaluate(costs, TierPlan(1, 2, 2)).accuracy == pytest.approx(0.9)
    # who has left keeps the answer of the exit that it left at, however good a later one is
    late = evaluate(costs, TierPlan(1, 2, 2, 1.0))
    assert late.exit_shares == pytest.approx((1.0, 0.0))
    assert late.accuracy == pytest.approx(0.7)
    # straight to tier 2: the slower link, one packet of 1,500 bytes over the quicker one
    found = evaluate(costs, TierPlan(1, 1, 2, 0.5))
    way = 8 + 0.03 + 60 + 1.1
    assert found.latency_ms == pytest.approx(8 + 0.6 * (way + 1 + 60))
    # everything at tier 1 pays for the input's way
    whole = without_exits(costs, (1,))
    assert whole.plan.tiers == [(1, 1, 2)]
    assert whole.predicted.latency_ms == pytest.approx(2.4 + 20 + 0.33 + 6 + 20)


def test_plans_that_are_none_and_floors_that_nothing_reaches():
    with pytest.raises(UsageError, match="found tiers that end at 2, 1, 2"):
        TierPlan(2, 1, 2)
    for search in (best_plan, exhaustive):
        with pytest.raises(UsageError, match=r"found no plan that reaches 0\.9900"):
            search(by_hand(), 0.99)


TABLES = {
    "partitions.csv": "machine,network,data_set,first_block,last_block,latency_ms,samples\n"
    + "".join(
        f"{m},Two,X,{a},{b},{(b - a + 1) * k},3\n"
        for k, m in enumerate(MACHINES, 1) for a, b in ((1, 1), (1, 2), (2, 2))
    ),
    "exits.csv": "network,data_set,part,exit_after_block,entropy_threshold,would_exit,"
    "right_of_those\n"
    "Two,X,validation,1,0.5,40,38\nTwo,X,validation,1,1.0,100,70\n"
    "Two,X,validation,2,0.5,60,57\nTwo,X,validation,2,1.0,100,90\n",
    "block_inputs.csv": "network,data_set,block,input_shape,float32_bytes\nTwo,X,1,3x8,96\n"
    "Two,X,2,3x9,108\n",
    "serialisation.csv": "machine,bytes,serialise_ms,deserialise_ms\n"
    + "".join(f"{m},1000,1,2\n" for m in MACHINES),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_command_says_the_plan_of_every_network(folder, capsys):
    assert main(["--data", str(folder), "--networks", "Two", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["Two"]
    assert found["Two"]["tiers"] == [[0, 1, 2]]
    assert found["Two"]["latency_ms"] == pytest.approx(2.0)
    assert main(["--data", str(folder), "--networks", "Two", "--time"]) == 0
    assert "times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("partitions.csv", "Two,X,1,1,1,3", "Two,X,1,1,x,3", "field 'latency_ms': found x"),
        ("partitions.csv", "a1.medium,Two,X,2,2,1,3\n", "", "found nothing for blocks 2 to 2"),
        ("partitions.csv", "machine,", "node,", "line 1: found node, network"),
        ("exits.csv", ",40,38", ",40,48", "field 'right_of_those': found 48 of 40"),
        ("exits.csv", ",40,38", ",40", "line 2: found another number of fields"),
        ("block_inputs.csv", "Two,X,2", "Two,X,7", "field 'block': found none of number 2 of Two"),
    ],
)
def test_tables_that_mean_nothing_are_one_line(folder, capsys, name, old, new, said):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(folder), "--networks", "Two"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--networks", "Three"], "--networks: found 'Three', expected some of Two"),
        (["--networks", "Two", "--part", "test"], "--part: found 'test', expected validation"),
        (["--networks", "Two", "--points", "-1"], "--points: found -1"),
    ],
)
def test_options_that_mean_nothing_are_one_line(folder, capsys, more, said):
    with pytest.raises(SystemExit):
        main(["--data", str(folder), *more])
    assert said in capsys.readouterr().err


@pytest.mark.skipif(
    data_directory() is None or not (data_directory() / "portend").is_dir(),
    reason="PORTEND's tables are not there",
)
def test_the_published_tables():
    networks = read_networks(data_directory() / "portend")
    assert networks["ResNet110"].blocks == 55
    # VGGish's rows are numbered from 0: its fourth block takes 256 x 12 x 8 of ten windows
    assert networks["VGGish"].input_bytes[4] == 983_040
    for name in ("ResNet20", "EfficientNetB0", "VGGish"):
        network = networks[name]
        costs = Costs(
            network, network.exits["validation"], Platform(),
            read_serialisation(data_directory() / "portend"),
        )  # fmt: skip
        floor = whole_accuracy(costs) - 0.02
        assert best_plan(costs, floor).predicted.latency_ms == pytest.approx(
            exhaustive(costs, floor).predicted.latency_ms
        )
