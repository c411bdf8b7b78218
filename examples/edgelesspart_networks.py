"""The networks of docs/results/edgelesspart.md that are not shipped, for `coinfer profile`.

    cd examples
    python edgelesspart_networks.py     # trains the residual network, writes pictures
    coinfer profile --model edgelesspart_networks:resnet50_quarter ...
    coinfer profile --model edgelesspart_networks:efficientnet_lite0 ...

The page has the whole commands. `resnet50_quarter` has ResNet-50's 16 bottleneck blocks (He et al.,
CVPR 2016, table 1) with a quarter of its channels everywhere, so that it can be trained on one
core. `efficientnet_lite0` is pretrained on ImageNet (`models.networks.published`); of its scores
those of Imagenette's ten classes are left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.published import IMAGENETTE, efficientnet_lite0

__all__ = ["efficientnet_lite0", "resnet50_quarter"]

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4
SIZES = ((8, 64), (6, 48))
"""(epochs, pixels)."""
SIDE = 64
"""Pixels of the pictures that it is judged on."""
HELD = 100
"""Pictures that an epoch is judged on."""
WEIGHTS = Path("resnet50-quarter.pt")
"""Where `resnet50_quarter` finds what was trained."""


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution around a shortcut."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        made = EXPANSION * width
        self.body = nn.Sequential(
            nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, made, 1, bias=False), nn.BatchNorm2d(made),
        )  # fmt: skip
        same = stride == 1 and given == made
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)
            )
        self.end = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output (N, 4 x width, H / stride, W / stride)."""
        out: Tensor = self.end(self.body(x) + self.shortcut(x))
        return out


class ResNet50(nn.Module):
    """ResNet-50 of a given width (64 is the published one), for pictures (N, 3, H, W)."""

    def __init__(self, width: int, classes: int = len(IMAGENETTE)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        blocks, given = list[nn.Module](), width
        for stage, count in enumerate(BLOCKS):
            for number in range(count):
                own = width * 2**stage
                blocks.append(Bottleneck(given, own, 2 if stage and not number else 1))
                given = EXPANSION * own
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in blocks:
            # a block begins as its shortcut (Goyal et al. 2017, section 5.1)
            nn.init.zeros_(block.body[-1].weight)  # type: ignore[index, union-attr, arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes)."""
        scores: Tensor = self.head(self.blocks(self.stem(x)))
        return scores


class Training(nn.Module):
    """The network as coinfer's training takes it: one exit, its own end."""

    exit_count, identity = 1, "resnet50-quarter"

    def __init__(self, network: ResNet50) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """Scores of the only exit."""
        return [self.network(x)]


def resnet50_quarter() -> nn.Module:
    """The trained network of `WEIGHTS` in the working folder."""
    network = ResNet50(16)
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return network


def write_pictures(count: int = 2000) -> None:
    """Write so many validation pictures of Imagenette, all that train exits, and the classes."""
    from PIL import Image

    from models.data.datasets import hold_back, imagenette

    given = imagenette("val")
    some = given.take(np.sort(np.random.default_rng(0).permutation(len(given))[:count]))
    np.savez("imagenette-144.npz", x=some.x, y=some.y)
    known, _ = hold_back(imagenette("train"), 0)
    np.savez("imagenette-144-train.npz", x=known.x, y=known.y)
    small = [Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for x in some.x]
    np.savez("imagenette-64.npz", x=np.stack([np.asarray(x) for x in small]), y=some.y)
    Path("classes.txt").write_text("\n".join(IMAGENETTE.values()) + "\n")


def train_resnet50() -> None:
    """Train `resnet50_quarter` on Imagenette's training pictures; goes on where it was stopped."""
    from models.data.datasets import hold_back, imagenette
    from models.networks.training import TrainingArgs, train
    from models.networks.training_data import CameraPictures

    known, held = hold_back(imagenette("train"), 0)
    data = CameraPictures(known, held.take(np.arange(HELD)), 64, 0, SIZES)
    torch.manual_seed(0)
    network = Training(ResNet50(16))
    args = TrainingArgs(
        epochs=sum(count for count, _ in SIZES), batch=64, learning_rate=0.1, weight_decay=1e-4,
        exit_weights=(1.0,), cutout=0, sizes=SIZES,
    )  # fmt: skip
    train(network, args, data, WEIGHTS.with_suffix(".checkpoint.pt"), print)
    print(data.normalisation)
    torch.save(network.network.state_dict(), WEIGHTS)


if __name__ == "__main__":
    write_pictures()
    train_resnet50()
