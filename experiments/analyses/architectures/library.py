"""Architectures of the `transformers` library, small and randomly initialised: nothing is fetched.

A configuration says how wide and how deep; the operations are those of the published networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_PATCHES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "intermediate_size": 64, "patch_size": 8}  # fmt: skip
_SWIN = {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
_VISION = {"vision_config": _PATCHES | {"image_size": 64}}
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "Beit": _PATCHES,
    "Bit": {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1],
            "num_groups": 8},
    "CLIP": _VISION,
    "ConvNext": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "ConvNextV2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "Cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "Data2VecVision": _PATCHES,
    "DeiT": _PATCHES,
    "Dinov2": _PATCHES,
    "Dinov2WithRegisters": _PATCHES,
    "DonutSwin": _SWIN,
    "EfficientNet": {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320},
    "FocalNet": {"embed_dim": 16, "depths": [1, 1, 2, 1], "patch_size": 4},
    "HGNetV2": {},
    "Hiera": {"embed_dim": 16, "depths": [1, 1, 2, 1], "patch_stride": [4, 4],
              "num_heads": [1, 1, 2, 4]},
    "IJepa": _PATCHES,
    "Levit": {"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4],
              "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    "MetaClip2": _VISION,
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "MobileViT": {"hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 16, 24, 32, 40, 64]},
    "MobileViTV2": {"width_multiplier": 0.25},
    "PoolFormer": {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1]},
    "Pvt": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4]},
    "PvtV2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
              "num_attention_heads": [1, 2, 2, 4]},
    "RegNet": {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1],
               "groups_width": 8},
    "ResNet": {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [2, 2, 2, 2],
               "layer_type": "basic"},
    "Segformer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
                  "num_attention_heads": [1, 2, 2, 4]},
    "Siglip": _VISION,
    "SwiftFormer": {"embed_dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "Swin": _SWIN,
    "Swinv2": _SWIN,
    "TextNet": {},
    "ViT": _PATCHES,
    "ViTMSN": _PATCHES,
}  # fmt: skip
SIDE, LABELS = 64, 5


class Scores(nn.Module):
    """The class scores of a model of the library, which gives them as a field of its output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes) of pictures (N, 3, height, width)."""
        scores: Tensor = self.model(x).logits
        return scores


def library_model(name: str) -> nn.Module:
    """The classifier called `name`ForImageClassification, with weights by a fixed seed."""
    import transformers

    options = dict(CONFIGURATIONS[name])
    kind: Any = getattr(transformers, f"{name}ForImageClassification")
    config: Any = kind.config_class(num_labels=LABELS, **options)
    if hasattr(config, "image_size"):
        config.image_size = SIDE if isinstance(config.image_size, int) else [SIDE, SIDE]
    torch.manual_seed(0)
    return Scores(kind(config))


def give_statistics(module: nn.Module) -> None:
    """Let normalisations see something: with untrained statistics deep signals vanish."""
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, 3, SIDE, SIDE))
