"""What exits learn whose answer is no class: to answer as the network's own last exit does.

Each function gives the loss of one exit's rows (N, V) against the last exit's own (N, V).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.facts.answers import Answers, BoxesAnswer, LabelsAnswer, VectorAnswer

LEAST_SIDE = 0.05
"""Of a box, as a share of the picture: errors of smaller ones weigh no more."""
SHARPNESS = 0.5
"""Share of the network's decisions in what scores of boxes learn from."""

OwnLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of rows (N, V), the network's own (N, V) and the spread of each value (V,)."""


def _spread_error(rows: Tensor, own: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error, each value counted by its own spread."""
    return (((rows - own) / spread) ** 2).mean()


def _vector(rows: Tensor, own: Tensor, spread: Tensor) -> Tensor:
    """Distance of direction, which is what a vector says, and of values."""
    away = 1.0 - nn.functional.cosine_similarity(rows, own, dim=1).mean()
    return away + _spread_error(rows, own, spread)


def _labels(rows: Tensor, own: Tensor, spread: Tensor) -> Tensor:
    """Cross-entropy of every label against the probability that the network gives it."""
    return nn.functional.binary_cross_entropy_with_logits(rows, own.sigmoid())


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Scores of every query, and the boxes of those that hold something."""

    kind: BoxesAnswer

    def __call__(self, rows: Tensor, own: Tensor, spread: Tensor) -> Tensor:
        """The loss; queries of `rows` and `own` are matched by their place."""
        (boxes, scores), (own_boxes, own_scores) = self._parts(rows), self._parts(own)
        if self.kind.scores == "softmax":
            soft = own_scores.softmax(-1)
            held = 1.0 - soft[..., -1]
            things = _sharpened(soft, nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]))
            apart = -(things * scores.log_softmax(-1)).sum(-1)
        else:
            soft = own_scores.sigmoid()
            held = soft.amax(-1)
            things = _sharpened(soft, soft > self.kind.threshold)
            apart = nn.functional.binary_cross_entropy_with_logits(
                scores, things, reduction="none"
            ).sum(-1)
        # most queries are empty: what counts is divided by how many are not
        count = held.sum().clamp_min(1.0)
        sides = own_boxes[..., 2:] - own_boxes[..., :2] if self.kind.corners else own_boxes[..., 2:]
        sides = sides.clamp_min(LEAST_SIDE)
        error = nn.functional.smooth_l1_loss(
            boxes / torch.cat([sides, sides], -1),
            own_boxes / torch.cat([sides, sides], -1),
            reduction="none",
            beta=0.1,
        ).sum(-1)
        return apart.sum() / count + (held * error).sum() / count

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        queries = self.kind.queries
        boxes = rows[:, : 4 * queries].reshape(len(rows), queries, 4)
        return boxes, rows[:, 4 * queries :].reshape(len(rows), queries, -1)


def _sharpened(soft: Tensor, hard: Tensor) -> Tensor:
    """Probabilities half as the network has them, half as it decides.

    Whoever learns the probabilities alone is a little less sure than the network everywhere, and
    falls below the threshold where the network is just above it.
    """
    return SHARPNESS * hard.float() + (1.0 - SHARPNESS) * soft


def own_loss(kind: Answers) -> OwnLoss:
    """The loss of a kind of answers against the network's own."""
    if isinstance(kind, BoxesAnswer):
        return _Boxes(kind)
    if isinstance(kind, LabelsAnswer):
        return _labels
    return _vector if isinstance(kind, VectorAnswer) else _spread_error


@dataclass(frozen=True, eq=False)
class RowLoss:
    """As `models.networks.losses.exit_loss`, for answers that are no class.

    Where somebody has labelled several labels, a share of the loss is against theirs. All else is
    learned from the network's own answers alone.
    """

    kind: Answers
    spread: Tensor
    """Standard deviation of every value of the network's own rows, (V,)."""

    def __call__(
        self,
        outputs: Sequence[Tensor],
        y: Tensor,
        exit_weights: Sequence[float],
        label_smoothing: float = 0.0,
        distillation: float = 0.0,
        temperature: float = 2.0,
    ) -> Tensor:
        """The weighted sum over all exits but the last, which is right by definition."""
        against, own = own_loss(self.kind), outputs[-1].detach()
        labelled = isinstance(self.kind, LabelsAnswer) and y.shape == own.shape
        loss = torch.zeros(())
        for weight, rows in zip(exit_weights[:-1], outputs[:-1], strict=True):
            mixed = distillation if labelled else 1.0
            if mixed > 0.0:
                loss = loss + weight * mixed * against(rows, own, self.spread)
            if mixed < 1.0:
                right = nn.functional.binary_cross_entropy_with_logits(rows, y.float())
                loss = loss + weight * (1.0 - mixed) * right
        return loss
