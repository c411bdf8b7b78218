"""BranchyNet's joint training: one loss, the weighted sum of every exit's cross-entropy.

(Teerapittayanon et al., ICPR 2016, section III-B.) Seeded, resumable after every epoch, and judged
on pictures held back from training; the test pictures are not seen here.
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
from models.networks.checkpoints import resume, save_checkpoint
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
    checkpoint: Path,
    report: Callable[[EpochReport], None],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train `network` jointly; continue from `checkpoint` if it is this run's.

    A network gives a list of logits, says how many (`exit_count`) and what it is (`identity`).
    `report` is called after every epoch, `step` after every batch, of those of all epochs. The
    checkpoint is rewritten after every epoch, so an interrupted run loses at most one.

    `args` say how long, how fast and from which seed; `data` gives batches and what is held back.
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
        network, optimiser, schedule, {"args": repr(asdict(args)), "network": network.identity}
    )
    for epoch in range(resume(checkpoint, run.identity, run.parts), args.epochs):
        loss = _epoch(run, args, data, epoch, step)
        accuracies = exit_accuracies(network, data.held_back())
        save_checkpoint(checkpoint, run.identity, run.parts, epoch + 1)
        report(EpochReport(epoch + 1, args.epochs, loss, accuracies))


def exit_accuracies(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, ...]:
    """Share of the pictures in `batches` that every exit answers correctly (float32)."""
    network.eval()
    correct: npt.NDArray[np.float64] | None = None
    count = 0
    with torch.inference_mode():
        for x, y in batches:
            found = np.array([float((o.argmax(1) == y).sum()) for o in network(x)])
            correct = found if correct is None else correct + found
            count += len(y)
    return () if correct is None else tuple(float(c) for c in correct / count)


def _groups(network: nn.Module, args: TrainingArgs) -> list[dict[str, Any]]:
    """Parameters with the L2 penalty, and those without where `decay_vectors` is off."""
    matrices = [p for p in network.parameters() if p.dim() > 1 or args.decay_vectors]
    vectors = [p for p in network.parameters() if p.dim() <= 1 and not args.decay_vectors]
    return [{"params": matrices}] + ([{"params": vectors, "weight_decay": 0.0}] if vectors else [])


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
        loss = torch.zeros(())
        for weight, logits in zip(args.exit_weights, outputs, strict=True):
            loss = loss + weight * nn.functional.cross_entropy(
                logits.float(), y, label_smoothing=args.label_smoothing
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

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps, by name."""
        return {
            "network": self.network, "optimiser": self.optimiser, "schedule": self.schedule,
        }  # fmt: skip
