"""What the frozen trunk gives the exits' heads is computed once, and is what it gives each time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.capture.exits import WithExits, candidate_points
from models.capture.export import capture
from models.data.datasets import Pictures
from models.facts.preprocessing import PictureInput
from models.networks.brought import exit_placement
from models.networks.brought.brought_module import BroughtModule, Listener, ProfileArgs, SampleUses
from models.networks.brought.exits import trunk_features
from models.networks.brought.exits.exit_goals import ClassGoal
from models.networks.brought.exits.trunk_features import (
    HeadsAlone,
    KeptFeatures,
    augmentations_that_fit,
)
from models.networks.training_data import Prepared, SmallPictures

PLAIN = Prepared(PictureInput())


@pytest.fixture(scope="module")
def captured():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    return module, capture(module, torch.zeros(2, 3, 16, 16), "small")


@pytest.fixture
def whole(captured):
    model = captured[1]
    points = [p for p in candidate_points(model) if p.crossings[0].name in ("relu", "relu_1")]
    return WithExits(model, points).eval()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = rng.integers(0, 80, (90, 16, 16, 3)) + 60 * y[:, None, None, None]
    pictures = Pictures(x.astype(np.uint8), y.astype(np.uint8))
    known, held = pictures.take(np.arange(70)), pictures.take(np.arange(70, 90))
    return SmallPictures(known, held, 32, 4, 0, PLAIN)


def test_rows_are_what_the_trunk_gives(whole, data, tmp_path):
    kept, alone = KeptFeatures(whole, data, tmp_path, 2), HeadsAlone(whole).eval()
    with torch.no_grad():
        for (rows, labels), (x, y) in zip(kept.held_back(), data.held_back(), strict=True):
            assert torch.equal(labels, y)
            for ours, theirs in zip(alone(rows), whole(x), strict=True):
                assert torch.allclose(ours, theirs, atol=1e-5)


def test_an_epoch_is_a_view_in_an_order_of_its_own(whole, data, tmp_path):
    kept = KeptFeatures(whole, data, tmp_path, 2)
    assert kept.steps == data.steps == 3

    def listed(batches):
        """Label and first values of every sample, in one order for all."""
        return sorted(
            (int(y), *(round(float(v), 4) for v in row[:3]))
            for rows, labels in batches
            for row, y in zip(rows, labels, strict=True)
        )

    by_trunk = [
        [(next(kept._features(x)), y) for x, y in data.epoch(augmentation)]
        for augmentation in range(2)
    ]
    for epoch in range(4):
        assert listed(kept.epoch(epoch)) == listed(by_trunk[epoch % 2])
    assert listed(by_trunk[0]) != listed(by_trunk[1])
    orders = [torch.cat([y for _, y in kept.epoch(epoch)]).tolist() for epoch in (0, 2)]
    assert orders[0] != orders[1]
    assert orders[0] == torch.cat([y for _, y in kept.epoch(0)]).tolist()


def test_what_does_not_fit_is_not_kept(whole, data, tmp_path, monkeypatch):
    assert augmentations_that_fit(whole, data, 15, tmp_path) == 3
    assert augmentations_that_fit(whole, data, 1, tmp_path) == 1
    row = 4 * (6 * 8 * 8 + 8 * 4 * 4 + 3)
    monkeypatch.setattr(trunk_features, "MOST_BYTES", row * (20 + 2 * 70))
    assert augmentations_that_fit(whole, data, 15, tmp_path) == 2
    monkeypatch.setattr(trunk_features, "MOST_BYTES", row * 89)
    assert augmentations_that_fit(whole, data, 15, tmp_path) == 0


@pytest.mark.parametrize("most_bytes", [0, 2**30])
def test_heads_are_trained_with_and_without_the_file(captured, tmp_path, monkeypatch, most_bytes):
    monkeypatch.setattr(trunk_features, "MOST_BYTES", most_bytes)
    module, model = captured
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 240)
    x = rng.integers(0, 80, (240, 16, 16, 3)) + 60 * y[:, None, None, None]
    lesson = SampleUses.of(Pictures(x.astype(np.uint8), y.astype(np.uint8)), 0, True)
    reports = []
    listener = Listener(lambda stage: None, lambda done, total: None, reports.append)
    brought = BroughtModule("small", module, model, PLAIN, ClassGoal(3))
    args = ProfileArgs(exit_after=("relu",), epochs=40)
    _, whole = exit_placement.with_exits(tmp_path, brought, lesson, args, listener, None)
    assert 10 < len(reports) <= 40
    assert {len(r.accuracies) for r in reports} == {2}
    assert max(r.accuracies[0] for r in reports) > 0.9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "exits.json"]
    # the run is at its end: nothing is left to train, and the trunk is not run
    again = replace(listener, epoch=lambda now: pytest.fail("it was trained already"))
    _, resumed = exit_placement.with_exits(tmp_path, brought, lesson, args, again, None)
    with torch.no_grad():
        sample = PLAIN.apply(lesson.held.x)
        assert torch.equal(resumed.eval()(sample)[0], whole.eval()(sample)[0])
