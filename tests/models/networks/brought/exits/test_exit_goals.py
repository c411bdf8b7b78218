"""What exits learn whose answer is no class: losses, rows that begin as the network's, probes."""

import numpy as np
import pytest
import torch

from artefacts import UsageError
from models.capture.exits import candidate_points
from models.capture.export import capture
from models.capture.graph import Crossing
from models.facts.answers import BoxesAnswer, LabelsAnswer, TensorsAnswer, VectorAnswer
from models.facts.judges import default_judge, own_labels
from models.networks.brought.exits.exit_goals import ClassGoal, RowGoal
from models.networks.brought.exits.row_losses import RowLoss, own_loss

BOXES = BoxesAnswer(16)
KINDS = [LabelsAnswer(), VectorAnswer(), TensorsAnswer(()), BOXES, BoxesAnswer(16, "softmax")]


def goal(kind, own):
    return RowGoal(kind, default_judge(kind), own)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_a_loss_is_least_at_the_networks_own_rows(kind):
    torch.manual_seed(0)
    own = torch.randn(6, 16 * 6)
    own[:, : 16 * 4] = own[:, : 16 * 4].sigmoid()
    spread = own.std(0)
    least = own_loss(kind)(own, own, spread)
    for away in (0.05, 0.5):
        further = own_loss(kind)(own + away * torch.randn_like(own), own, spread)
        assert further > least
        least = further


def test_boxes_count_where_something_is():
    own = torch.zeros(1, 16 * 6)
    own[:, : 16 * 4] = 0.5
    own[:, 16 * 4 :] = -9.0
    own[0, 16 * 4 + 3 * 2] = 9.0  # the fourth query holds something
    loss, at, elsewhere = own_loss(BOXES), own.clone(), own.clone()
    at[0, 3 * 4] += 0.3
    elsewhere[0, 5 * 4] += 0.3
    spread = torch.ones(16 * 6)
    base = loss(own, own, spread)
    assert loss(at, own, spread) - base > 100 * (loss(elsewhere, own, spread) - base)


def test_labels_that_somebody_gave_are_learned_from_too():
    own, wrong = torch.tensor([[4.0, -4.0]]), torch.tensor([[0, 1]])
    loss = RowLoss(LabelsAnswer(), torch.ones(2))
    outputs = [torch.tensor([[4.0, -4.0]]), own]
    assert loss(outputs, wrong, (1.0, 1.0), distillation=1.0) < 0.1
    assert loss(outputs, wrong, (1.0, 1.0), distillation=0.0) > 3.0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_heads_begin_where_the_networks_own_rows_lie(kind):
    torch.manual_seed(0)
    own = 100.0 + 3.0 * torch.randn(50, 16 * 6)
    found = goal(kind, own)
    crossing = Crossing("x", (8, 12, 12), torch.float32)
    for name in found.kinds(crossing):
        rows = found.head(name, crossing).eval()(torch.randn(4, 8, 12, 12))
        assert rows.shape == (4, 16 * 6)
        assert 90.0 < float(rows.detach().mean()) < 110.0
    assert found.usual_head(crossing)(torch.randn(2, 8, 12, 12)).shape == (2, 16 * 6)


def test_quality_is_the_judges():
    own = torch.randn(8, 5)
    found = goal(VectorAnswer(), own)
    y = torch.from_numpy(own_labels(VectorAnswer(), own.numpy()))
    assert torch.allclose(found.marking.quality(own, y), torch.ones(8))
    assert found.marking.quality(-own, y).max() == 0.0
    assert ClassGoal(3).marking.quality(torch.eye(3), torch.arange(3)).tolist() == [1.0] * 3
    with pytest.raises(UsageError, match="found rows of shape"):
        goal(VectorAnswer(), own[:1])


class Cells(torch.nn.Module):
    """A box and a score a cell, linear in the cell; what comes before it is of no use there."""

    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(3, 12, 4, 4), torch.nn.Conv2d(12, 6, 1)

    def forward(self, x):
        cells = self.two(torch.relu(self.one(x))).flatten(2).transpose(1, 2)
        return torch.cat([cells[..., :4].sigmoid().flatten(1), 9 * cells[..., 4:].flatten(1)], 1)


def test_probes_of_boxes_see_what_a_cell_knows():
    torch.manual_seed(0)
    module = Cells().eval()
    model = capture(module, torch.randn(2, 3, 16, 16))
    x = torch.randn(200, 3, 16, 16)
    with torch.inference_mode():
        own = module(x)
    y = torch.from_numpy(own_labels(BOXES, own.numpy()))
    points = [p for p in candidate_points(model) if p.crossings[0].shape == (12, 4, 4)]
    batches = [(x[:150], y[:150])]
    probes = goal(BOXES, own).probes(model, points, batches, [(x[150:], y[150:])], lambda p: 1.0)
    assert max(p.accuracy for p in probes) > 0.9
    shuffled = [(x[150:], torch.from_numpy(np.roll(y[150:].numpy(), 1, axis=0)))]
    other = goal(BOXES, own).probes(model, points, batches, shuffled, lambda p: 1.0)
    assert max(p.accuracy for p in other) < max(p.accuracy for p in probes) - 0.1
