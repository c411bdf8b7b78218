"""Modules of any signature: rows in and out, masks that cross beside what layers change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from artefacts import UsageError
from models.capture.lower import lower_verified
from models.capture.rows import RowModule, output_tensors, own_exits
from models.codecs import codec_named, crossing
from models.codecs.tensors import NamedTensor
from models.facts.preprocessing import PictureInput, TensorInput, TokenInput
from models.graphs.onnx_graph import interval_model
from models.graphs.onnx_runtime import onnxruntime
from models.networks.network import BranchyNetwork

LENGTH, WIDTH, VOCABULARY = 12, 32, 40
TOKENS = TokenInput(VOCABULARY, 0)


class Block(nn.Module):
    """One layer of an encoder: attention that sees no padding, and two products."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, L, W) of (N, L, W); `hidden` (N, 1, 1, L) is added to what is asked."""
        parts = self.qkv(x).reshape(x.shape[0], LENGTH, 3, 4, WIDTH // 4).permute(2, 0, 3, 1, 4)
        seen = torch.softmax(parts[0] @ parts[1].transpose(2, 3) / 3.0 + hidden, dim=-1) @ parts[2]
        x = self.one(x + self.out(seen.transpose(1, 2).reshape(x.shape[0], LENGTH, WIDTH)))
        return self.two(x + self.down(functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """Three layers with an exit behind each: the mean of what is no padding."""

    exit_count = 3

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 2) for _ in range(3))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Scores (N, 2) of every exit."""
        x = self.words(input_ids) + self.places(torch.arange(LENGTH))
        hidden = (1.0 - attention_mask[:, None, None].float()) * -1e4
        kept = attention_mask[:, :, None].float()
        found = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x, hidden)
            found.append(head((x * kept).sum(1) / kept.sum(1)))
        return found


def texts(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    ids = rng.integers(1, VOCABULARY, (count, LENGTH))
    ids[np.arange(LENGTH) >= rng.integers(2, LENGTH + 1, count)[:, None]] = 0
    return ids.astype(np.float32)


@pytest.fixture(scope="module")
def lowered():
    torch.manual_seed(0)
    rows = RowModule(Encoder().eval(), TOKENS)
    x = torch.from_numpy(texts(5))
    spec, state, _ = lower_verified(rows, x[:2], "encoder", samples=x)
    return rows, spec, state, x


def test_a_mask_crosses_beside_what_layers_change(lowered):
    _, spec, _, _ = lowered
    assert len(spec.exits) == 3
    cuts = [cut for cut in range(1, len(spec.trunk)) if spec.parts(2, cut)]
    assert len(cuts) >= 2
    for cut in cuts:
        carried, *others = spec.parts(2, cut)
        assert carried.shape == (LENGTH, WIDTH)
        # the mask of a text crosses as a bit a token, whatever layers make of it
        assert [(part.datatype, part.shape) for part in others] == [("BOOL", (LENGTH,))]
        assert spec.shapes[2][cut] == (LENGTH * WIDTH + LENGTH,)
        assert spec.crossing_shape(2, cut) == (LENGTH, WIDTH)


def test_every_interval_and_cut_gives_what_the_module_gives(lowered):
    rows, spec, state, x = lowered
    with torch.inference_mode():
        wanted = [one.numpy() for one in rows(x)]
    for branch, right in enumerate(wanted):
        length = len(spec.branches[branch])
        for cut in range(length + 1):
            found = x.numpy()
            for start, stop in ((0, cut), (cut, length)):
                graph = interval_model(spec, state, branch, start, stop)
                session = onnxruntime.InferenceSession(graph)
                (found,) = session.run(None, {"x": found})
            np.testing.assert_allclose(found, right, atol=2e-5)


def test_torch_runs_the_same_stretches(lowered):
    rows, spec, state, x = lowered
    network = BranchyNetwork(spec)
    network.load_folded(state)
    with torch.inference_mode():
        for found, right in zip(network(x), rows(x), strict=True):
            np.testing.assert_allclose(found.numpy(), right.numpy(), atol=2e-5)


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "int8c", "int8c+zstd"])
def test_what_crosses_beside_a_codecs_tensor_comes_as_it_was(lowered, name):
    from models.codecs.affine import calibrate
    from models.codecs.interface import Shared

    _, spec, state, x = lowered
    cut = next(c for c in range(1, len(spec.trunk)) if spec.parts(2, c))
    parts, shape = spec.parts(2, cut), spec.shapes[2][cut]
    session = onnxruntime.InferenceSession(interval_model(spec, state, 2, 0, cut))
    (batch,) = session.run(None, {"x": x.numpy()})
    codec = codec_named(name)
    shared = Shared(calibrate(crossing.first(parts, batch)) if codec.needs_ranges else None)
    for one in batch:
        encoded = crossing.encode(codec, parts, one, shared)
        again = crossing.decode(codec, parts, encoded.meta, encoded.data, shape, shared)
        known = crossing.size(codec, parts, shape)
        assert known is None or known == len(encoded.data)
        assert np.array_equal(again[-LENGTH:], one[-LENGTH:])
        scale = np.abs(one).max()
        np.testing.assert_allclose(again[:-LENGTH], one[:-LENGTH], atol=0.02 * scale)
    seen = crossing.round_trip(codec, parts, batch, shared)
    np.testing.assert_allclose(seen[-1], again, atol=1e-6)
    with pytest.raises(UsageError, match="found 1 bytes, expected 2 or more"):
        crossing.decode(codec, parts, {}, b"x", shape, shared)


class Two(nn.Module):
    """Of a picture and whole numbers a mapping of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.product, self.table = nn.Linear(6, 4), nn.Embedding(5, 4)

    def forward(self, picture: Tensor, kind: Tensor) -> dict[str, Tensor]:
        """`boxes` (N, 2, 2) and `scores` (N, 4)."""
        x = self.product(picture.flatten(1)) + self.table(kind[:, 0])
        return {"scores": x.softmax(1), "boxes": x.reshape(-1, 2, 2)}


def test_several_tensors_in_and_out_are_laid_end_to_end():
    torch.manual_seed(1)
    module = Two().eval()
    taken = TensorInput(
        (NamedTensor("picture", "FP32", (2, 3)), NamedTensor("kind", "INT64", (1,)))
    )
    picture, kind = torch.randn(3, 2, 3), torch.tensor([[4], [0], [2]])
    x = torch.from_numpy(
        np.stack([taken.pack([p.numpy(), k.numpy()]) for p, k in zip(picture, kind, strict=True)])
    )
    rows = RowModule(module, taken, ("boxes", "scores"))
    right = module(picture, kind)
    with torch.inference_mode():
        assert torch.equal(rows(x), torch.cat([right["boxes"].flatten(1), right["scores"]], 1))
    assert output_tensors(module, x, taken, ("boxes", "scores")) == (
        NamedTensor("boxes", "FP32", (2, 2)), NamedTensor("scores", "FP32", (4,)),
    )  # fmt: skip
    spec, _, _ = lower_verified(rows, x, "two", samples=x)
    assert spec.input_shape == (7,)
    assert spec.classes == 8


def test_names_that_a_module_does_not_give_are_refused():
    with pytest.raises(UsageError, match="found 'masks', expected names of what it gives"):
        RowModule(Names(), PictureInput(), ("masks",))(torch.zeros(2, 3, 4, 4))


class Names(nn.Module):
    """A mapping of one tensor."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The mean of each channel."""
        return {"means": x.mean((2, 3))}


def test_a_module_that_says_nonsense_of_its_exits_is_refused():
    module = Names()
    module.exit_count = -1
    with pytest.raises(UsageError, match="exit_count: found -1"):
        own_exits(module)
    module.exit_count = 2
    with pytest.raises(UsageError, match="exit_count: found 2, and 1 answers"):
        RowModule(module, PictureInput())(torch.zeros(2, 3, 4, 4))
