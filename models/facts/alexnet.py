"""Edgent's branchy AlexNet for CIFAR-10 (Li et al., IEEE TWC 2020, section VI-A, figure 4).

The trunk is BranchyNet's AlexNet (Teerapittayanon et al., ICPR 2016): 22 layers, 32-64-96-96-64
filters of 5, 5, 3, 3, 3. The five branches have 12, 16, 19, 20 and 22 layers as in Edgent. The
paper does not print the heads; these are ours, chosen to be cheap beside the trunk they skip:
they first shrink the picture, then convolve, so that no head costs more than the next trunk block.
"""

from __future__ import annotations

from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec

CLASSES = 10
INPUT_SHAPE = (3, 32, 32)


def _conv(name: str, filters: int, kernel: int) -> LayerSpec:
    return LayerSpec(name, "conv", channels=filters, kernel=kernel, padding=kernel // 2)


def _relu(name: str) -> LayerSpec:
    return LayerSpec(name, "relu")


def _pool(name: str) -> LayerSpec:
    # 3x3 windows at stride 2, as in BranchyNet; padding keeps 32 -> 16 -> 8 -> 4
    return LayerSpec(name, "pool", kernel=3, stride=2, padding=1)


def _lrn(name: str) -> LayerSpec:
    return LayerSpec(name, "lrn", size=3, alpha=5e-5, beta=0.75)


def _fc(name: str, outputs: int) -> LayerSpec:
    return LayerSpec(name, "fc", channels=outputs)


def _drop(name: str, rate: float) -> LayerSpec:
    return LayerSpec(name, "dropout", rate=rate)


def alexnet() -> BranchySpec:
    """The branchy AlexNet: five exits after trunk layers 4, 8, 10, 12 and 22."""
    trunk = (
        _conv("conv1", 32, 5), _relu("relu1"), _pool("pool1"), _lrn("lrn1"),
        _conv("conv2", 64, 5), _relu("relu2"), _pool("pool2"), _lrn("lrn2"),
        _conv("conv3", 96, 3), _relu("relu3"),
        _conv("conv4", 96, 3), _relu("relu4"),
        _conv("conv5", 64, 3), _relu("relu5"), _pool("pool5"),
        _fc("fc6", 256), _relu("relu6"), _drop("drop6", 0.5),
        _fc("fc7", 128), _relu("relu7"), _drop("drop7", 0.5),
        _fc("fc8", CLASSES),
    )  # fmt: skip
    head1 = (
        _conv("exit1.conv1", 64, 3), _relu("exit1.relu1"), _pool("exit1.pool1"),
        _conv("exit1.conv2", 64, 3), _relu("exit1.relu2"), _pool("exit1.pool2"),
        _drop("exit1.drop", 0.25), _fc("exit1.fc", CLASSES),
    )  # fmt: skip
    head2 = (
        _conv("exit2.conv1", 64, 3), _relu("exit2.relu1"), _pool("exit2.pool1"),
        _fc("exit2.fc1", 128), _relu("exit2.relu2"), _lrn("exit2.lrn"),
        _drop("exit2.drop", 0.25), _fc("exit2.fc2", CLASSES),
    )  # fmt: skip
    head3 = (
        _conv("exit3.conv1", 64, 3), _relu("exit3.relu1"), _pool("exit3.pool1"), _lrn("exit3.lrn"),
        _drop("exit3.drop1", 0.25), _fc("exit3.fc1", 128), _relu("exit3.relu2"),
        _drop("exit3.drop2", 0.25), _fc("exit3.fc2", CLASSES),
    )  # fmt: skip
    head4 = (
        _conv("exit4.conv1", 64, 3), _relu("exit4.relu1"), _pool("exit4.pool1"),
        _drop("exit4.drop1", 0.25), _fc("exit4.fc1", 128), _relu("exit4.relu2"),
        _drop("exit4.drop2", 0.25), _fc("exit4.fc2", CLASSES),
    )  # fmt: skip
    return BranchySpec(
        name="alexnet",
        input_shape=INPUT_SHAPE,
        classes=CLASSES,
        trunk=trunk,
        exits=(
            ExitSpec(4, head1),
            ExitSpec(8, head2),
            ExitSpec(10, head3),
            ExitSpec(12, head4),
            ExitSpec(22),
        ),
    )
