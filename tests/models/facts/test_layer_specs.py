from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from models.facts.alexnet import alexnet
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec
from models.networks.network import layer_module


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["conv", "pool"]),
    channels=st.integers(1, 5),
    side=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    kernel=st.integers(2, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
)
def test_shapes_and_parameters_are_torchs(kind, channels, side, kernel, stride, padding):
    layer = LayerSpec("x", kind, channels=7, kernel=kernel, stride=stride, padding=padding)
    shape = (channels, *side)
    module = layer_module(layer, shape)
    output = module(torch.zeros(1, *shape))
    assert tuple(output.shape[1:]) == layer.output_shape(shape)
    assert layer.parameter_bytes(shape) == 4 * sum(p.numel() for p in module.parameters())


def test_multiply_adds_by_hand():
    conv = LayerSpec("c", "conv", channels=32, kernel=5, padding=2)
    assert conv.multiply_adds((3, 32, 32)) == 5 * 5 * 3 * 32 * 32 * 32
    assert LayerSpec("f", "fc", channels=10).multiply_adds((64, 4, 4)) == 10_240
    assert LayerSpec("r", "relu").multiply_adds((64, 4, 4)) == 0


def test_a_conv_after_a_fc_names_the_layer():
    with pytest.raises(UsageError, match=r"layer 'c' \(conv\): found an input of shape \(10,\)"):
        LayerSpec("c", "conv", channels=1, kernel=1).output_shape((10,))


@pytest.mark.parametrize(("kernel", "stride"), [(0, 1), (3, 0), (9, 1)])
def test_windows_that_do_not_fit_are_refused(kernel, stride):
    layer = LayerSpec("p", "pool", kernel=kernel, stride=stride)
    with pytest.raises(UsageError, match=f"a window of {kernel} at stride {stride} over 4"):
        layer.output_shape((1, 4, 4))


def test_alexnets_branches_are_the_papers():
    spec = alexnet()
    assert [len(branch) for branch in spec.branches] == [12, 16, 19, 20, 22]
    assert [e.after for e in spec.exits] == [4, 8, 10, 12, 22]
    assert " ".join(x.kind for x in spec.trunk) == (
        "conv relu pool lrn conv relu pool lrn conv relu conv relu conv relu pool "
        "fc relu dropout fc relu dropout fc"
    )
    filters = [(x.channels, x.kernel) for x in spec.trunk if x.kind == "conv"]
    assert filters == [(32, 5), (64, 5), (96, 3), (96, 3), (64, 3)]
    assert [x.channels for x in spec.trunk if x.kind == "fc"] == [256, 128, 10]
    assert {(x.size, x.alpha, x.beta) for x in spec.trunk if x.kind == "lrn"} == {(3, 5e-5, 0.75)}
    assert all(shapes[-1] == (10,) for shapes in spec.shapes)


def test_a_head_never_costs_more_than_the_trunk_it_skips_to_the_end():
    spec = alexnet()
    whole = _operations(spec, 4)
    costs = [_operations(spec, i) for i in range(5)]
    assert costs == sorted(costs)
    assert costs[3] < whole


def _operations(spec: BranchySpec, branch: int) -> int:
    pairs = zip(spec.branches[branch], spec.shapes[branch], strict=False)
    return sum(layer.multiply_adds(shape) for layer, shape in pairs)


RELU = LayerSpec("r", "relu")


@pytest.mark.parametrize(
    ("trunk", "exits", "message"),
    [
        ((RELU,), (), r"found exits after layers \[\]"),
        ((RELU,), (ExitSpec(0),), "the last after layer 1"),
        ((RELU, RELU), (ExitSpec(2),), "layer names are not unique"),
        ((RELU,), (ExitSpec(1), ExitSpec(0)), "expected them in order"),
    ],
)
def test_impossible_networks_are_refused(trunk, exits, message):
    with pytest.raises(UsageError, match=message):
        BranchySpec("n", (1, 2, 2), 4, trunk, exits)


def test_intervals_that_do_not_exist_are_refused():
    spec = alexnet()
    with pytest.raises(UsageError, match=r"exit 1: found layers \[3, 13\)"):
        spec.interval(0, 3, 13)
    with pytest.raises(UsageError, match="found exit 6, expected 1 to 5"):
        spec.interval(5, 0, 1)
