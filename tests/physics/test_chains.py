"""Plans over two further nodes: all that are worth it are found, whatever they are compared by."""

import itertools

import numpy as np
import pytest

from artefacts import UsageError
from controller.physics import DEVICE_AND_EDGE, NodeLink, Topology
from controller.physics.accuracy import composed_accuracies, outcome_key, plan_quality
from controller.physics.building import build_table
from controller.physics.chains import chain_plans
from controller.plans import Hop, Plan
from controller.scenarios.profiles import load_profile
from models.codecs import codec_named
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes

NODES = ("device", "edge", "cloud")
TIERS = Topology(NODES, (NodeLink("device", "edge"), NodeLink("edge", "cloud", 2e7)))
CODECS = ("int8", "float32")


@pytest.fixture(scope="module")
def network():
    """AlexNet's spec, outcomes, and profiles of three machines, the middle one slow."""
    model = load_model("alexnet")
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    device, edge = (load_profile(name, model) for name in ("edgent-pi3", "edgent-pc"))
    return model.spec, outcomes, dict(zip(NODES, (device, edge.slowed(4.0), edge), strict=True))


def every_chain(spec, exit_, codecs):
    """All plans of an exit that end on the second node, by brute force."""
    length = len(spec.branches[exit_])
    for start, stop in itertools.combinations(range(1, length), 2):
        for one, two in itertools.product(codecs, repeat=2):
            yield Plan(exit_, (Hop("edge", start, stop, one), Hop("cloud", stop, length, two)))


def test_no_plan_that_is_left_out_is_better_in_anything(network):
    spec, outcomes, profiles = network
    found = chain_plans(spec, profiles, outcomes, TIERS, CODECS)
    assert all(len(plan.hops) == 2 for plan in found)
    exit_ = 2
    every = list(every_chain(spec, exit_, CODECS))
    table = build_table(spec, profiles, outcomes, every, topology=TIERS)
    mine = [plan for plan in found if plan.exit == exit_ and plan.hops[0].start > 0]
    kept = build_table(spec, profiles, outcomes, mine, topology=TIERS)
    assert set(mine) <= set(every)
    assert len(mine) < len(every) / 2
    for p, plan in enumerate(every):
        same = np.array([other.hops[0].start == plan.hops[0].start for other in mine])
        cheaper = (kept.costs <= table.costs[p] + 1e-9).all(axis=1)
        assert (same & cheaper & (kept.accuracy >= table.accuracy[p] - 1e-9)).any(), plan


def test_two_nodes_make_no_chain(network):
    spec, outcomes, profiles = network
    assert chain_plans(spec, profiles, outcomes, DEVICE_AND_EDGE, CODECS) == ()


def test_two_edges_side_by_side_make_none_either(network):
    spec, outcomes, profiles = network
    beside = Topology(NODES, (NodeLink("device", "edge"), NodeLink("device", "cloud", 1e6)))
    assert chain_plans(spec, profiles, outcomes, beside, CODECS) == ()


def test_what_each_codec_spoils_is_spoilt_by_both(network):
    spec, outcomes, _ = network
    exit_, length = 4, len(spec.branches[4])
    one, two = Hop("edge", 2, 5, "int8"), Hop("cloud", 5, length, "int8")
    whole = outcomes.quality_of(exit_)
    first, second = (outcomes.quality_of(exit_, h.codec, h.start) for h in (one, two))
    both = plan_quality(outcomes, Plan(exit_, (one, two)))
    right = whole == 1
    assert (both[right] == np.minimum(first, second)[right]).all()
    assert (both[~right] == np.maximum(first, second)[~right]).all()
    # one that changes nothing leaves what the other does
    exact = Hop("edge", 2, 5, "float32")
    assert (plan_quality(outcomes, Plan(exit_, (exact, two))) == second).all()
    with pytest.raises(UsageError, match="found a plan of two codecs"):
        outcome_key(Plan(exit_, (one, two)))


@pytest.mark.parametrize("graded", [False, True])
def test_accuracies_of_all_pairs_are_those_of_their_plans(network, graded):
    spec, outcomes, _ = network
    exit_, length = 3, len(spec.branches[3])
    if graded:  # what a judge says, between right and wrong
        rng = np.random.default_rng(0)
        drawn = rng.random((len(outcomes.keys), 300)).astype(np.float16)
        sure = outcomes.sure[:, :300]
        outcomes = type(outcomes)(outcomes.model_digest, "drawn", outcomes.keys, drawn, sure)
    crossings = [(codec_named(c), cut) for c in CODECS for cut in (2, 4)]
    found = composed_accuracies(outcomes, exit_, crossings, "policy")
    index = outcomes.half("policy")
    for i, (one, start) in enumerate(crossings):
        for j, (two, stop) in enumerate(crossings):
            if start < stop:
                hops = (Hop("edge", start, stop, one.name), Hop("cloud", stop, length, two.name))
                mean = plan_quality(outcomes, Plan(exit_, hops))[index].mean(dtype=np.float64)
                assert found[i, j] == pytest.approx(mean, abs=2e-6)
