from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from artefacts import ArtefactError, UsageError
from models.capture.lower import lower_verified
from models.capture.rows import RowModule
from models.facts.preprocessing import TokenInput
from models.networks.network import BranchyNetwork
from models.networks.text import POOLS, TextEncoder, TextShape, load_pretrained

TINY = TextShape(
    classes=2, layers=3, width=24, heads=3, inner=48, vocabulary=40, length=12, pool="both"
)


@pytest.fixture
def tiny() -> TextEncoder:
    torch.manual_seed(1)
    return TextEncoder(TINY).eval()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT of transformers, and the file of its weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    config = transformers.BertConfig(
        vocab_size=TINY.vocabulary, hidden_size=TINY.width, num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads, intermediate_size=TINY.inner, max_position_embeddings=20,
        initializer_range=0.5,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    path = tmp_path_factory.mktemp("bert") / "model.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return model, path


def _ids(count=5, seed=0, length=TINY.length):
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(1, TINY.vocabulary, (count, length)))
    for row in ids[1:]:
        row[int(rng.integers(1, length)) :] = 0
    return ids


def test_published_weights_give_what_they_gave_after_every_layer(bert, tiny):
    model, path = bert
    load_pretrained(tiny, path)
    ids = _ids()
    with torch.inference_mode():
        given = model(ids, attention_mask=ids.ne(0).long(), output_hidden_states=True)
        mine = tiny.tokens(ids)
    assert len(mine) == len(given.hidden_states) == TINY.layers + 1
    for ours, theirs in zip(mine, given.hidden_states, strict=True):
        seen = ids.ne(0)
        assert torch.allclose(ours[seen], theirs[seen], atol=2e-5)


@pytest.mark.slow
def test_minilm_gives_what_the_package_gives():
    transformers = pytest.importorskip("transformers")
    from models.networks.text_recipe import PACKAGE, published_folder

    pytest.importorskip(PACKAGE)
    folder = published_folder()
    network = TextEncoder(TextShape()).eval()
    load_pretrained(network, folder / "model.safetensors")
    ids = torch.tensor([[101, 2009, 1005, 1055, 11951, 102, 0, 0], [101, 4895, 102] + [0] * 5])
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        given = model(ids, attention_mask=ids.ne(0).long(), output_hidden_states=True)
        mine = network.tokens(ids)
    for ours, theirs in zip(mine, given.hidden_states, strict=True):
        assert torch.allclose(ours[ids.ne(0)], theirs[ids.ne(0)], atol=2e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_padding_changes_no_score(pool):
    torch.manual_seed(3)
    network = TextEncoder(replace(TINY, pool=pool)).eval()
    ids = _ids(1)[:, :7]
    wide = torch.nn.functional.pad(ids, (0, 5))
    with torch.inference_mode():
        narrow_scores, wide_scores = network(ids), network(wide)
    assert len(narrow_scores) == network.exit_count == TINY.layers
    for narrow, padded in zip(narrow_scores, wide_scores, strict=True):
        assert narrow.shape == (1, 2)
        assert torch.allclose(narrow, padded, atol=1e-6)


def test_padding_alone_has_scores_too(tiny):
    with torch.inference_mode():
        assert all(torch.isfinite(s).all() for s in tiny(torch.zeros(2, 12, dtype=torch.long)))


def test_a_network_exports(tiny):
    ids = _ids(1)
    exported = torch.export.export(tiny, (ids,)).module()
    with torch.inference_mode():
        for ours, theirs in zip(tiny(ids), exported(ids), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_identity_is_of_the_shape(tiny):
    assert TextEncoder(TINY).identity == tiny.identity
    assert TextEncoder(replace(TINY, pool="mean")).identity != tiny.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool": "max"}, "pool: found 'max', expected one of mean, first, both"),
        ({"classes": 1}, "text encoder, classes: found 1, expected 2 or more"),
        ({"width": 25}, "text encoder, width: found 25, expected a multiple of 3"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(TINY, **change)


def test_weights_of_another_shape_are_refused(bert, tiny, tmp_path):
    _, path = bert
    with pytest.raises(ArtefactError, match=r"word_embeddings.weight'.*\(40, 24\).*\(41, 24\)"):
        load_pretrained(TextEncoder(replace(TINY, vocabulary=41)), path)
    with pytest.raises(ArtefactError, match=r"layer.3.attention.self.query.weight': found nothing"):
        load_pretrained(TextEncoder(replace(TINY, layers=4)), path)
    with pytest.raises(ArtefactError, match=r"found \(20, 24\), expected at least 30 positions"):
        load_pretrained(TextEncoder(replace(TINY, length=30)), path)
    (tmp_path / "none").write_bytes(b"none")
    with pytest.raises(ArtefactError, match="expected safetensors weights"):
        load_pretrained(tiny, tmp_path / "none")


@pytest.mark.parametrize("pool", ["first", "both"])
def test_it_is_cut_behind_every_layer_with_a_bit_a_token_beside(pool):
    torch.manual_seed(1)
    tiny = TextEncoder(replace(TINY, pool=pool)).eval()
    rows = RowModule(tiny, TokenInput(TINY.vocabulary, 0))
    x = _ids(5).float()
    spec, state, _ = lower_verified(rows, x[:2], "text", samples=x)
    assert len(spec.exits) == TINY.layers
    for branch, place in enumerate(spec.exits[:-1]):
        carried, *others = spec.parts(branch, place.after)
        assert carried.shape == (TINY.length, TINY.width)
        assert [(part.datatype, part.shape) for part in others] == [("BOOL", (TINY.length,))]
    network = BranchyNetwork(spec)
    network.load_folded(state)
    with torch.inference_mode():
        for found, right in zip(network(x), tiny(x.long()), strict=True):
            assert torch.allclose(found, right, atol=2e-5)
