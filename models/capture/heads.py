"""Kinds of heads that an exit can have, by the kind of tensor that reaches it.

A head turns one tensor of the trunk into class scores. Which kind does best depends on the place:
an early feature map has been seen by few convolutions and asks for more of them, a late one is
nearly linear. `models.networks.brought.exits.head_choice` measures the kinds that fit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.graph import Crossing, Shape

QUERIES = 4
"""Weighted means that an attention pool takes of a map or of tokens."""
MOST_CHANNELS = 256
"""Of a head's convolutions."""
DEEP_CONVOLUTIONS = 3
"""Pairs of a depthwise and a pointwise convolution in a head of kind 'deep'."""
LEAST_SIDE = 8
"""A map whose shorter side is at least this is halved by a head's convolution."""


class _Mean(nn.Module):
    """(N, C) of (N, C, H, W) or of (N, tokens, width): the mean over all places."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._over = (2, 3) if len(shape) == 3 else (1,)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self._over)


class AttentionPool(nn.Module):
    """Several weighted means over the places of a map (C, H, W), or over tokens (tokens, width).

    Each query learns which places count. The means stand one behind the other.
    """

    def __init__(self, shape: Shape, queries: int = QUERIES) -> None:
        """`shape` is one sample's; `queries` is how many means are taken."""
        super().__init__()
        self._map = len(shape) == 3
        width = shape[0] if self._map else shape[1]
        self.norm: nn.Module = nn.BatchNorm2d(width) if self._map else nn.LayerNorm(width)
        self.weights = nn.Linear(width, queries)
        self.values = queries * width

    def forward(self, x: Tensor) -> Tensor:
        """(N, queries x C) of (N, C, H, W), or (N, queries x width) of (N, tokens, width)."""
        x = self.norm(x)
        places = x.flatten(2).transpose(1, 2) if self._map else x
        weights = torch.softmax(self.weights(places), dim=1).transpose(1, 2)
        return torch.matmul(weights, places).flatten(1)


class TokenPool(nn.Module):
    """The first token (the class's, where the network has one) and the mean of all, normalised."""

    def __init__(self, shape: Shape) -> None:
        """`shape` is one sample's: (tokens, width)."""
        super().__init__()
        self.norm = nn.LayerNorm(shape[1])
        self.values = 2 * shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 x width) of (N, tokens, width)."""
        x = self.norm(x)
        return torch.cat([x[:, 0], x.mean(dim=1)], dim=1)


def convolution(ins: int, outs: int, stride: int) -> list[nn.Module]:
    """A depthwise convolution of 3 x 3 and a pointwise one, each normalised: parts in order.

    `ins` and `outs` are channels; a `stride` of 2 halves a map.
    """
    return [
        nn.Conv2d(ins, ins, 3, stride, 1, groups=ins, bias=False),
        nn.BatchNorm2d(ins),
        nn.Conv2d(ins, outs, 1, bias=False),
        nn.BatchNorm2d(outs),
        nn.ReLU6(),
    ]


def _stride(shape: Shape) -> int:
    return 2 if min(shape[1:]) >= LEAST_SIDE else 1


def _linear(shape: Shape, classes: int) -> nn.Module:
    if len(shape) == 1:
        # features of any size, as pooled ones are, would take any learning rate
        return nn.Sequential(nn.BatchNorm1d(shape[0]), nn.Linear(shape[0], classes))
    width = shape[0] if len(shape) == 3 else shape[1]
    return nn.Sequential(_Mean(shape), nn.BatchNorm1d(width), nn.Linear(width, classes))


def _conv(shape: Shape, classes: int) -> nn.Module:
    hidden = max(32, min(2 * shape[0], MOST_CHANNELS))
    return nn.Sequential(
        *convolution(shape[0], hidden, _stride(shape)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(hidden, classes),
    )


def _deep(shape: Shape, classes: int) -> nn.Module:
    channels, height, width = shape
    layers: list[nn.Module] = []
    for _ in range(DEEP_CONVOLUTIONS):
        stride = _stride((channels, height, width))
        # a narrow map is widened, a wide one is not narrowed
        outs = max(channels, min(max(2 * channels, 64), MOST_CHANNELS))
        layers += convolution(channels, outs, stride)
        channels, height, width = outs, -(-height // stride), -(-width // stride)
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(channels, classes),
    )


def _attention(shape: Shape, classes: int) -> nn.Module:
    pool = AttentionPool(shape)
    return nn.Sequential(pool, nn.Linear(pool.values, classes))


def _token(shape: Shape, classes: int) -> nn.Module:
    pool = TokenPool(shape)
    return nn.Sequential(pool, nn.Linear(pool.values, classes))


_MAKERS: dict[str, tuple[Callable[[Shape, int], nn.Module], tuple[int, ...]]] = {
    "linear": (_linear, (1, 2, 3)),
    "conv": (_conv, (3,)),
    "deep": (_deep, (3,)),
    "attention": (_attention, (2, 3)),
    "token": (_token, (2,)),
}
HEAD_KINDS = tuple(_MAKERS)
"""Names of the kinds; which fit a tensor says `kinds_for`."""
AUTO = "auto"
"""In the place of a kind: the kinds that fit are measured at every exit."""


def kinds_for(crossing: Crossing) -> tuple[str, ...]:
    """The kinds of heads that a tensor of one, two or three sizes a sample can have."""
    found = tuple(kind for kind, (_, sizes) in _MAKERS.items() if len(crossing.shape) in sizes)
    if not found:
        raise UsageError(
            f"exit at '{crossing.name}': found a tensor of shape {crossing.shape}, expected one, "
            "two or three sizes a sample (give a head of your own)"
        )
    return found


def head_of_kind(kind: str, crossing: Crossing, classes: int) -> nn.Module:
    """A new head of `kind` for what crosses; refuses a kind that does not fit it."""
    if kind not in _MAKERS:
        raise UsageError(f"--head-kind: found '{kind}', expected {', '.join((AUTO, *HEAD_KINDS))}")
    if kind not in (fits := kinds_for(crossing)):
        raise UsageError(
            f"--head-kind: found '{kind}' for '{crossing.name}' of shape {crossing.shape}, "
            f"expected one that fits it: {', '.join(fits)}"
        )
    return _MAKERS[kind][0](crossing.shape, classes)
