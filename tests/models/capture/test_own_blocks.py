"""Blocks of the trunk that an exit has a copy of."""

import pytest
import torch
from torch import nn

from models.capture.exits import WithExits, candidate_points, default_head
from models.capture.export import capture
from models.capture.lower import lower
from models.capture.own_blocks import LEARNING_SHARE, OwnBlocks, block_starts, blocks_before
from models.networks.training import TrainingArgs, _groups


class Block(nn.Module):
    def __init__(self, ins, outs):
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outs)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(Block(3, 4), Block(4, 6), Block(6, 8))
        self.end = nn.Linear(8, 3)

    def forward(self, x):
        return self.end(self.blocks(x).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def module():
    return Net().eval()


@pytest.fixture(scope="module")
def model(module):
    return capture(module, torch.zeros(2, 3, 16, 16), "net")


def place(model, name):
    return next(p for p in candidate_points(model) if p.crossings[0].name == name)


def test_blocks_are_the_numbered_parts(model):
    starts = block_starts(model)
    assert len(starts) == 4  # three blocks and the end
    operators = [model.operations[at].operator for at in starts]
    assert [("conv" in o or "linear" in o) for o in operators] == [True] * 4


def test_an_exit_leaves_the_trunk_before_its_blocks(model):
    last, middle = place(model, "relu_2"), place(model, "relu_1")
    assert [c.crossings[0].name for c in blocks_before(model, (last,), 1)] == ["relu_1"]
    assert [c.crossings[0].name for c in blocks_before(model, (last,), 2)] == ["relu"]
    # nothing is before the first block but the input, where no exit hangs
    assert blocks_before(model, (last,), 3) == (last,)
    assert blocks_before(model, (last,), 0) == (last,)
    # two exits never leave at one place
    found = blocks_before(model, (middle, last), 1)
    assert [c.crossings[0].name for c in found] == ["relu", "relu_1"]


def test_a_copy_gives_what_the_blocks_give_and_is_trained_alone(module, model):
    leave, point = place(model, "relu"), place(model, "relu_2")
    own = OwnBlocks(model, leave, point)
    whole = WithExits(model, (leave,), [nn.Sequential(own, default_head(point.crossings[0], 3))])
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        tensors = model.run(0, leave.at, {model.input.name: x})
        right = model.run(leave.at, point.at, tensors)["relu_2"]
        assert torch.equal(own(tensors["relu"]), right)
        before = module(x)
    optimiser = torch.optim.SGD(_groups(whole, TrainingArgs(learning_rate=1.0)), lr=1.0)
    assert sorted(group["lr"] for group in optimiser.param_groups) == [LEARNING_SHARE, 1.0]
    whole.train()
    whole(x)[0].square().sum().backward()
    optimiser.step()
    whole.eval()
    with torch.no_grad():
        assert not torch.equal(own(tensors["relu"]), right)
        assert torch.equal(whole(x)[-1], before)
    spec, _ = lower(whole, torch.zeros(2, 3, 16, 16), "net", samples=x)
    # the copies belong to the exit's head: it leaves the trunk before them
    assert spec.exits[0].after < len(spec.trunk)
    assert sum(layer.segment.multiply_adds for layer in spec.exits[0].head) > 6 * 8 * 9 * 4
