"""The grid detector: what its cells are to say, its loss, and training that is taken up again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from artefacts import ArtefactError
from experiments.learning import train_detector as command
from models.data.shapes import drawn_shapes
from models.facts.judges import NO_BOX
from models.networks.detector_training import (
    ANSWERS,
    WEIGHTS,
    DetectorArgs,
    assigned,
    detector_loss,
    detector_rows,
    load_detector,
    precision,
    train_detector,
    turned,
)
from models.networks.shape_detector import GRID, QUERIES, SIDE, ShapeDetector

TINY = DetectorArgs(epochs=2, pictures=16, batch=8, held=4, width=8, depth=1)


def ideal(labels):
    """Rows of boxes and scores that are what the labels say."""
    wanted, box, _ = assigned(labels, 3)
    return box, 20.0 * wanted - 10.0


def test_each_thing_is_found_by_the_cell_of_its_centre():
    drawn = drawn_shapes(30, np.random.default_rng(1), SIDE)
    labels = torch.from_numpy(drawn.y)
    box, scores = ideal(labels)
    rows = torch.cat([box.flatten(1), scores.flatten(1)], 1).numpy()
    found = [ANSWERS.detections(row) for row in rows]
    for one, own in zip(found, drawn.y, strict=True):
        own = own[own[:, 0] != NO_BOX]
        assert len(one.labels) <= len(own)
        for label, corners in zip(one.labels, one.boxes, strict=True):
            assert np.abs(own - np.array([label, *corners])).max(axis=1).min() < 1e-5
    lost = sum((y[:, 0] != NO_BOX).sum() for y in drawn.y) - sum(len(one.labels) for one in found)
    assert lost <= 2  # two in one cell


def test_the_loss_is_least_at_what_is_there():
    labels = torch.from_numpy(drawn_shapes(8, np.random.default_rng(1), SIDE).y)
    box, scores = ideal(labels)
    least = float(detector_loss(box, scores, labels))
    assert least < 0.05
    assert float(detector_loss((box + 0.05).clamp(0, 1), scores, labels)) > least + 0.1
    assert float(detector_loss(box, -scores, labels)) > least + 1.0


def test_pictures_and_boxes_are_turned_together():
    x = np.zeros((1, 8, 8, 3), np.uint8)
    x[0, 1:3, 4:8] = 255
    y = np.full((1, 2, 5), NO_BOX, np.float32)
    y[0, 0] = [2, 0.5, 0.125, 1.0, 0.375]
    ways = set()
    for seed in range(40):
        image, labels = turned(x, y, np.random.default_rng(seed))
        rows, columns = np.nonzero(image[0, ..., 0])
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 8
        assert np.allclose(labels[0, 0], [2, *box])
        assert (labels[0, 1] == NO_BOX).all()
        ways.add(tuple(box))
    assert len(ways) == 8


def test_a_detector_gives_boxes_within_reach_of_their_cells():
    torch.manual_seed(0)
    network = ShapeDetector(width=8, depth=1).eval()
    with torch.inference_mode():
        found = network(torch.randn(2, 3, SIDE, SIDE))
    assert found["boxes"].shape == (2, QUERIES, 4)
    assert found["scores"].shape == (2, QUERIES, 3)
    away = (found["boxes"][..., :2] - network.centres).abs()
    assert float(away.max()) <= 1.0 / GRID + 1e-6
    sizes = found["boxes"][..., 2:]
    assert float(sizes.min()) >= 0.0
    assert float(sizes.max()) <= 1.0


@pytest.mark.slow
def test_a_run_that_is_taken_up_again_ends_the_same(tmp_path):
    reports = []
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = train_detector(TINY, tmp_path / "a", reports.append)
    assert [r.epoch for r in reports] == [1, 2]

    def cut(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_detector(TINY, tmp_path / "b", cut)
    again = train_detector(TINY, tmp_path / "b", lambda report: None)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    loaded = load_detector(tmp_path / "b", width=8, depth=1)
    samples = drawn_shapes(3, np.random.default_rng(5), SIDE)
    assert np.array_equal(detector_rows(loaded, samples), detector_rows(whole, samples))
    assert precision(loaded, samples).shape == (3,)
    with pytest.raises(ArtefactError, match="expected weights of a detector of width 9"):
        load_detector(tmp_path / "b", width=9, depth=1)
    (tmp_path / "b" / WEIGHTS).write_bytes(b"none")
    with pytest.raises(ArtefactError, match="found what does not load"):
        load_detector(tmp_path / "b", width=8, depth=1)


@pytest.mark.slow
def test_the_command_leaves_what_profile_takes(tmp_path, capsys):
    out = tmp_path / "shapes"
    given = ["--out", str(out), "--epochs", "1", "--pictures", "32", "--width", "8", "--depth", "1"]
    assert command.main([*given, "--samples", "12"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert 0.0 <= made["mean_average_precision"] <= 1.0
    assert (out / "classes.txt").read_text().split() == ["circle", "square", "triangle"]
    kept = np.load(out / "shapes.npz")
    assert kept["x"].shape == (12, SIDE, SIDE, 3)
    assert kept["y"].shape[0] == 12
    scope: dict[str, object] = {"__file__": str(out / "detector.py")}
    exec((out / "detector.py").read_text(), scope)
    assert isinstance(scope["detector"](), ShapeDetector)
    with pytest.raises(SystemExit) as ended:
        command.main([*given, "--seed", "3"])
    assert ended.value.code == 2
    assert "checkpoint.pt" in capsys.readouterr().err
