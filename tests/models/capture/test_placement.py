"""Marks on the compute, limits, and what is said of places."""

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import UsageError
from models.capture.cost import Costs
from models.capture.exits import Probe, candidate_points, pareto_points
from models.capture.export import capture
from models.capture.placement import linear_marks, marked_points, pareto_marks, probed, within


@pytest.fixture(scope="module")
def model():
    layers = [layer for _ in range(5) for layer in (nn.Linear(4, 4), nn.ReLU())]
    return capture(nn.Sequential(*layers, nn.Linear(4, 3)).eval(), torch.zeros(2, 4), "chain")


@pytest.fixture(scope="module")
def costs(model):
    adds = np.array([16.0 if "linear" in o.operator else 0.0 for o in model.operations])
    return Costs(adds, np.ones(len(model)), np.ones(len(model)), np.ones(len(model)))


def test_marks_are_those_of_both_readings():
    assert linear_marks(3) == (0.25, 0.5, 0.75)
    assert pareto_marks(3) == pytest.approx((0.2, 0.36, 0.488))


def test_a_mark_takes_the_nearest_place(model, costs):
    placed = marked_points(model, costs, linear_marks(2))
    # six layers of equal compute: two and four of them stand before the marks
    assert [round(costs.share_before(p.cut.at) * 6) for p in placed] == [2, 4]
    assert placed[0].why == "33.3 % of the compute is before it, the mark is 33.3 %"
    # an activation costs nothing and helps a head: the exit stands behind it
    assert all("relu" in p.cut.crossings[0].name for p in placed)


def test_marks_are_shares_of_what_a_limit_allows(model, costs):
    allowed = tuple(p for p in candidate_points(model) if costs.share_before(p.at) <= 0.5)
    placed = marked_points(model, costs, linear_marks(2), allowed)
    assert [round(costs.share_before(p.cut.at) * 6) for p in placed] == [1, 2]
    with pytest.raises(UsageError, match="exits of 'chain': found 40, expected 1 to"):
        marked_points(model, costs, linear_marks(40))


def test_limits_leave_places_out(model):
    points = candidate_points(model)
    kept = within(model, points, lambda cut: float(cut.at), 3.0, "the limit: {:g} s")
    assert [p.at for p in kept] == [p.at for p in points if p.at <= 3]
    with pytest.raises(UsageError, match="the limit: 0.5 s: found no place .* at least 1 s"):
        within(model, points, lambda cut: float(cut.at), 0.5, "the limit: {:g} s")


def test_a_probed_place_says_what_its_probe_found(model):
    cut = candidate_points(model)[0]
    [placed] = probed((cut,), [Probe(cut, 0.625, 0.02)], "on the front", "{:g} s")
    assert placed.why == "on the front: a linear probe is right 62.5 % for 0.02 s"


@pytest.fixture(scope="module")
def top_heavy(model):
    """The first layer has nearly all of the compute: every later place is as dear as the end."""
    adds = np.zeros(len(model))
    linear = [k for k, o in enumerate(model.operations) if "linear" in o.operator]
    adds[linear] = 1.0
    adds[linear[1]] = 100.0
    return Costs(adds, np.ones(len(model)), np.ones(len(model)), np.ones(len(model)))


def test_a_place_as_dear_as_the_end_is_no_exit_of_ours(model, top_heavy):
    points = candidate_points(model)
    placed = marked_points(model, top_heavy, linear_marks(5))
    assert placed
    assert all(top_heavy.share_before(p.cut.at) < 0.95 for p in placed)
    cheap = [p for p in points if top_heavy.share_before(p.at) < 0.95]
    assert len(placed) == min(5, len(cheap))
    dear = tuple(p for p in points if top_heavy.share_before(p.at) >= 0.95)
    assert marked_points(model, top_heavy, linear_marks(2), dear) == ()


def test_a_front_leaves_out_what_costs_as_much_as_the_network(model):
    points = candidate_points(model)[:4]
    found = [(0.5, 1.0), (0.6, 5.0), (0.9, 9.49), (0.95, 9.5)]
    probes = [Probe(cut, a, c) for cut, (a, c) in zip(points, found, strict=True)]
    assert pareto_points(probes, 9, 10.0) == points[:3]
    assert pareto_points(probes, 9) == points  # nobody has said what the network costs
    assert pareto_points(probes, 9, 1.0) == points  # all are as dear: the profile says more
