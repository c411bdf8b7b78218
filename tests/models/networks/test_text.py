from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from artefacts import ArtefactError, UsageError
from models.data.sentences import Sentences
from models.networks.text import POOLS, TextEncoder, TextShape, load_pretrained
from models.networks.text_training import (
    Budget,
    Judged,
    TextArgs,
    batches,
    exit_weights,
    joint_loss,
    judge_text,
    train_text,
)

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


def _task(count, seed):
    """Whether more of a sentence's tokens are high than low."""
    ids = _ids(count, seed).numpy().astype(np.uint16)
    high, low = (ids > 20).sum(1), ((ids > 0) & (ids <= 20)).sum(1)
    return Sentences(ids, (high > low).astype(np.uint8), ("low", "high"))


ARGS = TextArgs(epochs=6, batch=16, learning_rate=3e-3, head_rate=1e-2)


def test_every_exit_learns_and_the_best_epoch_is_kept(tmp_path):
    torch.manual_seed(4)
    network = TextEncoder(TINY, dropout=0.1)
    told, steps = [], []
    train, held = _task(512, 1), _task(256, 2)
    trained = train_text(
        network, ARGS, train, held, tmp_path / "c.pt", told.append,
        lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert steps == [(k + 1, 192) for k in range(192)]
    assert [one.epoch for one in told] == list(range(1, 7))
    assert told[-1].loss < told[0].loss
    weights = exit_weights(3, ARGS.depth)
    scores = [sum(w * a for w, a in zip(weights, t.accuracies, strict=True)) for t in told]
    best = trained.best_epoch
    assert best == int(np.argmax(scores)) + 1
    assert (trained.steps, trained.planned, trained.made) == (192, 192, 192)
    accuracies = judge_text(network, held).accuracies
    assert accuracies == told[best - 1].accuracies
    assert min(accuracies) > 0.9


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    train, held = _task(200, 1), _task(64, 2)
    args = replace(ARGS, epochs=2)

    def network():
        torch.manual_seed(4)
        return TextEncoder(TINY, dropout=0.2, layer_dropout=0.2)

    whole = network()
    train_text(whole, args, train, held, tmp_path / "whole.pt", lambda report: None)

    monkeypatch.setattr("models.networks.text_training.SAVED_EVERY_S", 0.0)

    def stop(done, total):
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_text(network(), args, train, held, tmp_path / "c.pt", lambda report: None, stop)
    again, seen = network(), []
    train_text(
        again, args, train, held, tmp_path / "c.pt", lambda report: None,
        lambda done, total: seen.append(done),
    )  # fmt: skip
    assert seen[0] == 18  # the step before the interruption was saved, the one in hand was not
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with pytest.raises(ArtefactError, match="identity"):
        train_text(
            network(), replace(args, seed=1), train, held, tmp_path / "c.pt", lambda report: None
        )


def test_with_too_little_time_the_rate_falls_to_zero_by_its_end(tmp_path, monkeypatch):
    train, held = _task(200, 1), _task(64, 2)
    args, now, rates = replace(ARGS, epochs=4), [0.0], []
    torch.manual_seed(4)
    network = TextEncoder(TINY)
    budget = Budget(20.0, lambda: now[0])
    step = torch.optim.AdamW.step

    def watched(self, *given, **named):
        rates.append(self.param_groups[0]["lr"] / ARGS.learning_rate)
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)

    def tick(done, total):
        now[0] += 1.0

    told = []
    trained = train_text(
        network, args, train, held, tmp_path / "c.pt", told.append, tick, within=budget
    )
    assert (trained.steps, trained.planned) == (20, 52)
    assert [one.epoch for one in told] == [1, 2]
    # warmed up over three steps, then by the time: a clock that has moved by k of 20
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 0.9], abs=0.06)
    assert rates[10:] == pytest.approx([1 - k / 20 for k in range(9, 19)], abs=0.06)
    # whoever has more time goes on from there
    seen = []
    more = train_text(
        network, args, train, held, tmp_path / "c.pt", told.append,
        lambda done, total: seen.append(done),
    )  # fmt: skip
    assert (seen[0], more.steps, more.made) == (21, 52, 32)
    with pytest.raises(UsageError, match="time: found none left for a step"):
        train_text(
            network, replace(args, epochs=1), train, held, tmp_path / "d.pt", told.append,
            within=Budget(1e-9),
        )  # fmt: skip


def test_batches_hold_every_sentence_once_and_little_padding():
    some = _task(203, 1)
    args = TextArgs(batch=16)
    made = list(batches(some, args, 0))
    assert sum(len(y) for _, y in made) == 203
    rows = sorted(tuple(r[r > 0].tolist()) for x, _ in made for r in x)
    assert rows == sorted(tuple(r[r > 0].tolist()) for r in some.x)
    for x, y in made:
        assert int(x[:, -1].max()) > 0  # no wider than its longest sentence
        assert x.dtype == y.dtype == torch.int64
    padding = sum(int((x == 0).sum()) for x, _ in made)
    assert padding < 0.2 * int(some.lengths.sum())
    rest = list(batches(some, args, 0, skipped=5))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(made[5:], rest, strict=True))
    other = list(batches(some, args, 1))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(made, other, strict=False))


def test_the_loss_weighs_by_depth_and_the_last_exit_teaches():
    assert exit_weights(3, 1.0) == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    assert exit_weights(4, 0.0) == (0.25,) * 4
    torch.manual_seed(0)
    scores = [torch.randn(5, 2, requires_grad=True) for _ in range(3)]
    y = torch.tensor([0, 1, 1, 0, 1])
    apart = [torch.nn.functional.cross_entropy(s, y) for s in scores]
    plain = joint_loss(scores, y, replace(ARGS, distilled=0.0))
    assert torch.allclose(plain, sum(k / 6 * a for k, a in zip((1, 2, 3), apart, strict=True)))
    # an exit that says what the last one says learns nothing from it but the labels
    same = [scores[2].detach().clone() for _ in range(3)]
    taught = joint_loss(same, y, replace(ARGS, distilled=0.5))
    assert torch.allclose(taught, (0.5 * 1 / 6 + 0.5 * 2 / 6 + 3 / 6) * apart[2])
    # what early exits are told does not pull at the last one
    joint_loss(scores, y, ARGS).backward()
    assert scores[2].grad is not None
    assert torch.allclose(
        scores[2].grad, torch.autograd.grad(3 / 6 * apart[2], scores[2])[0], atol=1e-6
    )


def test_arguments_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="epochs: found 0, expected 1 or more"):
        TextArgs(epochs=0)
    with pytest.raises(UsageError, match="distilled: found 1.5, expected 0 up to 1"):
        TextArgs(distilled=1.5)


def test_no_sentences_cannot_be_judged(tiny):
    none = Sentences(np.zeros((0, 4), np.uint16), np.zeros(0, np.uint8))
    with pytest.raises(UsageError, match="sentences: found none"):
        judge_text(tiny, none)


def test_correlation_is_matthews():
    labels = np.array([1, 1, 1, 1, 0, 0])
    said = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1], labels])
    found = Judged(np.eye(2, dtype=np.float32)[said], labels)
    assert found.accuracies == pytest.approx((4 / 6, 4 / 6, 1.0))
    # (3 * 1 - 1 * 1) / sqrt(4 * 4 * 2 * 2)
    assert found.correlations == pytest.approx((0.25, 0.0, 1.0))
