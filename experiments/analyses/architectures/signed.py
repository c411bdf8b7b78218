"""Architectures of the `transformers` library that take or give something else than a picture and
class scores: text, sound, detections. Small and randomly initialised: nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.capture.rows import RowModule
from models.facts.preprocessing import (
    PictureInput,
    Preprocessing,
    SoundInput,
    TokenInput,
)

VOCABULARY, LENGTH, SIDE, SAMPLES, LABELS = 100, 16, 64, 800, 5
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 64}  # fmt: skip
_TEXT = _SMALL | {"vocab_size": VOCABULARY, "max_position_embeddings": 2 * LENGTH}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1],
           "out_features": ["stage4"]}  # fmt: skip
TOKENS, PICTURES, SOUND = TokenInput(VOCABULARY), PictureInput(), SoundInput(8000)
BOXES = ("pred_boxes", "logits")


@dataclass(frozen=True, slots=True)
class Signed:
    """A class of the library by its name, how it is configured, and what it takes and gives."""

    kind: str
    options: Mapping[str, Any]
    taken: Preprocessing
    outputs: tuple[str, ...] = ("logits",)
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Options whose values are configurations themselves: (class, options) by name."""


SIGNED: Mapping[str, Signed] = {
    "Bert, a class of a text": Signed("BertForSequenceClassification", _TEXT, TOKENS),
    "DistilBert, a class of a text": Signed(
        "DistilBertForSequenceClassification",
        {"vocab_size": VOCABULARY, "max_position_embeddings": 2 * LENGTH, "dim": 32,
         "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        TOKENS,
    ),
    "Roberta, a class of a text": Signed(
        "RobertaForSequenceClassification", _TEXT | {"pad_token_id": 0}, TOKENS
    ),
    "Bert, a vector for every token": Signed("BertModel", _TEXT, TOKENS, ("last_hidden_state",)),
    "Wav2Vec2, a class of a recording": Signed(
        "Wav2Vec2ForSequenceClassification",
        _SMALL | {"conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3),
                  "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
                  "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 16},
        SOUND,
    ),
    "Yolos, boxes": Signed(
        "YolosForObjectDetection",
        _SMALL | {"image_size": [SIDE, SIDE], "patch_size": 16, "num_detection_tokens": 10},
        PICTURES, BOXES,
    ),
    "Detr, boxes": Signed(
        "DetrForObjectDetection",
        {"use_timm_backbone": False, "backbone": None, "num_queries": 10, "d_model": 32,
         "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
         "encoder_attention_heads": 4, "decoder_attention_heads": 4},
        PICTURES, BOXES, {"backbone_config": ("ResNetConfig", _RESNET)},
    ),
}  # fmt: skip


def signed_model(name: str) -> RowModule:
    """The architecture called `name` with weights by a fixed seed, in evaluation mode."""
    import transformers

    given = SIGNED[name]
    kind: Any = getattr(transformers, given.kind)
    parts = {
        key: getattr(transformers, part)(**options) for key, (part, options) in given.parts.items()
    }
    torch.manual_seed(0)
    module: nn.Module = kind(kind.config_class(num_labels=LABELS, **given.options, **parts))
    for weight in module.parameters():
        weight.requires_grad_(False)
    return RowModule(module.eval(), given.taken, given.outputs)


def signed_samples(name: str) -> Tensor:
    """Four inputs of the architecture (4, ...): texts of several lengths, pictures, recordings."""
    rng = np.random.default_rng(0)
    taken = SIGNED[name].taken
    if isinstance(taken, TokenInput):
        ids = rng.integers(1, VOCABULARY, (4, LENGTH))
        ids[1, 9:], ids[2, 5:] = 0, 0
        return torch.from_numpy(ids.astype(np.float32))
    if isinstance(taken, SoundInput):
        return torch.from_numpy(rng.normal(0.0, 0.1, (4, SAMPLES)).astype(np.float32))
    return torch.from_numpy(rng.normal(size=(4, 3, SIDE, SIDE)).astype(np.float32))
