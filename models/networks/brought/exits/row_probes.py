"""Linear probes of places in a network whose answer is no class: which rows can be predicted there.

Ridge regression from pooled features to the network's own rows, held back samples judged as any
answer is. Where the queries of boxes lie as the cells of a map, each cell is predicted from its own
features, by the same weights everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.capture.box_heads import BOX, grid_of
from models.capture.exits import Probe, pooled, ridge_weights
from models.capture.graph import CapturedModel, Cut
from models.facts.answers import Answers, BoxesAnswer

Batch = tuple[Tensor, Tensor]
RIDGE = 1e-2


@dataclass(frozen=True, eq=False)
class RowTargets:
    """How rows are predicted from features: as a whole, or query by query of a grid."""

    answers: Answers
    mean: Tensor
    """Of the network's own rows, (V,)."""
    spread: Tensor
    """Their standard deviation, (V,)."""

    def features(self, value: Tensor) -> Tensor:
        """(N, P, D) of a tensor at a place: P is 1, or the cells of the grid; a constant 1 last."""
        grid = self._grid(value)
        if grid is None:
            found = pooled(value)[:, None]
        else:
            cells = nn.functional.adaptive_avg_pool2d(value, grid)
            # a cell and what lies around it
            wide = nn.functional.avg_pool2d(cells, 3, 1, 1)
            found = torch.cat([cells, wide], 1).flatten(2).transpose(1, 2)
        return torch.cat([found, torch.ones(*found.shape[:2], 1)], dim=2)

    def targets(self, own: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted of the network's own rows (N, V): (N, P, K), and weights (N, P).

        A cell that holds something weighs as much as all those that hold nothing.
        """
        scaled = (own - self.mean) / self.spread
        if self._grid(value) is None:
            return scaled[:, None], torch.ones(len(own), 1)
        cells = self._cells(scaled)
        held = self._held(own)
        share = held.mean().clamp(1e-3, 0.5)
        return cells, torch.where(held > 0.5, 1.0 / share, torch.ones(()))

    def rows(self, predicted: Tensor) -> Tensor:
        """Rows (N, V) of what was predicted, (N, P, K)."""
        if predicted.shape[1] > 1:
            predicted = torch.cat(
                [predicted[..., :BOX].flatten(1), predicted[..., BOX:].flatten(1)], 1
            )
        return predicted.reshape(len(predicted), -1) * self.spread + self.mean

    def _grid(self, value: Tensor) -> tuple[int, int] | None:
        if not isinstance(self.answers, BoxesAnswer) or self.answers.queries < 2:
            return None
        return grid_of(self.answers.queries, tuple(value.shape[1:]))

    def _cells(self, rows: Tensor) -> Tensor:
        assert isinstance(self.answers, BoxesAnswer)
        queries = self.answers.queries
        boxes = rows[:, : BOX * queries].reshape(len(rows), queries, BOX)
        return torch.cat([boxes, rows[:, BOX * queries :].reshape(len(rows), queries, -1)], 2)

    def _held(self, own: Tensor) -> Tensor:
        """How likely every query of rows (N, V) holds something, (N, Q)."""
        assert isinstance(self.answers, BoxesAnswer)
        scores = self._cells(own)[..., BOX:]
        if self.answers.scores == "softmax":
            return 1.0 - scores.softmax(-1)[..., -1]
        return scores.sigmoid().amax(-1)


def probe_rows(
    model: CapturedModel,
    points: Sequence[Cut],
    train: Iterable[Batch],
    held_back: Iterable[Batch],
    cost: Callable[[Cut], float],
    goals: RowTargets,
    quality: Callable[[Tensor, Tensor], Tensor],
) -> list[Probe]:
    """Mean quality of a linear probe's rows at every point, on held-back samples.

    `points` are cuts of `model`. `train` and `held_back` give batches of inputs (N, ...) and what
    is right of them; `cost` prices a point. `goals` says how rows are predicted,
    `quality` how good they are.
    """
    gram: dict[int, Tensor] = {}
    moment: dict[int, Tensor] = {}
    for x, _ in train:
        values, own = _through(model, points, x)
        for at, value in values:
            f = goals.features(value).double()
            predicted, weight = goals.targets(own, value)
            weighted = f * weight.double()[..., None]
            left = weighted.flatten(0, 1).T
            gram[at] = gram.get(at, 0.0) + left @ f.flatten(0, 1)
            moment[at] = moment.get(at, 0.0) + left @ predicted.double().flatten(0, 1)
    weights = ridge_weights(gram, moment, RIDGE)
    good, total = dict.fromkeys(weights, 0.0), 0
    for x, y in held_back:
        total += len(y)
        for at, value in _through(model, points, x)[0]:
            predicted = (goals.features(value).double() @ weights[at]).float()
            good[at] += float(quality(goals.rows(predicted), y).sum())
    return [Probe(p, good[p.at] / max(total, 1), cost(p)) for p in points]


def _through(
    model: CapturedModel, points: Sequence[Cut], x: Tensor
) -> tuple[list[tuple[int, Tensor]], Tensor]:
    """What is at every point for a batch, and the network's own rows."""
    found = []
    with torch.inference_mode():
        at, tensors = 0, {model.input.name: x}
        for point in points:
            tensors = model.run(at, point.at, tensors)
            at = point.at
            found.append((at, tensors[point.crossings[0].name]))
        own = model.run(at, len(model), tensors)[model.output.name]
    return found, own
