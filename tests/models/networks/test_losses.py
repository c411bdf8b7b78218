"""The loss of a branchy network: labels, and the last exit's own answers."""

import pytest
import torch
from torch.nn import functional

from models.networks.losses import exit_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
OWN = torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
Y = torch.tensor([0, 1])


def test_without_distillation_it_is_the_weighted_cross_entropy():
    found = exit_loss([LOGITS, OWN], Y, (0.5, 1.0))
    right = 0.5 * functional.cross_entropy(LOGITS, Y) + functional.cross_entropy(OWN, Y)
    assert found == pytest.approx(float(right))


def test_an_exit_alone_with_the_networks_answers_moves_towards_them():
    logits = LOGITS.clone().requires_grad_()
    for _ in range(200):
        loss = exit_loss([logits, OWN], Y, (1.0, 0.0), distillation=1.0, temperature=2.0)
        [step] = torch.autograd.grad(loss, logits)
        logits = (logits - step).detach().requires_grad_()
    assert torch.allclose(logits.softmax(1), OWN.softmax(1), atol=1e-2)


def test_the_last_exit_does_not_learn_from_the_others():
    own = OWN.clone().requires_grad_()
    loss = exit_loss([LOGITS, own], Y, (1.0, 0.0), distillation=0.7)
    [step] = torch.autograd.grad(loss, own)
    assert torch.equal(step, torch.zeros_like(own))
