"""`TextEncoder`: a BERT-like encoder of sentences with an exit after every layer.

The layers are those of MiniLM (Wang et al. 2020; BERT: Devlin et al. 2019), so published weights
load into them and give what they gave. An exit pools its layer's tokens into one vector, and a
linear layer scores the classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from artefacts import ArtefactError, UsageError, read_bytes

POOLS = ("mean", "first", "both")
"""How an exit makes one vector of a layer's tokens."""
PADDING = 0
"""Token id of what is no token."""
MASKED = -1e4
"""Added to the score of a padding token: its weight is exactly 0 in float32, and never NaN."""
NORM_EPSILON = 1e-12
WEIGHTS_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of a text encoder; the defaults are those of all-MiniLM-L6-v2."""

    classes: int = 2
    """Scores of every exit."""
    layers: int = 6
    """Encoder layers, and exits."""
    width: int = 384
    """Values of a token."""
    heads: int = 12
    """Attention heads of a layer; `width` is a multiple of it."""
    inner: int = 1536
    """Values between the two linear layers after the attention."""
    vocabulary: int = 30522
    """Token ids that are known, padding among them."""
    length: int = 128
    """Tokens of the longest sentence."""
    pool: str = "mean"
    """One of `POOLS`: the mean of the tokens that are no padding, the first token, or both."""

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UsageError(f"pool: found '{self.pool}', expected one of {', '.join(POOLS)}")
        for name, least in (("classes", 2), ("layers", 1), ("width", 1), ("heads", 1),
                            ("inner", 1), ("vocabulary", 2), ("length", 1)):  # fmt: skip
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise UsageError(f"text encoder, {name}: found {found}, expected {least} or more")
        if self.width % self.heads:
            raise UsageError(
                f"text encoder, width: found {self.width}, expected a multiple of {self.heads}"
                " (one part of it for each head)"
            )


class EncoderLayer(nn.Module):
    """One layer of BERT: attention and two linear layers, each added and normalised."""

    def __init__(self, shape: TextShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = shape.heads
        self.mixed = nn.Linear(shape.width, 3 * shape.width)
        """Queries, keys and values, one after the other."""
        self.attended = nn.Linear(shape.width, shape.width)
        self.attention_norm = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.wide = nn.Linear(shape.width, shape.inner)
        self.narrow = nn.Linear(shape.inner, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, L, width) after the layer; `mask` (N, 1, 1, L) is added to the scores."""
        count, length, width = x.shape
        parts = self.mixed(x).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(count, length, width)
        x = self.attention_norm(x + self.dropout(self.attended(mixed)))
        wide = nn.functional.gelu(self.wide(x))
        result: Tensor = self.norm(x + self.dropout(self.narrow(wide)))
        return result


class TextEncoder(nn.Module):
    """Token ids (N, L) int64 to the scores of an exit after every layer.

    Padding is id 0; the module makes its own mask of it. L is at most `shape.length`. Every token
    counts as of the first sentence; a pair of sentences has a separator between them.
    """

    channels_last = False

    def __init__(
        self, shape: TextShape | None = None, *, dropout: float = 0.0, layer_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.shape = shape = shape or TextShape()
        self.exit_count = shape.layers
        text = json.dumps(asdict(shape), sort_keys=True)
        self.identity = hashlib.sha256(f"text encoder {text}".encode()).hexdigest()
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width).normal_(0.0, 0.02))
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            [EncoderLayer(shape, layer_dropout) for _ in range(shape.layers)]
        )
        pooled = shape.width * (2 if shape.pool == "both" else 1)
        self.heads = nn.ModuleList([nn.Linear(pooled, shape.classes) for _ in self.layers])
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, 0.0, 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def tokens(self, ids: Tensor) -> list[Tensor]:
        """Tokens (N, L, width) after the embedding and after every layer."""
        # of one comparison: both masks are made of the same bit a token behind a cut
        mask = (1.0 - self._kept(ids)[:, None, None, :]) * MASKED
        x = self.words(ids) + self.positions[: ids.shape[1]]
        given = [self.norm(x)]
        for layer in self.layers:
            given.append(layer(given[-1], mask))
        return given

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Scores (N, classes) of every exit, the first layer's first."""
        kept = self._kept(ids)[:, :, None]
        after = self.tokens(ids)[1:]
        return [
            head(self.dropout(self._pooled(x, kept)))
            for head, x in zip(self.heads, after, strict=True)
        ]

    def _kept(self, ids: Tensor) -> Tensor:
        """1 for a token, 0 for padding (N, L)."""
        return ids.ne(PADDING).to(self.positions.dtype)

    def _pooled(self, x: Tensor, kept: Tensor) -> Tensor:
        if self.shape.pool == "first":
            return x[:, 0]
        mean = (x * kept).sum(1) / kept.sum(1).clamp(min=1.0)
        return torch.cat((x[:, 0], mean), 1) if self.shape.pool == "both" else mean


def load_pretrained(network: TextEncoder, path: Path) -> None:
    """Take embeddings and layers from a published BERT's `model.safetensors`; heads stay.

    Published positions beyond the network's length are left out. What a token of the first
    sentence is given is added to every position's. Raises `ArtefactError` where a tensor is absent
    or of another shape.
    """
    raw = read_bytes(path, WEIGHTS_BYTES, "safetensors weights")
    try:
        published = safetensors.torch.load(raw)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ArtefactError(path, found=str(error), expected="safetensors weights") from None
    shape = network.shape
    sizes = {"words": (shape.vocabulary, shape.width), "types": (2, shape.width)}
    words = _tensor(published, path, "embeddings.word_embeddings.weight", sizes["words"])
    types = _tensor(published, path, "embeddings.token_type_embeddings.weight", sizes["types"])
    positions = published.get("embeddings.position_embeddings.weight", torch.empty(0, 0))
    if positions.dim() == 2:
        positions = positions[: shape.length]
    if tuple(positions.shape) != (shape.length, shape.width):
        raise ArtefactError(
            path,
            field="embeddings.position_embeddings.weight",
            found=str(tuple(positions.shape)),
            expected=f"at least {shape.length} positions of {shape.width} values",
        )
    state = {"words.weight": words, "positions": positions + types[0]}
    _norm(state, published, path, ("norm", "embeddings.LayerNorm"), shape.width)
    for k in range(shape.layers):
        _layer(state, published, path, k, shape)
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith("heads.") for name in missing)


def _layer(
    state: dict[str, Tensor], published: Mapping[str, Tensor], path: Path, k: int, shape: TextShape
) -> None:
    """Layer `k` of the published weights under our names."""
    theirs, ours, w, inner = f"encoder.layer.{k}", f"layers.{k}", shape.width, shape.inner

    def linear(name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        weight = _tensor(published, path, f"{theirs}.{name}.weight", (outputs, inputs))
        return weight, _tensor(published, path, f"{theirs}.{name}.bias", (outputs,))

    parts = [linear(f"attention.self.{name}", w, w) for name in ("query", "key", "value")]
    state[f"{ours}.mixed.weight"] = torch.cat([weight for weight, _ in parts])
    state[f"{ours}.mixed.bias"] = torch.cat([bias for _, bias in parts])
    for mine, name, outputs, inputs in (
        ("attended", "attention.output.dense", w, w),
        ("wide", "intermediate.dense", inner, w),
        ("narrow", "output.dense", w, inner),
    ):
        state[f"{ours}.{mine}.weight"], state[f"{ours}.{mine}.bias"] = linear(name, outputs, inputs)
    norms = (("attention_norm", "attention.output.LayerNorm"), ("norm", "output.LayerNorm"))
    for mine, name in norms:
        _norm(state, published, path, (f"{ours}.{mine}", f"{theirs}.{name}"), w)


def _norm(
    state: dict[str, Tensor],
    published: Mapping[str, Tensor],
    path: Path,
    names: tuple[str, str],
    width: int,
) -> None:
    for key in ("weight", "bias"):
        state[f"{names[0]}.{key}"] = _tensor(published, path, f"{names[1]}.{key}", (width,))


def _tensor(
    published: Mapping[str, Tensor], path: Path, name: str, size: tuple[int, ...]
) -> Tensor:
    tensor = published.get(name)
    if tensor is None or tuple(tensor.shape) != size:
        found = "nothing" if tensor is None else str(tuple(tensor.shape))
        raise ArtefactError(path, field=name, found=found, expected=f"a tensor of shape {size}")
    return tensor.float()
