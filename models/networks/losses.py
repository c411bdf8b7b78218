"""The loss of a branchy network: cross-entropy at every exit, and the last exit's own answers.

Self-distillation (Phuong and Lampert, "Distillation-based training for multi-exit architectures",
ICCV 2019): an earlier exit learns from the scores of the last one, which say of every class how
likely it is, beside the labels, which name one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


def exit_loss(
    outputs: Sequence[Tensor],
    y: Tensor,
    exit_weights: Sequence[float],
    label_smoothing: float = 0.0,
    distillation: float = 0.0,
    temperature: float = 2.0,
) -> Tensor:
    """The weighted sum of the exits' losses for a batch.

    `outputs` are logits (N, classes) of every exit, the last one last; `y` (N,) the classes;
    `exit_weights` one number an exit. `label_smoothing` is the share of a target that is spread
    over all classes. `distillation` (0 to 1) is the share of an earlier exit's loss that is its
    distance from the last exit's answers, both divided by `temperature`; the last exit learns from
    `y` alone.
    """
    loss = torch.zeros(())
    last = len(outputs) - 1
    soft = nn.functional.softmax(outputs[last].detach().float() / temperature, dim=1)
    for k, (weight, logits) in enumerate(zip(exit_weights, outputs, strict=True)):
        mixed = 0.0 if k == last else distillation
        if mixed < 1.0:
            own = nn.functional.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
            loss = loss + weight * (1.0 - mixed) * own
        if mixed > 0.0:
            # the square keeps the size of the gradients (Hinton et al. 2015, section 2)
            apart = nn.functional.cross_entropy(logits.float() / temperature, soft)
            loss = loss + weight * mixed * temperature**2 * apart
    return loss


class ExitLoss(Protocol):
    """What training minimises: as `exit_loss`, of rows of any kind and what is right of them."""

    def __call__(
        self,
        outputs: Sequence[Tensor],
        y: Tensor,
        exit_weights: Sequence[float],
        label_smoothing: float = 0.0,
        distillation: float = 0.0,
        temperature: float = 2.0,
    ) -> Tensor:
        """The weighted sum of the exits' losses; parameters are those of `exit_loss`."""


@dataclass(frozen=True, slots=True)
class Marking:
    """What is right of an exit's rows: what training minimises, and what chooses the best epoch."""

    loss: ExitLoss
    quality: Callable[[Tensor, Tensor], Tensor]
    """0 to 1 for each of N rows (N, V), by what is right of them (N, ...)."""


def _top_one(rows: Tensor, y: Tensor) -> Tensor:
    return (rows.argmax(1) == y).float()


CLASS_MARKING = Marking(exit_loss, _top_one)
"""Of networks that give one class."""
