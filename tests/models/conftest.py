"""A network small enough to run thousands of times, with every kind of layer in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, Model, expected_shapes, load_model, model_digest, save_model
from models.facts.layers import LayerSpec
from models.facts.preprocessing import PictureInput


@pytest.fixture(scope="session")
def tiny_spec() -> BranchySpec:
    trunk = (
        LayerSpec("conv1", "conv", channels=6, kernel=3, padding=1),
        LayerSpec("relu1", "relu"),
        LayerSpec("lrn1", "lrn", size=3),
        LayerSpec("pool1", "pool", kernel=3, stride=2, padding=1),
        LayerSpec("conv2", "conv", channels=8, kernel=3, padding=1),
        LayerSpec("relu2", "relu"),
        LayerSpec("drop2", "dropout", rate=0.25),
        LayerSpec("fc3", "fc", channels=10),
    )
    head = (
        LayerSpec("exit1.pool", "pool", kernel=2, stride=2, pool_mode="avg"),
        LayerSpec("exit1.flat", "flatten"),
        LayerSpec("exit1.fc", "fc", channels=10),
    )
    return BranchySpec("tiny", (3, 8, 8), 10, trunk, (ExitSpec(3, head), ExitSpec(8)))


def card_of(spec: BranchySpec, digest: str) -> Card:
    return Card(
        format_version=2,
        name=spec.name,
        network=spec,
        digest=digest,
        classes=tuple(f"class {i}" for i in range(10)),
        dataset="made up",
        preprocessing=PictureInput((0.4912, 0.482, 0.4464), (0.2469, 0.2433, 0.2614)),
        training={"epochs": 0},
        held_back_accuracies=(),
        test_accuracies=(0.1, 0.2),
    )


@pytest.fixture
def tiny_folder(tiny_spec: BranchySpec, tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    state = {
        name: rng.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in expected_shapes(tiny_spec).items()
    }
    folder = tmp_path / "tiny"
    save_model(folder, state, card_of(tiny_spec, model_digest(tiny_spec, state)))
    return folder


@pytest.fixture
def tiny_model(tiny_folder: Path) -> Model:
    return load_model(tiny_folder)
