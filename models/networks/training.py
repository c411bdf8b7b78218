"""BranchyNet's joint training: one loss, the weighted sum of every exit's cross-entropy.

(Teerapittayanon et al., ICPR 2016, section III-B.) Seeded, resumable after every epoch, and judged
on pictures held back from training; the test pictures are not seen here. The weights that stay are
those of the epoch that did best on the held-back pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.networks.best_epoch import BestEpoch
from models.networks.checkpoints import resume, save_checkpoint
from models.networks.losses import CLASS_MARKING, Marking
from models.networks.training_data import TrainingData


@dataclass(frozen=True, slots=True)
class TrainingArgs:
    """Everything that decides a training run."""

    epochs: int = 60
    """Passes over the training pictures."""
    batch: int = 128
    """Pictures per step."""
    learning_rate: float = 0.05
    """Peak of the one-cycle schedule (linear warm-up over a fifth, cosine to zero)."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 5e-4
    """L2 penalty of every parameter."""
    exit_weights: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5, 1.0)
    """Weight of every exit's cross-entropy in the joint loss."""
    cutout: int = 8
    """Side of the square blanked in each training picture (DeVries and Taylor 2017)."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    decay_vectors: bool = True
    """Whether biases and normalisations are penalised too."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Camera-sized pictures: (epochs, side) in order; small pictures first, they cost less."""
    bfloat16: bool = True
    """Compute convolutions in bfloat16 during training; the weights stay float32."""
    seed: int = 0
    """Seeds initialisation, order and augmentation."""
    distillation: float = 0.0
    """Share of an earlier exit's loss that is its distance from the last exit's own answers."""
    temperature: float = 2.0
    """That both answers are divided by before they are compared (Hinton et al. 2015)."""
    patience: int = 0
    """Epochs without a better one, in the second half, after which training ends; 0: never."""
    keep_start: bool = False
    """Whether what was there before the first epoch stays where no epoch does better."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch gave: mean loss, and every exit's accuracy on the held-back pictures."""

    epoch: int
    epochs: int
    loss: float
    accuracies: tuple[float, ...]


def train(
    network: nn.Module,
    args: TrainingArgs,
    data: TrainingData,
    checkpoint: Path | None,
    report: Callable[[EpochReport], None],
    step: Callable[[int, int], None] = lambda done, total: None,
    marking: Marking = CLASS_MARKING,
) -> None:
    """Train `network` jointly; continue from `checkpoint` if it is this run's.

    A network gives a list of logits, says how many (`exit_count`) and what it is (`identity`).
    `report` is called after every epoch, `step` after every batch, of those of all epochs. The
    checkpoint is rewritten after every epoch, so an interrupted run loses at most one; without one
    nothing is kept. `network` ends with the weights of its best epoch (`BestEpoch`).

    `args` say how long, how fast and from which seed; `data` gives batches and what is held back;
    `marking` says what is right.
    """
    exits = int(network.exit_count)  # type: ignore[arg-type]
    if len(args.exit_weights) != exits:
        raise UsageError(
            f"exit weights: found {len(args.exit_weights)}, expected {exits} "
            f"(one per exit of '{network.identity}')"
        )
    if getattr(network, "channels_last", True):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        _groups(network, args),
        lr=args.learning_rate,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=True,
    )
    total = data.steps * args.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: _one_cycle(done / total))
    run = _Run(
        network,
        optimiser,
        schedule,
        {"args": asdict(args), "network": network.identity},
        BestEpoch(args.exit_weights),
        marking,
    )
    done = 0 if checkpoint is None else resume(checkpoint, run.identity, run.parts)
    if args.keep_start and not done:
        run.best.see(0, network, exit_accuracies(network, data.held_back(), marking), math.inf)
    for epoch in range(done, args.epochs):
        # the first half of the schedule is the fast one: what is learned shows in the second
        if args.patience and epoch - max(run.best.epoch, args.epochs // 2) >= args.patience:
            break
        loss = _epoch(run, args, data, epoch, step)
        accuracies = exit_accuracies(network, data.held_back(), marking)
        run.best.see(epoch + 1, network, accuracies, loss)
        if checkpoint is not None:
            save_checkpoint(checkpoint, run.identity, run.parts, epoch + 1)
        report(EpochReport(epoch + 1, args.epochs, loss, accuracies))
    run.best.restore(network)


def exit_accuracies(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    marking: Marking = CLASS_MARKING,
) -> tuple[float, ...]:
    """Mean quality of every exit of `network` over `batches`, in float32: of classes the share of
    the pictures that it answers correctly, of anything else what `marking` says.
    """
    network.eval()
    correct: npt.NDArray[np.float64] | None = None
    count = 0
    with torch.inference_mode():
        for x, y in batches:
            found = np.array([float(marking.quality(o, y).sum()) for o in network(x)])
            correct = found if correct is None else correct + found
            count += len(y)
    return () if correct is None else tuple(float(c) for c in correct / count)


def _groups(network: nn.Module, args: TrainingArgs) -> list[dict[str, Any]]:
    """Parameters with the L2 penalty, and those without where `decay_vectors` is off.

    A part that says `learning_share` is a copy of trained operations: it learns at that share of
    the rate.
    """
    slow = {
        id(p): float(part.learning_share)  # type: ignore[arg-type]
        for part in network.modules()
        if hasattr(part, "learning_share")
        for p in part.parameters()
    }
    whole = [p for p in network.parameters() if id(p) not in slow]
    matrices = [p for p in whole if p.dim() > 1 or args.decay_vectors]
    vectors = [p for p in whole if p.dim() <= 1 and not args.decay_vectors]
    groups: list[dict[str, Any]] = [{"params": matrices}]
    groups += [{"params": vectors, "weight_decay": 0.0}] if vectors else []
    for share in sorted(set(slow.values())):
        copied = [p for p in network.parameters() if slow.get(id(p)) == share]
        groups.append({"params": copied, "lr": share * args.learning_rate})
    return groups


def _epoch(
    run: _Run, args: TrainingArgs, data: TrainingData, epoch: int, step: Callable[[int, int], None]
) -> float:
    network = run.network
    network.train()
    torch.manual_seed(args.seed * 100_003 + epoch)
    total, count = 0.0, 0
    for done, (x, y) in enumerate(data.epoch(epoch), 1):
        if getattr(network, "channels_last", True):
            x = x.contiguous(memory_format=torch.channels_last)
        run.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            outputs = network(x)
        loss = run.marking.loss(
            outputs, y, args.exit_weights, args.label_smoothing, args.distillation, args.temperature
        )
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimiser.step()
        run.schedule.step()
        total += float(loss.detach()) * len(y)
        count += len(y)
        step(epoch * data.steps + done, args.epochs * data.steps)
    return total / count


def _one_cycle(progress: float) -> float:
    if progress < 0.2:
        return 0.05 + 0.95 * progress / 0.2
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - 0.2) / 0.8)))


@dataclass(frozen=True, slots=True)
class _Run:
    """What a checkpoint holds, and the run it belongs to."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    identity: dict[str, Any]
    best: BestEpoch
    marking: Marking

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps, by name."""
        return {
            "network": self.network, "optimiser": self.optimiser, "schedule": self.schedule,
            "best": self.best,
        }  # fmt: skip
