"""Kinds of networks that capture is tried on: plain, with branches, of a library, taken apart."""

import pytest
import torch
from torch import nn

from models.facts.alexnet import alexnet
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.network import BranchyNetwork


class Part(nn.Module):
    """One output of a model that gives several."""

    def __init__(self, model, pick):
        super().__init__()
        self.model, self.pick = model, pick

    def forward(self, x):
        return self.pick(self.model(x))


class Inception(nn.Module):
    """Parallel branches of 1x1, 3x3, 5x5 and a pool, concatenated (Szegedy et al. 2015), twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([self._block(8), self._block(16)])
        self.end = nn.Linear(16, 5)

    @staticmethod
    def _block(inputs):
        return nn.ModuleList(
            [
                nn.Conv2d(inputs, 4, 1),
                nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
                nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 4, 1)),
            ]
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.cat([branch(x) for branch in block], dim=1).relu()
        return self.end(x.mean(dim=(2, 3)))


class Taken(nn.Module):
    """Takes a tensor apart and works in place: what an order of operations must respect."""

    def forward(self, x):
        a, b, c = x.chunk(3, dim=1)
        a = a.clone().mul_(2.0)
        best, where = torch.max(b, dim=2, keepdim=True)
        return (a + best + where.to(a.dtype) + c).flatten(1)


def resnet():
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="basic", num_labels=4
    )
    return Part(transformers.ResNetForImageClassification(config), lambda out: out.logits)


def transformer():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        image_size=16, patch_size=8, num_labels=4,
    )  # fmt: skip
    return Part(transformers.ViTForImageClassification(config), lambda out: out.logits)


def pretrained_mobilenet():
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.35, num_labels=4)
    return Part(transformers.MobileNetV2ForImageClassification(config), lambda out: out.logits)


MODELS = {
    "alexnet": (lambda: Part(BranchyNetwork(alexnet()), lambda out: out[-1]), (3, 32, 32)),
    "mobilenetv2": (
        lambda: Part(BranchyMobileNetV2(width=0.25), lambda out: out[-1]),
        (3, 32, 32),
    ),
    "resnet": (resnet, (3, 32, 32)),
    "inception": (Inception, (3, 16, 16)),
    "transformer": (transformer, (3, 16, 16)),
    "mobilenetv2 of a library": (pretrained_mobilenet, (3, 32, 32)),
    "taken apart": (Taken, (6, 4, 5)),
}
