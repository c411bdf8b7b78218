from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from artefacts import ArtefactError, UsageError
from models.datasets import Pictures, cifar10, hold_back
from models.networks.publishing import publish
from models.networks.training import Normalisation, TrainingArgs, augment, exit_accuracies, train
from models.outcomes import read_outcomes

ARGS = TrainingArgs(epochs=3, batch=16, exit_weights=(0.5, 1.0), cutout=0, bfloat16=False, seed=4)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Two classes anyone can tell apart: bright and dark."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160).astype(np.uint8)
    x = rng.integers(0, 90, (160, 8, 8, 3)) + 150 * y[:, None, None, None]
    return Pictures(x.astype(np.uint8), y)


def test_training_learns_what_can_be_learnt(tiny_spec, pictures, tmp_path):
    reports = []
    network = train(tiny_spec, ARGS, pictures, pictures, tmp_path / "c.pt", reports.append)
    assert [r.epoch for r in reports] == [1, 2, 3]
    assert reports[-1].loss < reports[0].loss
    assert min(reports[-1].accuracies) > 0.9
    again = exit_accuracies(network, Normalisation.of(pictures), pictures)
    assert again == reports[-1].accuracies


def test_an_interrupted_run_goes_on_bit_for_bit(tiny_spec, pictures, tmp_path):
    def stop_after_first(report):
        raise KeyboardInterrupt

    straight = train(tiny_spec, ARGS, pictures, pictures, tmp_path / "a.pt", lambda r: None)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_spec, ARGS, pictures, pictures, tmp_path / "b.pt", stop_after_first)
    reports = []
    resumed = train(tiny_spec, ARGS, pictures, pictures, tmp_path / "b.pt", reports.append)
    assert [r.epoch for r in reports] == [2, 3]
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused(tiny_spec, pictures, tmp_path):
    path = tmp_path / "c.pt"
    train(tiny_spec, replace(ARGS, epochs=1), pictures, pictures, path, lambda r: None)
    with pytest.raises(ArtefactError, match=r"c\.pt, field 'identity': found .*'epochs': 1") as e:
        train(tiny_spec, ARGS, pictures, pictures, path, lambda r: None)
    assert "'epochs': 3" in e.value.expected


def test_a_broken_checkpoint_is_refused(tiny_spec, pictures, tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ArtefactError, match="an unreadable file"):
        train(tiny_spec, ARGS, pictures, pictures, path, lambda r: None)


def test_one_weight_for_each_exit(tiny_spec, pictures, tmp_path):
    with pytest.raises(UsageError, match="exit weights: found 5, expected 2"):
        train(tiny_spec, TrainingArgs(), pictures, pictures, tmp_path / "c.pt", lambda r: None)


def test_publishing_writes_what_was_judged(tiny_spec, pictures, tmp_path):
    network = train(tiny_spec, ARGS, pictures, pictures, tmp_path / "c.pt", lambda r: None)
    expected = exit_accuracies(network, Normalisation.of(pictures), pictures)
    outcomes = publish(tmp_path / "out", network, ARGS, pictures, pictures, pictures)
    from models.cards import load_model

    model = load_model(tmp_path / "out")
    assert model.card.test_accuracies == pytest.approx(expected, abs=0.01)
    assert model.card.held_back_accuracies == pytest.approx(expected, abs=0.01)
    assert model.card.training["seed"] == 4
    again = read_outcomes(tmp_path / "out" / "outcomes.npz")
    assert again.model_digest == model.digest
    assert np.array_equal(again.right, outcomes.right)


def test_augmentation_keeps_type_and_follows_its_generator():
    x = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    one = augment(x, np.random.default_rng(9), cutout=8)
    two = augment(x, np.random.default_rng(9), cutout=8)
    other = augment(x, np.random.default_rng(10), cutout=8)
    assert one.shape == x.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert ((one == 128).all(axis=3).sum(axis=(1, 2)) >= 9).all()


def test_held_back_pictures_are_a_tenth_and_apart():
    x = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1).repeat(3, axis=3)
    pictures = Pictures(x, np.arange(200, dtype=np.uint8))
    rest, held = hold_back(pictures, seed=0)
    assert len(held) == 20
    assert sorted([*rest.y, *held.y]) == list(range(200))
    assert not np.array_equal(held.y, hold_back(pictures, seed=1)[1].y)


def test_missing_cifar_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="CIFAR-10: found no data folder, expected 'cifar10/'"):
        cifar10("test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 8, 8, 3), np.uint8), "y": np.zeros(2, np.uint8)}, "field 'x': found"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8)}, "expected arrays x and y"),
    ],
)
def test_a_wrong_picture_file_is_refused(arrays, message, tmp_path):
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", **arrays)
    with pytest.raises(ArtefactError, match=message):
        cifar10("test", tmp_path)
