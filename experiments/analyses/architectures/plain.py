"""Architectures written with torch alone, small: what people bring, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.facts.alexnet import alexnet
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.network import BranchyNetwork

CLASSES = 5
Make = Callable[[], nn.Module]


class Does(nn.Module):
    """Convolution, any function of its maps, convolution, mean, scores."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.first, self.function = nn.Conv2d(3, 8, 3, 2, 1), function
        self.second, self.end = nn.Conv2d(channels, 12, 3, 2, 1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes) of pictures (N, 3, height, width)."""
        x = self.function(self.first(x))
        scores: Tensor = self.end(self.second(x).relu().mean(dim=(2, 3)))
        return scores


class Parallel(nn.Module):
    """Branches of one input: concatenated, or added."""

    def __init__(self, *branches: nn.Module, add: bool = False) -> None:
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, x: Tensor) -> Tensor:
        """All branches together."""
        found = [branch(x) for branch in self.branches]
        return torch.stack(found).sum(dim=0) if self.add else torch.cat(found, dim=1)


class Last(nn.Module):
    """The last exit of a network that has several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes)."""
        scores: Tensor = self.network(x)[-1]
        return scores


class Gated(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): channels weighed by what they hold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps, weighed."""
        weights = self.a(functional.adaptive_avg_pool2d(x, 1)).relu()
        return x * functional.hardsigmoid(self.b(weights))


class Recurrent(nn.Module):
    """A picture's rows one after the other."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.rows: nn.Module = kind(3 * 64, 16, batch_first=True)
        self.end = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes)."""
        found = self.rows(x.permute(0, 2, 1, 3).flatten(2))[0]
        scores: Tensor = self.end(found[:, -1])
        return scores


class Variadic(nn.Module):
    """`forward` that takes whatever it is given."""

    def __init__(self, *, by_name: bool = False) -> None:
        super().__init__()
        self.inner = ends(nn.Conv2d(3, 8, 3, 2), nn.ReLU())
        if by_name:
            self.forward = self.named  # type: ignore[method-assign,assignment]

    def forward(self, *args: Any) -> Any:
        """Scores (N, classes)."""
        return self.inner(args[0])

    def named(self, **pictures: Any) -> Any:
        """Scores (N, classes)."""
        return self.inner(pictures["x"])


def ends(*layers: nn.Module, channels: int = 8) -> nn.Sequential:
    """The layers, a mean over the maps, scores."""
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
    )


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(),
        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(16 * 49, 32), nn.ReLU(),
        nn.Dropout(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(
        nn.Conv2d(3, 16, 8, 8), nn.Flatten(2), Swapped(body), nn.Flatten(), nn.Linear(1024, CLASSES)
    )


class Swapped(nn.Module):
    """A module that wants the channels last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) through the module as (N, T, C)."""
        found: Tensor = self.inner(x.transpose(1, 2))
        return found


def _turned(x: Tensor) -> Tensor:
    turn = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.9, -0.1]]]).expand(x.shape[0], 2, 3)
    size = [x.shape[0], 8, 16, 16]
    grid = functional.affine_grid(turn, size, align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def _half(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (x.flatten(2) @ x.flatten(2).mT).float()[..., None]


def _quantised() -> nn.Module:
    network = ends(nn.Conv2d(3, 8, 3, 2), nn.ReLU())
    found: nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
        network, {nn.Linear}
    )
    return found


def _compiled() -> nn.Module:
    found: Any = torch.compile(ends(_conv(3, 8)))
    assert isinstance(found, nn.Module)
    return found


def _pooled(x: Tensor, **options: Any) -> Tensor:
    return functional.avg_pool2d(x, 3, 2, 1, divisor_override=4, **options)


NETWORKS: Mapping[str, Make] = {
    "AlexNet of Edgent": lambda: nn.Sequential(
        nn.AvgPool2d(2), Last(BranchyNetwork(alexnet()))  # it takes pictures of half the side
    ),
    "MobileNetV2 of ours": lambda: Last(BranchyMobileNetV2(width=0.25)),
    "VGG": _vgg,
    "Inception": lambda: ends(
        _conv(3, 8), Parallel(_conv(8, 4, 1), _conv(8, 4, 3), _conv(8, 4, 5),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(8, 4, 1))), channels=16,
    ),
    "DenseNet": lambda: ends(
        _conv(3, 8), Parallel(nn.Identity(), _conv(8, 8)), Parallel(nn.Identity(), _conv(16, 8)),
        nn.AvgPool2d(2), _conv(24, 12), channels=12,
    ),
    "ShuffleNet": lambda: ends(
        _conv(3, 8), _conv(8, 8, 3, 2, 4), nn.ChannelShuffle(4), _conv(8, 8),
    ),
    "SqueezeNet": lambda: ends(
        _conv(3, 8), _conv(8, 4, 1), Parallel(_conv(4, 4, 1), _conv(4, 4)),
        nn.MaxPool2d(3, 2, ceil_mode=True), _conv(8, 8),
    ),
    "squeeze and excitation": lambda: ends(
        _conv(3, 8, 3, 2), Gated(8), nn.Hardswish(), _conv(8, 8),
    ),
    "U-Net": lambda: ends(
        _conv(3, 8), Parallel(nn.Identity(), nn.Sequential(nn.MaxPool2d(2), _conv(8, 8),
        nn.ConvTranspose2d(8, 8, 2, 2))), _conv(16, 8),
    ),
    "residual, group norm": lambda: ends(
        nn.Conv2d(3, 8, 3, 2, 1), Parallel(nn.Identity(), nn.Sequential(nn.GroupNorm(2, 8),
        nn.SiLU(), nn.Conv2d(8, 8, 3, 1, 1)), add=True), nn.Mish(),
    ),
    "transformer encoder": _encoder,
    "LSTM over rows": lambda: Recurrent(nn.LSTM),
    "GRU over rows": lambda: Recurrent(nn.GRU),
    "spatial transformer": lambda: Does(_turned),
    "pixel shuffle": lambda: Does(lambda x: functional.pixel_shuffle(x, 2), 2),
    "bilinear resizing": lambda: Does(
        lambda x: functional.interpolate(x, (20, 20), mode="bilinear")
    ),
    "pooling with a divisor": lambda: Does(_pooled),
    "zeros before max pooling": lambda: Does(
        lambda x: functional.max_pool2d(functional.pad(x - 4.0, (0, 1, 0, 1)), 3, 2)
    ),
    "nn.DataParallel around": lambda: nn.DataParallel(ends(_conv(3, 8))),
    "nn.DataParallel inside": lambda: ends(nn.DataParallel(_conv(3, 8))),
    "torch.compile around": _compiled,
    "forward(*args)": Variadic,
    "autocast inside": lambda: Does(_half),
    "half precision": lambda: ends(_conv(3, 8)).half(),
    "float64 convolution inside": lambda: Does(
        lambda x: functional.conv2d(x.double(), torch.ones(8, 8, 3, 3).double()).float()
    ),
    "dynamically quantised": _quantised,
    "TorchScript": lambda: torch.jit.script(ends(_conv(3, 8))),
    "forward(**pictures)": lambda: Variadic(by_name=True),
    "a branch on the picture": lambda: Does(lambda x: x if x.sum() > 0 else -x),
    "pooling with a divisor and ceil_mode": lambda: Does(lambda x: _pooled(x, ceil_mode=True)),
    "log-sigmoid of large numbers": lambda: Does(lambda x: functional.logsigmoid(30.0 * x)),
    "uneven adaptive max pooling": lambda: Does(lambda x: functional.adaptive_max_pool2d(x, 5)),
}  # fmt: skip
