from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from artefacts import ArtefactError, UsageError
from models.data.datasets import Pictures, cifar10, hold_back, imagenette
from models.facts.outcomes import read_outcomes
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.network import BranchyNetwork
from models.networks.publishing import Origin, Signature, publish
from models.networks.training import TrainingArgs, exit_accuracies
from models.networks.training import train as train_network
from models.networks.training_data import (
    CameraPictures,
    Normalisation,
    SmallPictures,
    augment,
    plain_batches,
)

ARGS = TrainingArgs(epochs=3, batch=16, exit_weights=(0.5, 1.0), cutout=0, bfloat16=False, seed=4)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Two classes anyone can tell apart: bright and dark."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160).astype(np.uint8)
    x = rng.integers(0, 90, (160, 8, 8, 3)) + 150 * y[:, None, None, None]
    return Pictures(x.astype(np.uint8), y)


def train(spec, args, pictures, checkpoint, report):
    torch.manual_seed(args.seed)
    network = BranchyNetwork(spec, batch_norm=True)
    data = SmallPictures(pictures, pictures, args.batch, args.seed, args.cutout)
    train_network(network, args, data, checkpoint, report)
    return network


def held(pictures):
    return plain_batches(pictures, Normalisation.of(pictures))


def test_training_learns_what_can_be_learnt(tiny_spec, pictures, tmp_path):
    reports = []
    network = train(tiny_spec, ARGS, pictures, tmp_path / "c.pt", reports.append)
    assert [r.epoch for r in reports] == [1, 2, 3]
    assert reports[-1].loss < reports[0].loss
    assert min(reports[-1].accuracies) > 0.9
    again = exit_accuracies(network, held(pictures))
    assert again == reports[-1].accuracies


def test_an_interrupted_run_goes_on_bit_for_bit(tiny_spec, pictures, tmp_path):
    def stop_after_first(report):
        raise KeyboardInterrupt

    straight = train(tiny_spec, ARGS, pictures, tmp_path / "a.pt", lambda r: None)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_spec, ARGS, pictures, tmp_path / "b.pt", stop_after_first)
    reports = []
    resumed = train(tiny_spec, ARGS, pictures, tmp_path / "b.pt", reports.append)
    assert [r.epoch for r in reports] == [2, 3]
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused(tiny_spec, pictures, tmp_path):
    path = tmp_path / "c.pt"
    train(tiny_spec, replace(ARGS, epochs=1), pictures, path, lambda r: None)
    with pytest.raises(ArtefactError, match=r"c\.pt, field 'identity': found epochs 1,") as e:
        train(tiny_spec, ARGS, pictures, path, lambda r: None)
    assert e.value.expected.startswith("epochs 3 (")


def test_a_broken_checkpoint_is_refused(tiny_spec, pictures, tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ArtefactError, match="an unreadable file"):
        train(tiny_spec, ARGS, pictures, path, lambda r: None)


def test_one_weight_for_each_exit(tiny_spec, pictures, tmp_path):
    with pytest.raises(UsageError, match="exit weights: found 5, expected 2"):
        train(tiny_spec, TrainingArgs(), pictures, tmp_path / "c.pt", lambda r: None)


def test_publishing_writes_what_was_judged(tiny_spec, pictures, tmp_path):
    network = train(tiny_spec, ARGS, pictures, tmp_path / "c.pt", lambda r: None)
    expected = exit_accuracies(network, held(pictures))
    origin = Origin(tuple("abcdefghij"), "made up", "made up", {"seed": ARGS.seed})
    outcomes = publish(
        tmp_path / "out",
        network.spec,
        network.eval().folded_state(),
        origin,
        Signature(Normalisation.of(pictures).preprocessing),
        pictures,
        pictures,
        codecs=("int8", "int4c+zstd", "jpeg50"),
    )
    from models.facts.cards import load_model

    model = load_model(tmp_path / "out")
    assert model.card.test_accuracies == pytest.approx(expected, abs=0.01)
    assert model.card.held_back_accuracies == pytest.approx(expected, abs=0.01)
    assert model.card.training["seed"] == 4
    again = read_outcomes(tmp_path / "out" / "outcomes.npz")
    assert again.model_digest == model.digest
    assert np.array_equal(again.quality, outcomes.quality)
    assert again.logits.shape == (2, len(pictures), 10)
    assert set(model.ranges) == {x.name for x in tiny_spec.trunk[:-1]} | {
        "exit1.pool",
        "exit1.flat",
    }
    assert 0 < again.mean_bytes(0, "jpeg50", 0) < 3072
    assert again.mean_bytes(1, "int4c+zstd", 4) < 6 * 8 * 8
    held_back = read_outcomes(tmp_path / "out" / "held_back.npz")
    assert held_back.accuracy(1) == pytest.approx(expected[1], abs=0.01)


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


def camera_pictures():
    """Bright and dark again, larger."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(2, dtype=np.uint8), 12)
    x = rng.integers(0, 60, (24, 48, 48, 3)) + 190 * y[:, None, None, None]
    return Pictures(x.astype(np.uint8), y)


def test_an_epoch_of_camera_pictures_is_the_same_whatever_ran_before():
    pictures = camera_pictures()

    def data(seed):
        return CameraPictures(pictures, pictures, 8, seed, ((1, 16), (1, 24)))

    straight, resumed = data(3), data(3)
    run = {epoch: list(straight.epoch(epoch)) for epoch in range(3)}
    for epoch in (1, 2):  # as a run that takes up a checkpoint of one epoch
        again = list(resumed.epoch(epoch))
        assert len(again) == straight.steps == 3
        for (x, y), (x2, y2) in zip(run[epoch], again, strict=True):
            assert torch.equal(x, x2)
            assert torch.equal(y, y2)
    classes = [torch.cat([y for _, y in run[epoch]]) for epoch in (1, 2)]
    assert not torch.equal(*classes), "every epoch has its own order"
    other = torch.cat([y for _, y in data(4).epoch(1)])
    assert not torch.equal(classes[0], other), "and every seed"


def test_an_interrupted_run_on_camera_pictures_goes_on_bit_for_bit(tiny_spec, tmp_path):
    pictures = camera_pictures()
    kept = Pictures(pictures.x[:, ::6, ::6], pictures.y)  # at the side the network takes
    args = replace(ARGS, batch=8, sizes=((1, 8), (2, 8)))

    def go(path, report):
        torch.manual_seed(args.seed)
        network = BranchyNetwork(tiny_spec, batch_norm=True)
        data = CameraPictures(pictures, kept, args.batch, args.seed, args.sizes)
        train_network(network, args, data, tmp_path / path, report)
        return network

    def stop_after_first(report):
        raise KeyboardInterrupt

    straight = go("a.pt", lambda r: None)
    with pytest.raises(KeyboardInterrupt):
        go("b.pt", stop_after_first)
    reports = []
    resumed = go("b.pt", reports.append)
    assert [r.epoch for r in reports] == [2, 3]
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_camera_network_is_trained_on_small_pictures_first(tmp_path):
    pictures = camera_pictures()
    args = TrainingArgs(
        epochs=3, batch=8, learning_rate=0.02, exit_weights=(1.0,) * 5, label_smoothing=0.1,
        decay_vectors=False, sizes=((1, 16), (1, 32)), bfloat16=False,
    )  # fmt: skip
    data = CameraPictures(pictures, pictures, args.batch, args.seed, args.sizes)
    assert [data.side(epoch) for epoch in range(4)] == [16, 32, 32, 32]
    (first, _), (again, _) = next(data.epoch(0)), next(data.epoch(0))
    assert tuple(first.shape) == (8, 3, 16, 16)
    assert torch.equal(first, again), "an epoch follows its seed"
    torch.manual_seed(0)
    network, reports = BranchyMobileNetV2(classes=2, width=0.25), []
    train_network(network, args, data, tmp_path / "c.pt", reports.append)
    assert [len(r.accuracies) for r in reports] == [5, 5, 5]
    assert reports[-1].loss < reports[0].loss


def test_missing_imagenette_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="Imagenette: found no data folder, expected 'imagenette/"):
        imagenette("val")


def jpeg(side):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("pictures", "offsets", "message"),
    [
        ([jpeg(144), b"no picture"], None, "field 'data, picture 1': found cannot identify"),
        ([jpeg(144), jpeg(100)], None, "picture 1': found 100x100 pixels, expected 144x144"),
        ([jpeg(144)] * 2, [0, 5], "field 'offsets': found 2 offsets up to 5, expected 3 rising"),
        (None, None, "field 'data': found nothing, expected an array"),
    ],
)
def test_a_wrong_imagenette_file_is_refused(pictures, offsets, message, tmp_path):
    (tmp_path / "imagenette").mkdir()
    arrays = {"labels": np.zeros(2, dtype=np.uint8)}
    if pictures is not None:
        ends = np.cumsum([0, *map(len, pictures)]) if offsets is None else np.array(offsets)
        arrays |= {"data": np.frombuffer(b"".join(pictures), dtype=np.uint8), "offsets": ends}
    np.savez(tmp_path / "imagenette" / "val-0.npz", **arrays)
    with pytest.raises(ArtefactError, match=message):
        imagenette("val", tmp_path)


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
        ({"x": np.zeros((2, 32, 32, 3), np.uint8)}, "field 'y': found nothing, expected an array"),
    ],
)
def test_a_wrong_picture_file_is_refused(arrays, message, tmp_path):
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", **arrays)
    with pytest.raises(ArtefactError, match=message):
        cifar10("test", tmp_path)
