"""Training of the grid detector on drawn shapes: seeded, resumable, the best epoch kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from artefacts import ArtefactError, atomic_write, read_bytes
from artefacts.arrays import Float32s
from models.data.datasets import Samples
from models.data.shapes import Bytes, drawn_shapes
from models.facts.answers import BoxesAnswer
from models.facts.judges import NO_BOX, mean_average_precision
from models.networks.best_epoch import BestEpoch
from models.networks.checkpoints import resume, save_checkpoint
from models.networks.shape_detector import GRID, MEAN, QUERIES, SIDE, STD, ShapeDetector
from models.networks.training import EpochReport
from models.networks.training_data import Normalisation

FOCUS = 2.0
"""Of the focal loss (Lin et al. 2017): easy cells count little."""
BOX_WEIGHT = 2.0
WEIGHTS = "detector.safetensors"
MOST_BYTES = 2**26
ANSWERS = BoxesAnswer(QUERIES, overlap=0.5)
"""What the detector gives."""


@dataclass(frozen=True, slots=True)
class DetectorArgs:
    """Everything that decides a training run."""

    epochs: int = 14
    """Passes over the pictures."""
    pictures: int = 3000
    """Drawn to train on; they come mirrored and turned."""
    batch: int = 32
    """Pictures of a step."""
    learning_rate: float = 4e-3
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    held: int = 300
    """Pictures that the best epoch is chosen by."""
    width: int = 16
    """Channels of the network's first maps."""
    depth: int = 6
    """Its blocks at the grid's size."""
    seed: int = 0
    """Of the weights, the pictures and their order."""


def train_detector(
    args: DetectorArgs,
    folder: Path,
    report: Callable[[EpochReport], None],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> ShapeDetector:
    """A trained detector; `folder` keeps a checkpoint after every epoch, and the weights.

    `args` decide the run; `report` hears of epochs (the accuracy is the mean average precision on
    held-back pictures), `step` of batches done, of all.
    """
    torch.manual_seed(args.seed)
    network = ShapeDetector(width=args.width, depth=args.depth)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay
    )
    steps = args.pictures // args.batch
    total = steps * args.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: _one_cycle(done / total))
    best = BestEpoch((1.0,))
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule, "best": best}
    identity = {"args": asdict(args), "network": repr(network)}
    held = drawn_shapes(args.held, np.random.default_rng([args.seed, 1]), SIDE)
    done = resume(folder / "checkpoint.pt", identity, parts)
    drawn = drawn_shapes(args.pictures, np.random.default_rng([args.seed, 2]), SIDE)
    for epoch in range(done, args.epochs):
        rng = np.random.default_rng([args.seed, 3, epoch])
        order, loss = rng.permutation(len(drawn)), 0.0
        network.train()
        for k in range(steps):
            part = drawn.take(order[k * args.batch : (k + 1) * args.batch])
            loss += _step(network, optimiser, *turned(part.x, part.y, rng)) / steps
            schedule.step()
            step(epoch * steps + k + 1, total)
        found = float(precision(network, held).mean())
        best.see(epoch + 1, network, (found,), loss)
        save_checkpoint(folder / "checkpoint.pt", identity, parts, epoch + 1)
        report(EpochReport(epoch + 1, args.epochs, loss, (found,)))
    best.restore(network)
    network.eval()
    with atomic_write(folder / WEIGHTS, "wb") as stream:
        stream.write(safetensors.torch.save(network.state_dict(), {"args": repr(asdict(args))}))
    return network


def load_detector(folder: Path, width: int = 16, depth: int = 6) -> ShapeDetector:
    """The detector that `train_detector` left in a folder; `width` and `depth` are its own."""
    path = folder / WEIGHTS
    network = ShapeDetector(width=width, depth=depth)
    raw = read_bytes(path, MOST_BYTES, "a detector's weights")
    try:
        network.load_state_dict(safetensors.torch.load(raw))
    except Exception as error:  # whatever safetensors and torch raise of bytes that are none
        raise ArtefactError(
            path,
            found=f"what does not load ({type(error).__name__})",
            expected=f"weights of a detector of width {width}, depth {depth}",
        ) from None
    return network.eval()


def detector_rows(network: nn.Module, samples: Samples, batch: int = 50) -> Float32s:
    """What the detector answers to pictures: rows (N, Q x (4 + C)), as `ANSWERS` reads them.

    `batch` pictures of `samples` are run at once.
    """
    network.eval()
    scaled, rows = Normalisation(MEAN, STD), []
    with torch.inference_mode():
        for start in range(0, len(samples.x), batch):
            found = network(scaled.apply(samples.x[start : start + batch]))
            parts = [found["boxes"].flatten(1), found["scores"].flatten(1)]
            rows.append(torch.cat(parts, 1).numpy())
    return np.concatenate(rows)


def precision(network: nn.Module, samples: Samples) -> Float32s:
    """Mean average precision of each of `samples` (N,), by their labels."""
    found = mean_average_precision(ANSWERS, detector_rows(network, samples), samples.y)
    return found.astype(np.float32)


def detector_loss(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Focal loss of the scores, and of the boxes of cells that hold something their overlap's.

    `boxes` (N, Q, 4) and `scores` (N, Q, C) are the detector's, `labels` (N, M, 5) as drawn.
    """
    wanted, box, held = assigned(labels, scores.shape[-1])
    count = held.sum().clamp_min(1.0)
    p = scores.sigmoid()
    apart = nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    hard = (p - wanted).abs() ** FOCUS
    found, right = boxes[held], box[held]
    error = (found - right).abs().sum(-1) / right[:, 2:].mean(-1).clamp_min(0.05)
    overlap = _overlap(found, right)
    return (hard * apart).sum() / count + BOX_WEIGHT * ((1.0 - overlap) + 0.5 * error).sum() / count


def assigned(labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What every cell is to say of labels (N, M, 5): scores (N, Q, `classes`), boxes (N, Q, 4) of
    centre and size, and which cells hold something (N, Q). Of two in a cell the later one stays.
    """
    count = len(labels)
    wanted = torch.zeros(count, QUERIES, classes)
    box, held = torch.zeros(count, QUERIES, 4), torch.zeros(count, QUERIES, dtype=torch.bool)
    at, which = torch.nonzero(labels[..., 0] != NO_BOX, as_tuple=True)
    number, corners = labels[at, which, 0].long(), labels[at, which, 1:]
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2.0, corners[:, 2:] - corners[:, :2]
    cell = (centre * GRID).long().clamp(0, GRID - 1)
    query = cell[:, 1] * GRID + cell[:, 0]
    wanted[at, query] = 0.0
    wanted[at, query, number] = 1.0
    box[at, query], held[at, query] = torch.cat([centre, size], -1), True
    return wanted, box, held


def turned(x: Bytes, y: Float32s, rng: np.random.Generator) -> tuple[Bytes, Float32s]:
    """Square pictures (N, S, S, 3) and labels (N, M, 5), all mirrored and turned in one way by
    `rng`.
    """
    there = y[..., :1] != NO_BOX
    boxes = y[..., 1:]
    if rng.random() < 0.5:
        x, boxes = x.transpose(0, 2, 1, 3), boxes[..., [1, 0, 3, 2]]
    if rng.random() < 0.5:
        x, boxes = (
            x[:, :, ::-1],
            np.abs(boxes[..., [2, 1, 0, 3]] - np.array([1, 0, 1, 0], np.float32)),
        )
    if rng.random() < 0.5:
        x, boxes = x[:, ::-1], np.abs(boxes[..., [0, 3, 2, 1]] - np.array([0, 1, 0, 1], np.float32))
    labels = np.where(there, np.concatenate([y[..., :1], boxes], -1), np.float32(NO_BOX))
    return np.ascontiguousarray(x), labels.astype(np.float32)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (K,) of boxes (K, 4) of centre and size."""
    low = torch.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = torch.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    shared = (high - low).clamp_min(0.0).prod(-1)
    return shared / (a[:, 2:].prod(-1) + b[:, 2:].prod(-1) - shared).clamp_min(1e-9)


def _step(network: nn.Module, optimiser: torch.optim.Optimizer, x: Bytes, y: Float32s) -> float:
    scaled = Normalisation(MEAN, STD).apply(x).contiguous(memory_format=torch.channels_last)
    found = network(scaled)
    loss = detector_loss(found["boxes"], found["scores"], torch.from_numpy(y))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return float(loss.detach())


def _one_cycle(progress: float) -> float:
    if progress < 0.1:
        return 0.05 + 0.95 * progress / 0.1
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - 0.1) / 0.9)))
