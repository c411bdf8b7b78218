"""An author's confidence traced into a network: what runs without torch computes it."""

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import UsageError
from models.capture.confident import ConfidentRows, check_confidence, confident
from models.capture.lower import lower


class TwoExits(nn.Module):
    exit_count = 2

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 5)

    def forward(self, x):
        early = torch.relu(self.one(x))
        return [early, self.two(early)]


def margin(rows):
    """Not within 0 and 1 everywhere: what is beyond is brought there."""
    best = rows.topk(2, dim=1).values
    return 3.0 * (best[:, 0] - best[:, 1])


def test_every_exit_ends_with_it_in_the_network_itself():
    torch.manual_seed(0)
    module = TwoExits().eval()
    x = torch.randn(9, 6)
    whole = confident(module, margin, x)
    assert isinstance(whole, ConfidentRows)
    spec, _ = lower(whole, x[:2], "sure", samples=x)
    assert (len(spec.exits), spec.classes) == (2, 6)
    with torch.inference_mode():
        rows = module(x)
        found = whole(x)
    for bare, ended in zip(rows, found, strict=True):
        assert torch.equal(ended[:, :-1], bare)
        assert torch.allclose(ended[:, -1], margin(bare).clamp(0, 1))
    assert float(found[1][:, -1].min()) < 1.0


def test_a_function_that_computes_in_place_changes_no_row():
    def in_place(rows):
        return rows.mul_(0.1).sigmoid_().amax(1)

    torch.manual_seed(0)
    module = TwoExits().eval()
    x = torch.randn(4, 6)
    whole = confident(module, in_place, x)
    with torch.inference_mode():
        for bare, ended in zip(module(x), whole(x), strict=True):
            assert torch.equal(ended[:, :-1], bare)


def test_nothing_is_changed_where_none_is_given():
    module = TwoExits().eval()
    assert confident(module, None, torch.randn(2, 6)) is module


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (lambda rows: rows, r"found \(4, 5\) for rows \(4, 5\), expected a tensor \(4,\)"),
        (lambda rows: 0.5, "found float for rows"),
        (lambda rows: rows[:, 0] / 0.0, "not finite"),
        (lambda rows: rows.missing, "failed on rows .* AttributeError"),
    ],
)
def test_a_function_that_gives_none_is_refused(function, line):
    with pytest.raises(UsageError, match=line):
        check_confidence(function, torch.ones(4, 5))


def test_a_function_that_cannot_be_traced_is_refused():
    x = torch.randn(3, 6)
    whole = confident(TwoExits().eval(), lambda rows: torch.tensor(np.ones(len(rows))), x)
    with pytest.raises(UsageError) as error:
        lower(whole, x[:2], "sure")
    assert len(str(error.value).splitlines()) == 1
