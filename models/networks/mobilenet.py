"""MobileNetV2 with five exits, as a torch module (Sandler et al., CVPR 2018, table 2).

The trunk is the published one (expansion 6, ReLU6, linear bottlenecks) for a stem of stride 2; the
paper has no exits. Ours leave after the blocks that end at 1/4, 1/8 and (twice) 1/16 of the
picture's side, with heads that first look further around (early features are local) and then pool.
"""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, repeats and first stride of every stage (the paper's t, c, n, s)."""
EXITS_AFTER = (3, 6, 10, 13)
"""Blocks behind which the early exits leave."""
LAST_CHANNELS = 1280


class ConvNorm(nn.Sequential):
    """A convolution without bias, batch normalisation, and ReLU6 unless it ends a bottleneck."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1,
        *, linear: bool = False,
    ) -> None:  # fmt: skip
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *(() if linear else (nn.ReLU6(),)))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to its input where shapes agree (figure 3b)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [ConvNorm(inputs, hidden, 1)] if expansion > 1 else []
        self.body = nn.Sequential(
            *expand,
            ConvNorm(hidden, hidden, 3, stride, hidden),
            ConvNorm(hidden, outputs, 1, linear=True),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


def _pooled(inputs: int, channels: int, classes: int) -> list[nn.Module]:
    return [
        ConvNorm(inputs, channels, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    ]


class BranchyMobileNetV2(nn.Module):
    """The trunk as blocks, an exit's head after each of `EXITS_AFTER`, and the end."""

    def __init__(self, classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        self.exit_count = len(EXITS_AFTER) + 1
        self.identity = f"MobileNetV2, width {width:g}, {classes} classes, exits {EXITS_AFTER}"
        channels = self._scaled(32, width)
        blocks: list[nn.Module] = [ConvNorm(3, channels, 3, 2)]
        widths = []
        for expansion, outputs, repeats, stride in BLOCKS:
            for k in range(repeats):
                scaled = self._scaled(outputs, width)
                blocks.append(
                    InvertedResidual(channels, scaled, stride if k == 0 else 1, expansion)
                )
                channels = scaled
                widths.append(channels)
        last = max(LAST_CHANNELS, self._scaled(LAST_CHANNELS, width))
        self.blocks = nn.ModuleList(blocks)
        self.end = nn.Sequential(*_pooled(channels, last, classes))
        at = [widths[k - 1] for k in EXITS_AFTER]
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    InvertedResidual(at[0], 48, 2, 4),
                    InvertedResidual(48, 96, 2, 4),
                    *_pooled(96, 256, classes),
                ),
                nn.Sequential(InvertedResidual(at[1], 96, 2, 4), *_pooled(96, 320, classes)),
                nn.Sequential(*_pooled(at[2], 384, classes)),
                nn.Sequential(*_pooled(at[3], 512, classes)),
            ]
        )

    @staticmethod
    def _scaled(channels: int, width: float) -> int:
        """Channels times width, to a multiple of 8 that is not below 90 % of it."""
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (N, classes) of every exit for pictures (N, 3, H, W)."""
        logits: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in EXITS_AFTER:
                logits.append(self.heads[EXITS_AFTER.index(number)](x))
        return [*logits, self.end(x)]
