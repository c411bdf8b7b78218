"""Exits put into a model: where they go, what is trained, and that the model stays what it was."""

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import UsageError
from models.capture.cost import measure_costs
from models.capture.exits import (
    Probe,
    WithExits,
    candidate_points,
    default_head,
    pareto_points,
    probe_points,
)
from models.capture.export import capture
from models.capture.graph import Crossing
from models.capture.heads import head_of_kind
from models.capture.lower import lower
from models.capture.placement import linear_marks, marked_points
from models.data.datasets import Pictures
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.training import TrainingArgs, train
from models.networks.training_data import SmallPictures


class Trunk(nn.Module):
    def __init__(self, classes):
        super().__init__()
        network = BranchyMobileNetV2(classes=classes, width=0.25)
        self.blocks, self.end = nn.Sequential(*network.blocks), network.end
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # untrained statistics must not swallow the signal
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        return self.end(self.blocks(x))


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Trunk(2).eval()


@pytest.fixture(scope="module")
def model(module):
    return capture(module, torch.randn(2, 3, 32, 32), "trunk")


@pytest.fixture(scope="module")
def costs(model):
    return measure_costs(model, torch.randn(1, 3, 32, 32), repeats=2)


@pytest.fixture(scope="module")
def pictures():
    """Two classes anyone can tell apart: bright and dark."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 96).astype(np.uint8)
    x = rng.integers(0, 90, (96, 32, 32, 3)) + 150 * y[:, None, None, None]
    return Pictures(x.astype(np.uint8), y)


def test_costs_are_those_of_the_layers(module, model, costs):
    first = next(k for k, o in enumerate(model.operations) if "conv2d" in o.operator)
    assert costs.multiply_adds[first] == 8 * 3 * 3 * 3 * 16 * 16
    parameters = sum(p.numel() for p in module.parameters())
    buffers = sum(b.numel() for n, b in module.named_buffers() if "tracked" not in n)
    assert costs.parameter_bytes.sum() == 4 * (parameters + buffers)
    assert costs.share_before(0) == 0
    assert costs.share_before(len(model)) == pytest.approx(1)
    assert costs.peak_bytes(0, len(model)) >= 4 * 3 * 32 * 32
    assert (costs.seconds > 0).all()


def linear_points(model, costs, count):
    return tuple(placed.cut for placed in marked_points(model, costs, linear_marks(count)))


def test_linear_marks_take_the_nearest_places(model, costs):
    points = linear_points(model, costs, 3)
    shares = [costs.share_before(p.at) for p in points]
    candidates = [costs.share_before(p.at) for p in candidate_points(model)]
    for share, wanted in zip(shares, (0.25, 0.5, 0.75), strict=True):
        assert abs(share - wanted) == pytest.approx(min(abs(c - wanted) for c in candidates))
    with pytest.raises(UsageError, match="found 0, expected 1 to"):
        linear_points(model, costs, 0)


def test_the_last_exit_is_the_model_to_the_last_bit(module, model, costs, pictures, tmp_path):
    torch.manual_seed(1)
    network = WithExits(model, linear_points(model, costs, 2))
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        before = module(x)
        assert torch.equal(network.eval()(x)[-1], before)
    args = TrainingArgs(
        epochs=6, batch=16, learning_rate=0.05, exit_weights=(1.0, 1.0, 0.0), cutout=0,
        bfloat16=False,
    )  # fmt: skip
    batches = SmallPictures(pictures, pictures, args.batch, args.seed, args.cutout)
    reports = []
    train(network, args, batches, tmp_path / "c.pt", reports.append)
    assert min(reports[-1].accuracies[:2]) > 0.9, "the heads learn"
    with torch.inference_mode():
        assert torch.equal(network.eval()(x)[-1], before), "the trunk does not"


def test_joint_training_moves_the_trunk(module, costs, pictures, tmp_path):
    torch.manual_seed(1)
    model = capture(Trunk(2).eval(), torch.randn(2, 3, 32, 32))
    x = torch.randn(5, 3, 32, 32)
    network = WithExits(model, linear_points(model, costs, 1), joint=True)
    with torch.inference_mode():
        before = network.eval()(x)[-1]
    args = TrainingArgs(epochs=1, batch=32, exit_weights=(1.0, 1.0), cutout=0, bfloat16=False)
    batches = SmallPictures(pictures, pictures, args.batch, args.seed, args.cutout)
    train(network, args, batches, tmp_path / "c.pt", lambda report: None)
    with torch.inference_mode():
        assert not torch.equal(network.eval()(x)[-1], before)


def test_probes_see_what_a_point_knows(model, costs, pictures):
    batches = SmallPictures(pictures, pictures, 32, 0, 0)
    points = linear_points(model, costs, 3)
    probes = probe_points(
        model, points, batches.epoch(0), batches.held_back(), lambda cut: costs.share_before(cut.at)
    )
    assert [p.cut for p in probes] == list(points)
    assert all(p.accuracy > 0.95 for p in probes[:2])
    assert probes[2].accuracy > 0.6, "an untrained trunk forgets on the way"
    assert [p.cost for p in probes] == sorted(p.cost for p in probes)


def test_the_front_leaves_out_what_is_dominated(model):
    cuts = candidate_points(model)[:6]
    figures = [(0.3, 1.0), (0.5, 2.0), (0.45, 3.0), (0.8, 4.0), (0.81, 9.0), (0.7, 10.0)]
    probes = [Probe(cut, a, c) for cut, (a, c) in zip(cuts, figures, strict=True)]
    front = [probes[k].cut for k in (0, 1, 3, 4)]
    assert list(pareto_points(probes, 9)) == front
    # one exit: the greatest area; two: what adds most to it
    assert list(pareto_points(probes, 1)) == [cuts[3]]
    assert list(pareto_points(probes, 2)) == [cuts[1], cuts[3]]


def test_a_model_without_an_inside_has_no_place_for_an_exit():
    class Colours(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    small = capture(Colours(), torch.randn(2, 3, 8, 8), "colours")
    with pytest.raises(UsageError, match="exits of 'colours': found 1, expected none"):
        linear_points(small, measure_costs(small, torch.randn(1, 3, 8, 8), repeats=1), 1)


def test_what_is_trained_jointly_is_a_copy(module, model, costs):
    weights = list(
        WithExits(model, linear_points(model, costs, 1), joint=True).trunk_weights.values()
    )
    kept = [parameter.clone() for parameter in module.parameters()]
    with torch.no_grad():
        for weight in weights:
            weight += 1.0
    assert all(torch.equal(a, b) for a, b in zip(kept, module.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(8, 12, 12), (8, 3, 3), (7, 16), (24,)])
def test_a_default_head_fits_what_crosses(shape):
    head = default_head(Crossing("x", shape, torch.float32), 5)
    assert head(torch.randn(4, *shape)).shape == (4, 5)


def test_heads_and_points_must_agree(model, costs):
    points = linear_points(model, costs, 2)
    with pytest.raises(UsageError, match="heads: found 1, expected 2"):
        WithExits(model, points, [nn.Identity()])
    with pytest.raises(UsageError, match="in order and apart"):
        WithExits(model, points[::-1])
    with pytest.raises(UsageError, match=r"found a tensor of shape \(\)"):
        default_head(Crossing("x", (), torch.float32), 5)


class PaddedResidual(nn.Module):
    """A block that widens by six, pads apart from its convolution, and adds what it began with."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.widen, self.back = nn.Conv2d(8, 48, 1), nn.Conv2d(48, 8, 1)
        self.pad, self.deep = nn.ZeroPad2d(1), nn.Conv2d(48, 48, 3, groups=48)
        self.end = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        inside = self.pad(self.widen(x).relu())
        return self.end((x + self.back(self.deep(inside).relu())).mean((2, 3)))


def test_every_place_for_an_exit_is_one_where_the_lowered_network_is_cut():
    """Padded, the wide tensor is ten times what is added to it; the padding goes when lowered."""
    module, example = PaddedResidual().eval(), torch.zeros(2, 3, 12, 12)
    model = capture(module, example)
    points = candidate_points(model)
    assert "pad" not in {point.crossings[0].name for point in points}
    heads = [head_of_kind("linear", point.crossings[0], 4) for point in points]
    spec, _ = lower(WithExits(model, points, heads).eval(), example, "padded")
    assert len(spec.exits) == len(points) + 1 >= 4
