"""The kind of an exit's head is measured, and priced by its time."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from models.capture.export import capture
from models.capture.heads import head_of_kind
from models.data.datasets import Pictures
from models.facts.preprocessing import PictureInput
from models.networks import training
from models.networks.brought import exit_placement
from models.networks.brought.brought_module import BroughtModule, Listener, ProfileArgs, SampleUses
from models.networks.brought.exits.exit_goals import ClassGoal
from models.networks.brought.exits.head_choice import Candidate, choose, said
from models.networks.checkpoints import save_checkpoint
from models.networks.training_data import Prepared

PLAIN = Prepared(PictureInput())


def test_a_share_of_the_networks_time_must_buy_as_much_accuracy():
    quick, middle, slow = (
        Candidate("linear", 0.60, 0.001), Candidate("attention", 0.68, 0.003),
        Candidate("deep", 0.75, 0.012),
    )  # fmt: skip
    # 0.59, 0.65 and 0.63 of a network that takes 0.1 s; in one ten times slower the best answers
    assert choose([quick, middle, slow], 0.1) == 1
    assert choose([quick, middle, slow], 1.0) == 2
    assert choose([quick, middle, slow], 0.02) == 0
    assert choose([middle, Candidate("conv", 0.68, 0.003)], 0.1) == 0
    line = said([quick, slow], 1, 1.0)
    assert (
        line == "head deep of: linear 60.0 % for 0.1 % of its time, deep 75.0 % for 1.2 % of "
        "its time"
    )


def test_a_kind_that_is_hardly_ever_right_is_not_chosen_for_its_speed():
    """As of boxes: one kind finds none so soon, the other takes longer than the network."""
    none, some = Candidate("queries", 0.0, 0.013), Candidate("grid", 0.216, 0.171)
    assert choose([some, none], 0.1) == 0
    assert choose([none, some], 0.1) == 1
    assert choose([none, Candidate("grid", 0.0, 0.171)], 0.1) == 0


@pytest.fixture(scope="module")
def brought():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    ).eval()  # fmt: skip
    captured = capture(module, torch.zeros(2, 3, 16, 16), "small")
    return BroughtModule("small", module, captured, PLAIN, ClassGoal(2))


@pytest.fixture(scope="module")
def lesson():
    """Stripes that lie and stripes that stand: no mean over a picture tells them apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    lying = (np.arange(16)[:, None, None] % 2) * np.ones((16, 16, 3), dtype=int)
    stripes = np.where(y[:, None, None, None] == 0, lying, lying.transpose(1, 0, 2))
    x = 60 + 120 * stripes + rng.integers(0, 30, (400, 16, 16, 3))
    return SampleUses.of(Pictures(x.astype(np.uint8), y.astype(np.uint8)), 0, True)


def listener(stages, epochs):
    return Listener(stages.append, lambda done, total: None, epochs.append)


def test_the_head_that_does_best_is_found_and_kept(brought, lesson, tmp_path, monkeypatch):
    stages, epochs = [], []
    args = ProfileArgs(exit_after=("relu",), epochs=12)
    # the price of a head is a matter of the machine: here of accuracy alone
    monkeypatch.setattr("models.networks.brought.exits.head_choice.head_seconds", lambda *args: 0.0)
    heard, saved = listener(stages, epochs), []

    def noted(path, *rest):
        saved.append(path.name)
        save_checkpoint(path, *rest)

    monkeypatch.setattr(training, "save_checkpoint", noted)
    _, whole = exit_placement.with_exits(tmp_path, brought, lesson, args, heard, None)
    assert "kinds of heads" in stages
    [why] = exit_placement.read_reasons(tmp_path)
    chosen, shares = re.fullmatch(r"it was named; head (\w+) of: (.*)", why).groups()
    found = dict(re.findall(r"(\w+) ([\d.]+) %", shares.replace("of its time", "")))
    measured = {kind: float(found[kind]) for kind in ("linear", "conv", "deep", "attention")}
    assert measured[chosen] == max(measured.values()) > 80.0
    crossing = whole.points[0].crossings[0]
    assert repr(whole.heads[0]) == repr(head_of_kind(chosen, crossing, 2))
    # what is only compared is not gone on with: checkpoints are of the 12 epochs that train
    assert saved == ["checkpoint.pt"] * 12
    # a run that was interrupted does not choose again
    again: list[str] = []
    exit_placement.with_exits(tmp_path, brought, lesson, args, listener(again, epochs), None)
    assert "kinds of heads" not in again


def test_a_kind_can_be_given_and_exits_have_blocks_of_their_own(brought, lesson, tmp_path):
    args = ProfileArgs(exit_after=("relu_1",), epochs=4, head_kind="linear", own_blocks=1)
    before = {name: value.clone() for name, value in brought.captured.constants.items()}
    points, whole = exit_placement.with_exits(
        tmp_path, brought, lesson, args, listener([], []), None
    )
    assert [p.crossings[0].name for p in points] == ["relu_1"]
    assert [p.crossings[0].name for p in whole.points] == ["relu"]
    assert exit_placement.read_reasons(tmp_path) == ("it was named; head linear, as given",)
    copied = list(whole.heads[0][0].weights)
    assert len(copied) == 2
    assert not any(torch.equal(w, v) for w in copied for v in before.values())
    assert all(torch.equal(brought.captured.constants[k], v) for k, v in before.items())


def test_five_exits_or_as_many_as_there_are_places(brought, lesson, tmp_path):
    args = ProfileArgs(exits=50, fewer=True, epochs=1, head_kind="linear", placement="pareto-marks")
    points, whole = exit_placement.with_exits(
        tmp_path, brought, lesson, args, listener([], []), None
    )
    assert 1 < len(points) < 50
    assert len(whole.heads) == len(points)
    assert all("the mark is" in why for why in exit_placement.read_reasons(tmp_path))


def test_pictures_that_only_train(lesson):
    pictures = Pictures(lesson.judged.x, lesson.judged.y)
    more = Pictures(lesson.known.x, lesson.known.y)
    used = SampleUses.of(pictures, 0, True, more)
    assert len(used.judged) == len(pictures) // 2
    assert len(used.known) + len(used.held) == len(pictures) - len(pictures) // 2 + len(more)
