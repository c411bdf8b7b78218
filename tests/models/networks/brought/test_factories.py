"""A user's factory that does anything but give a module is one line."""

import pytest

from artefacts import UsageError
from models.networks.brought.factories import load_factory, load_head


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\ndef make():\n    sys.exit(3)\n", r"'make\(\)' failed: SystemExit: 3"),
        ("import sys\nsys.exit('no')\n", "importing 'odd_factory' failed: SystemExit: no"),
        ("def make():\n    raise KeyError('k')\n", r"'make\(\)' failed: KeyError: 'k'"),
        ("def make():\n    return 7\n", r"found a int, expected a torch\.nn\.Module"),
    ],
)
def test_what_a_factory_does_instead_is_reported(tmp_path, monkeypatch, body, said):
    (tmp_path / "odd_factory.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "odd_factory", raising=False)
    with pytest.raises(UsageError, match=said):
        load_factory("odd_factory:make")


HEADS = """
import torch
from torch import nn


class Asking(nn.Module):
    def __init__(self, values, classes):
        super().__init__()
        self.end = nn.Linear(values, classes)

    def forward(self, x):
        scores = self.end(x.flatten(1))
        return scores if bool(scores.sum() > 0) else -scores


def asking(shape, classes):
    return Asking(shape[0] * shape[1] * shape[2], classes)


def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
"""


@pytest.mark.slow
def test_a_head_that_cannot_be_lowered_is_refused_before_it_is_trained(tmp_path, monkeypatch):
    (tmp_path / "odd_heads.py").write_text(HEADS)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_head("odd_heads:plain")((4, 3, 3), 2) is not None
    with pytest.raises(UsageError, match=r"heads odd_heads:asking.*cannot be captured"):
        load_head("odd_heads:asking")((4, 3, 3), 2)
