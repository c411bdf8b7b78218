"""BranchyNet's joint training: one loss, the weighted sum of every exit's cross-entropy.

(Teerapittayanon et al., ICPR 2016, section III-B.) Seeded, resumable after every epoch, and judged
on pictures held back from training; the test pictures are not seen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts import ArtefactError, UsageError, atomic_write
from models.branchy import BranchySpec
from models.datasets import Pictures
from models.networks.network import BranchyNetwork

CHECKPOINT_VERSION = 1


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


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Per-channel mean and standard deviation of pictures in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, pictures: Pictures) -> Normalisation:
        """Measured on `pictures`."""
        flat = pictures.x.reshape(-1, 3)
        mean = flat.mean(axis=0, dtype=np.float64) / 255.0
        std = flat.std(axis=0, dtype=np.float64) / 255.0
        m, s = [round(float(v), 4) for v in mean], [round(float(v), 4) for v in std]
        return cls((m[0], m[1], m[2]), (s[0], s[1], s[2]))

    def apply(self, x: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Pictures (N, H, W, 3) uint8 as the network's float32 input (N, 3, H, W)."""
        pictures = torch.as_tensor(x).permute(0, 3, 1, 2).float() / 255.0
        return (pictures - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[
            :, None, None
        ]


def train(
    spec: BranchySpec,
    args: TrainingArgs,
    pictures: Pictures,
    held_back: Pictures,
    checkpoint: Path,
    report: Callable[[EpochReport], None],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> BranchyNetwork:
    """Train `spec` jointly; continue from `checkpoint` if it holds the same run.

    `report` is called after every epoch, `step` after every batch. The checkpoint is rewritten
    after every epoch, so an interrupted run loses at most one.
    """
    if len(args.exit_weights) != len(spec.exits):
        raise UsageError(
            f"exit weights: found {len(args.exit_weights)}, expected {len(spec.exits)} "
            f"(one per exit of '{spec.name}')"
        )
    torch.manual_seed(args.seed)
    network = BranchyNetwork(spec, batch_norm=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    normalisation = Normalisation.of(pictures)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=args.learning_rate,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=True,
    )
    steps = math.ceil(len(pictures) / args.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: _one_cycle(done / (steps * args.epochs))
    )
    first = _resume(checkpoint, args, spec, network, optimiser, schedule)
    for epoch in range(first, args.epochs):
        loss = _epoch(network, optimiser, schedule, args, normalisation, pictures, epoch, step)
        accuracies = exit_accuracies(network, normalisation, held_back)
        _save(checkpoint, args, spec, network, optimiser, schedule, epoch + 1)
        report(EpochReport(epoch + 1, args.epochs, loss, accuracies))
    return network


def exit_accuracies(
    network: BranchyNetwork, normalisation: Normalisation, pictures: Pictures, batch: int = 500
) -> tuple[float, ...]:
    """Share of `pictures` that every exit answers correctly (float32, no augmentation)."""
    network.eval()
    correct = np.zeros(len(network.spec.exits))
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            x = normalisation.apply(pictures.x[start : start + batch])
            y = torch.from_numpy(pictures.y[start : start + batch].astype(np.int64))
            for i, logits in enumerate(network(x)):
                correct[i] += float((logits.argmax(1) == y).sum())
    return tuple(float(c) for c in correct / len(pictures))


def _epoch(
    network: BranchyNetwork,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    args: TrainingArgs,
    normalisation: Normalisation,
    pictures: Pictures,
    epoch: int,
    step: Callable[[int, int], None],
) -> float:
    network.train()
    rng = np.random.default_rng([args.seed, epoch])
    torch.manual_seed(args.seed * 100_003 + epoch)
    order = rng.permutation(len(pictures))
    total, starts = 0.0, range(0, len(order), args.batch)
    for done, start in enumerate(starts, 1):
        index = order[start : start + args.batch]
        x = normalisation.apply(augment(pictures.x[index], rng, args.cutout))
        y = torch.from_numpy(pictures.y[index].astype(np.int64))
        x = x.contiguous(memory_format=torch.channels_last)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            outputs = network(x)
        loss = torch.zeros(())
        for weight, logits in zip(args.exit_weights, outputs, strict=True):
            loss = loss + weight * nn.functional.cross_entropy(logits.float(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(index)
        step(done, len(starts))
    return total / len(order)


def augment(
    x: npt.NDArray[np.uint8], rng: np.random.Generator, cutout: int
) -> npt.NDArray[np.uint8]:
    """Random 4-pixel shifts (reflected edges), mirror images and a blanked square."""
    count, side = len(x), x.shape[1]
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    rows = rng.integers(0, 9, count)[:, None] + np.arange(side)
    columns = rng.integers(0, 9, count)[:, None] + np.arange(side)
    mirrored = rng.random(count) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    shifted: npt.NDArray[np.uint8] = padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    if cutout:
        centre = rng.integers(0, side, (2, count))
        inside = [np.abs(np.arange(side) - c[:, None]) * 2 < cutout for c in centre]
        shifted[inside[0][:, :, None] & inside[1][:, None, :]] = 128
    return shifted


def _one_cycle(progress: float) -> float:
    if progress < 0.2:
        return 0.05 + 0.95 * progress / 0.2
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - 0.2) / 0.8)))


def _identity(args: TrainingArgs, spec: BranchySpec) -> dict[str, str]:
    return {"args": repr(asdict(args)), "network": spec.digest}


def _save(
    path: Path,
    args: TrainingArgs,
    spec: BranchySpec,
    network: BranchyNetwork,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    state = {
        "format_version": CHECKPOINT_VERSION,
        "identity": _identity(args, spec),
        "epoch": epoch,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
    }
    with atomic_write(path, "wb") as stream:
        torch.save(state, stream)


def _resume(
    path: Path,
    args: TrainingArgs,
    spec: BranchySpec,
    network: BranchyNetwork,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    if not path.exists():
        return 0
    try:
        # weights_only: torch's restricted reader, which builds tensors and plain data, no code
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise ArtefactError(
            path, found=f"an unreadable file ({type(error).__name__})", expected="a checkpoint"
        ) from None
    if state.get("identity") != _identity(args, spec):
        raise ArtefactError(
            path,
            field="identity",
            found=str(state.get("identity", {}).get("args")),
            expected=f"{asdict(args)} (or remove the file to start anew)",
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])
