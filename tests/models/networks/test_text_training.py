from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from artefacts import ArtefactError, UsageError
from models.data.sentences import Sentences
from models.networks.text import TextEncoder, TextShape
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


def _task(count, seed):
    """Whether more of a sentence's tokens are high than low."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, TINY.vocabulary, (count, TINY.length)).astype(np.uint16)
    ids[np.arange(TINY.length) >= rng.integers(1, TINY.length + 1, (count, 1))] = 0
    high, low = (ids > 20).sum(1), ((ids > 0) & (ids <= 20)).sum(1)
    return Sentences(ids, (high > low).astype(np.uint8), ("low", "high"))


ARGS = TextArgs(epochs=6, batch=16, learning_rate=3e-3, head_rate=1e-2)


def test_every_exit_learns_and_the_best_epoch_is_kept(tmp_path):
    torch.manual_seed(4)
    network = TextEncoder(TINY, dropout=0.1)
    heard, steps = [], []
    train, held = _task(512, 1), _task(256, 2)
    trained = train_text(
        network, ARGS, train, held, tmp_path / "c.pt", heard.append,
        lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert steps == [(k + 1, 192) for k in range(192)]
    assert [one.epoch for one in heard] == list(range(1, 7))
    assert heard[-1].loss < heard[0].loss
    weights = exit_weights(3, ARGS.depth)
    scores = [sum(w * a for w, a in zip(weights, t.accuracies, strict=True)) for t in heard]
    best = trained.best_epoch
    assert best == int(np.argmax(scores)) + 1
    assert (trained.steps, trained.planned, trained.made) == (192, 192, 192)
    accuracies = judge_text(network, held).accuracies
    assert accuracies == heard[best - 1].accuracies
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

    heard = []
    trained = train_text(
        network, args, train, held, tmp_path / "c.pt", heard.append, tick, within=budget
    )
    assert (trained.steps, trained.planned) == (20, 52)
    assert [one.epoch for one in heard] == [1, 2]
    # warmed up over three steps, then by the time: a clock that has moved by k of 20
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 0.9], abs=0.06)
    assert rates[10:] == pytest.approx([1 - k / 20 for k in range(9, 19)], abs=0.06)
    # whoever has more time goes on from there
    seen = []
    more = train_text(
        network, args, train, held, tmp_path / "c.pt", heard.append,
        lambda done, total: seen.append(done),
    )  # fmt: skip
    assert (seen[0], more.steps, more.made) == (21, 52, 32)
    with pytest.raises(UsageError, match="time: found none left for a step"):
        train_text(
            network, replace(args, epochs=1), train, held, tmp_path / "d.pt", heard.append,
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
    # what early exits learn does not pull at the last one
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


def test_no_sentences_cannot_be_judged():
    none = Sentences(np.zeros((0, 4), np.uint16), np.zeros(0, np.uint8))
    with pytest.raises(UsageError, match="sentences: found none"):
        judge_text(TextEncoder(TINY), none)


def test_correlation_is_matthews():
    labels = np.array([1, 1, 1, 1, 0, 0])
    said = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1], labels])
    found = Judged(np.eye(2, dtype=np.float32)[said], labels)
    assert found.accuracies == pytest.approx((4 / 6, 4 / 6, 1.0))
    # (3 * 1 - 1 * 1) / sqrt(4 * 4 * 2 * 2)
    assert found.correlations == pytest.approx((0.25, 0.0, 1.0))
