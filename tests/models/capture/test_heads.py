"""Kinds of heads: which fit what, and that each gives scores."""

import pytest
import torch

from artefacts import UsageError
from models.capture.graph import Crossing
from models.capture.heads import HEAD_KINDS, AttentionPool, TokenPool, head_of_kind, kinds_for


def crossing(*shape):
    return Crossing("x", shape, torch.float32)


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ((8, 12, 10), ("linear", "conv", "deep", "attention")),
        ((8, 3, 3), ("linear", "conv", "deep", "attention")),
        ((7, 16), ("linear", "attention", "token")),
        ((24,), ("linear",)),
    ],
)
def test_every_kind_that_fits_gives_scores(shape, kinds):
    assert kinds_for(crossing(*shape)) == kinds
    for kind in kinds:
        head = head_of_kind(kind, crossing(*shape), 5)
        assert head(torch.randn(4, *shape)).shape == (4, 5)


def test_what_does_not_fit_is_one_line():
    with pytest.raises(UsageError, match="found 'token' for 'x' of shape \\(8, 3, 3\\)"):
        head_of_kind("token", crossing(8, 3, 3), 5)
    with pytest.raises(UsageError, match="found 'wide', expected auto, linear, conv"):
        head_of_kind("wide", crossing(8, 3, 3), 5)
    with pytest.raises(UsageError, match=r"found a tensor of shape \(1, 2, 3, 4\)"):
        kinds_for(crossing(1, 2, 3, 4))
    assert len(HEAD_KINDS) == 5


def test_an_attention_pool_is_a_weighted_mean_of_places():
    pool = AttentionPool((3, 2, 2), queries=2).eval()
    x = torch.randn(1, 3, 2, 2)
    with torch.no_grad():
        pool.weights.weight.zero_()
        pool.weights.bias.zero_()
        plain = pool.norm(x).mean(dim=(2, 3))[0]
        assert torch.allclose(pool(x)[0], torch.cat([plain, plain]), atol=1e-6)


def test_a_token_pool_has_the_first_token_and_the_mean():
    pool, x = TokenPool((4, 6)).eval(), torch.randn(2, 4, 6)
    with torch.no_grad():
        normed = pool.norm(x)
        assert torch.equal(pool(x)[:, :6], normed[:, 0])
        assert torch.allclose(pool(x)[:, 6:], normed.mean(1))
