"""Fine-tuning of a text encoder with exits: one loss, weighted by depth; the last exit teaches.

Every exit's cross-entropy counts by its depth, as in BranchyNet's joint training; each exit but
the last also learns what the last one says (self-distillation, Zhang et al. 2019). Seeded,
resumable after every `SAVED_EVERY_S`, judged on sentences held back from training.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.data.sentences import Sentences
from models.networks.checkpoints import resume, save_checkpoint
from models.networks.text import TextEncoder
from models.networks.training import EpochReport

SAVED_EVERY_S = 180.0
SORTED_TOGETHER = 50
"""Batches whose sentences are drawn at once and sorted by length: little is padding then."""
JUDGED_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class TextArgs:
    """Everything that decides a fine-tuning run."""

    epochs: int = 1
    """Passes over the sentences."""
    repeated: int = 2
    """How often a pass has each sentence that is cut out of no other; a phrase it has once."""
    batch: int = 64
    """Sentences per step."""
    learning_rate: float = 1e-4
    """Peak for the encoder: linear warm-up, then linear to zero."""
    head_rate: float = 1e-3
    """The same for the exits' heads, which begin with nothing."""
    warm_up: float = 0.06
    """Share of the steps that warm up."""
    weight_decay: float = 0.01
    """Of matrices (AdamW)."""
    dropout: float = 0.1
    """Of what heads score."""
    layer_dropout: float = 0.0
    """Of what layers add to their input: with 0.1 a step takes a fifth longer (measured)."""
    distilled: float = 0.5
    """Share of an early exit's loss that the last exit's scores give; 0: labels alone."""
    temperature: float = 2.0
    """Both exits' scores are divided by it where one learns from the other."""
    depth: float = 1.0
    """An exit's weight is its depth (1, 2, ...) to this power; 0: all weigh the same."""
    seed: int = 0
    """Seeds heads, order and dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "repeated"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("distilled", "dropout", "layer_dropout", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected 0 up to 1")


@dataclass(frozen=True, slots=True)
class Judged:
    """What every exit says of labelled sentences: scores (exits, N, classes), labels (N,)."""

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Share of the sentences that every exit answers correctly."""
        right = self.scores.argmax(2) == self.labels
        return tuple(float(one) for one in right.mean(axis=1))

    @property
    def correlations(self) -> tuple[float, ...]:
        """Matthews' correlation of every exit's answers with two classes of labels (CoLA's)."""
        return tuple(_matthews(one.argmax(1), self.labels) for one in self.scores)


@dataclass(frozen=True, slots=True)
class Trained:
    """How far a run came."""

    best_epoch: int
    """The one whose weights were kept, from 1."""
    steps: int
    """That were made, in this call and before it."""
    planned: int
    """Steps of all epochs."""
    made: int
    """Steps of this call."""


class Budget:
    """The seconds that a call may take, from now on: the rate is at most the share that is left."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self._begun_s = clock()

    @property
    def left(self) -> float:
        """Share of the time that is left, 0 to 1."""
        return max(0.0, 1.0 - (self.clock() - self._begun_s) / self.seconds)


@dataclass
class _Best:
    """The network as it was after its best epoch; a part of a checkpoint."""

    score: float = -1.0
    epoch: int = 0
    state: dict[str, Tensor] | None = None

    def take(
        self,
        network: nn.Module,
        accuracies: tuple[float, ...],
        weights: tuple[float, ...],
        epoch: int,
    ) -> None:
        """Keep the network where its exits are better than they were."""
        score = sum(w * a for w, a in zip(weights, accuracies, strict=True))
        if score > self.score:
            self.score, self.epoch = score, epoch
            self.state = copy.deepcopy(network.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "epoch": self.epoch, "state": self.state}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        self.score, self.epoch, self.state = kept["score"], kept["epoch"], kept["state"]


@dataclass(frozen=True, slots=True)
class _Run:
    network: TextEncoder
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    best: _Best

    @property
    def parts(self) -> dict[str, Any]:
        return {
            "network": self.network, "optimiser": self.optimiser, "schedule": self.schedule,
            "best": self.best,
        }  # fmt: skip


def exit_weights(exits: int, depth: float) -> tuple[float, ...]:
    """Weights of the exits' losses, rising with depth; they add up to 1."""
    raised = [(k + 1.0) ** depth for k in range(exits)]
    return tuple(one / sum(raised) for one in raised)


def train_text(
    network: TextEncoder,
    args: TextArgs,
    sentences: Sentences,
    held: Sentences,
    checkpoint: Path,
    report: Callable[[EpochReport], None],
    step: Callable[[int, int], None] = lambda done, total: None,
    *,
    within: Budget | None = None,
) -> Trained:
    """Fine-tune `network` on `sentences` as `args` say.

    It is left as after the epoch whose exits were best on `held`, by their accuracies' mean,
    weighted as the losses. Continues from `checkpoint` if it is this run's; `report` hears of every
    epoch, `step` of every step of all. `within`: the time that the call may take; where it is too
    short for all steps, the rate falls to zero by its end.
    """
    steps = -(-len(sentences) // args.batch)
    total = steps * args.epochs
    optimiser = torch.optim.AdamW(_groups(network, args), fused=True)
    within = within or Budget(math.inf)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: min(_planned(args, done, total), within.left)
    )
    run = _Run(network, optimiser, schedule, _Best())
    identity = {
        "args": asdict(args), "network": network.identity, "sentences": len(sentences),
    }  # fmt: skip
    begun = done = resume(checkpoint, identity, run.parts)
    saved_s = time.monotonic()
    losses: list[float] = []
    network.train()
    while done < total and within.left > 0:
        epoch = done // steps
        for x, y in batches(sentences, args, epoch, done - epoch * steps):
            # seeded anew: a run that goes on drops what it would have dropped
            torch.manual_seed(args.seed * 1_000_003 + done)
            losses.append(_step(run, args, x, y))
            done += 1
            step(done, total)
            if within.left <= 0:
                break
            if time.monotonic() - saved_s > SAVED_EVERY_S and done % steps:
                save_checkpoint(checkpoint, identity, run.parts, done)
                saved_s = time.monotonic()
        judged = judge_text(network, held).accuracies
        run.best.take(network, judged, exit_weights(network.exit_count, args.depth), epoch + 1)
        save_checkpoint(checkpoint, identity, run.parts, done)
        saved_s = time.monotonic()
        report(EpochReport(epoch + 1, args.epochs, float(np.mean(losses)), judged))
        losses.clear()
        network.train()
    if run.best.state is None:
        raise UsageError("time: found none left for a step, expected some")
    network.load_state_dict(run.best.state)
    network.eval()
    return Trained(run.best.epoch, done, total, done - begun)


def _planned(args: TextArgs, done: int, total: int) -> float:
    """Share of the peak rate after so many steps: up while warming, then down to zero."""
    warm = max(1, round(args.warm_up * total))
    return min((done + 1) / warm, (total - done) / max(1, total - warm))


def batches(
    sentences: Sentences, args: TextArgs, epoch: int, skipped: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of `epoch`, ids (N, L) and classes (N,), from the one numbered `skipped` on.

    `sentences` of about one length lie together, each batch no wider than its longest one; order by
    the seed in `args` and the epoch, whatever ran before.
    """
    rng = np.random.default_rng([args.seed, epoch])
    order, lengths = rng.permutation(len(sentences)), sentences.lengths
    together = SORTED_TOGETHER * args.batch
    made: list[npt.NDArray[np.int64]] = []
    for begin in range(0, len(order), together):
        some = order[begin : begin + together]
        some = some[np.argsort(lengths[some], kind="stable")]
        made += [some[k : k + args.batch] for k in range(0, len(some), args.batch)]
    for number in rng.permutation(len(made))[skipped:].tolist():
        yield _tensors(sentences, made[number], int(lengths[made[number]].max()))


def judge_text(
    network: TextEncoder,
    sentences: Sentences,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judged:
    """Scores by every exit of `network` for `sentences`, in their order; `progress` hears of each
    batch.
    """
    network.eval()
    lengths = sentences.lengths
    order = np.argsort(lengths, kind="stable")
    scores: npt.NDArray[np.float32] | None = None
    with torch.inference_mode():
        for begin in range(0, len(order), JUDGED_TOGETHER):
            some = order[begin : begin + JUDGED_TOGETHER]
            given = network(_tensors(sentences, some, int(lengths[some].max()))[0])
            found = torch.stack(given).numpy()
            if scores is None:
                scores = np.empty((len(found), len(order), found.shape[2]), dtype=np.float32)
            scores[:, some] = found
            progress(min(begin + JUDGED_TOGETHER, len(order)), len(order))
    if scores is None:
        raise UsageError("sentences: found none, expected one or more")
    return Judged(scores, sentences.y.astype(np.int64))


def _tensors(
    sentences: Sentences, index: npt.NDArray[np.int64], length: int
) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(sentences.x[index, :length].astype(np.int64))
    return ids, torch.from_numpy(sentences.y[index].astype(np.int64))


def _step(run: _Run, args: TextArgs, x: Tensor, y: Tensor) -> float:
    run.optimiser.zero_grad(set_to_none=True)
    loss = joint_loss(run.network(x), y, args)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimiser.step()
    run.schedule.step()
    return float(loss.detach())


def joint_loss(outputs: list[Tensor], y: Tensor, args: TextArgs) -> Tensor:
    """The exits' losses, weighted by depth: scores (N, classes) of each, classes `y` (N,)."""
    warm = args.temperature
    taught = nn.functional.log_softmax(outputs[-1].detach() / warm, 1)
    loss = torch.zeros(())
    for k, weight in enumerate(exit_weights(len(outputs), args.depth)):
        one = nn.functional.cross_entropy(outputs[k], y)
        if args.distilled and k < len(outputs) - 1:
            said = nn.functional.log_softmax(outputs[k] / warm, 1)
            apart = nn.functional.kl_div(said, taught, reduction="batchmean", log_target=True)
            one = (1 - args.distilled) * one + args.distilled * warm**2 * apart
        loss = loss + weight * one
    return loss


def _groups(network: TextEncoder, args: TextArgs) -> list[dict[str, Any]]:
    """Encoder and heads, each with matrices that decay and vectors that do not."""
    groups = []
    for heads, rate in ((False, args.learning_rate), (True, args.head_rate)):
        named = [p for n, p in network.named_parameters() if n.startswith("heads.") == heads]
        for matrices, decay in ((True, args.weight_decay), (False, 0.0)):
            some = [p for p in named if (p.dim() > 1) == matrices]
            groups.append({"params": some, "lr": rate, "weight_decay": decay})
    return groups


def _matthews(said: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    counts = np.zeros((2, 2))
    np.add.at(counts, (said, labels), 1.0)
    rows, columns = counts.sum(1), counts.sum(0)
    below = float(np.sqrt(rows.prod() * columns.prod()))
    across = counts[0, 0] * counts[1, 1] - counts[0, 1] * counts[1, 0]
    return float(across / below) if below else 0.0
