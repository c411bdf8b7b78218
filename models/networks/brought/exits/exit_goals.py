"""What exits that are put into a module are to answer: its heads, what they learn, who judges.

A module that gives one class has exits of class scores. A module that gives anything else has exits
whose rows are of the shape of its own, learned from its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.box_heads import box_head_of_kind, box_kinds_for
from models.capture.exits import Probe, default_head, probe_points
from models.capture.graph import CapturedModel, Crossing, Cut
from models.capture.heads import head_of_kind, kinds_for
from models.facts.answers import Answers, BoxesAnswer
from models.facts.judges import Judge, judged
from models.networks.brought.exits.row_losses import RowLoss
from models.networks.brought.exits.row_probes import RowTargets, probe_rows
from models.networks.losses import CLASS_MARKING, Marking

Batch = tuple[Tensor, Tensor]
LEAST_SPREAD = 1e-4
"""Of a value that is the same for all samples."""


class ExitGoal(Protocol):
    """What exits are to answer."""

    @property
    def marking(self) -> Marking:
        """What their training minimises, and how good an answer is."""

    @property
    def learning_rate(self) -> float:
        """Peak rate of the heads' training."""

    @property
    def identity(self) -> str:
        """In words that tell runs apart."""

    def kinds(self, crossing: Crossing) -> tuple[str, ...]:
        """Kinds of heads that fit what crosses, the usual one first of equals."""

    def head(self, kind: str, crossing: Crossing) -> nn.Module:
        """A new head of a kind."""

    def usual_head(self, crossing: Crossing) -> nn.Module:
        """A new head where nothing is measured."""

    def probes(
        self,
        model: CapturedModel,
        points: Sequence[Cut],
        train: Iterable[Batch],
        held_back: Iterable[Batch],
        cost: Callable[[Cut], float],
    ) -> list[Probe]:
        """What linear probes at `points` of `model` are right of; see `probe_points`.

        `train` and `held_back` give batches, `cost` prices a point.
        """


@dataclass(frozen=True, slots=True)
class ClassGoal:
    """Scores of so many `classes`."""

    classes: int
    marking: Marking = CLASS_MARKING
    learning_rate: float = 0.1
    identity: str = ""

    def kinds(self, crossing: Crossing) -> tuple[str, ...]:
        """Kinds of heads that fit what crosses."""
        return kinds_for(crossing)

    def head(self, kind: str, crossing: Crossing) -> nn.Module:
        """A new head of a kind for what crosses."""
        return head_of_kind(kind, crossing, self.classes)

    def usual_head(self, crossing: Crossing) -> nn.Module:
        """A new head for what crosses."""
        return default_head(crossing, self.classes)

    def probes(
        self,
        model: CapturedModel,
        points: Sequence[Cut],
        train: Iterable[Batch],
        held_back: Iterable[Batch],
        cost: Callable[[Cut], float],
    ) -> list[Probe]:
        """Probes of class scores at `points` of `model`; see `probe_points`.

        `train` and `held_back` give batches, `cost` prices a point.
        """
        return probe_points(model, points, train, held_back, cost)


class RowScale(nn.Module):
    """Brings what a head gives to where the network's own values lie, value by value."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        """Mean and standard deviation of the network's own rows, (V,) each."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        """(N, V) of (N, V)."""
        return x * self.spread + self.mean


class RowGoal:
    """Rows as the module's own, of answers that are no class."""

    def __init__(self, answers: Answers, judge: Judge, own: Tensor) -> None:
        """`answers` says what a row is, `judge` how good one is; `own` (N, V) are some rows that
        the module itself gives.
        """
        if own.dim() != 2 or len(own) < 2:
            raise UsageError(f"exits: found rows of shape {tuple(own.shape)}, expected (N, V)")
        self._answers, self._judge, self._values = answers, judge, int(own.shape[1])
        self._mean, self._spread = own.mean(0), own.std(0).clamp_min(LEAST_SPREAD)
        self.marking = Marking(RowLoss(answers, self._spread), self._quality)
        self.identity = f", answers {answers!r}"
        # of boxes the loss is a sum over few queries that hold something, of all else a mean
        self.learning_rate = 0.1 if isinstance(answers, BoxesAnswer) else 0.02

    def _quality(self, rows: Tensor, y: Tensor) -> Tensor:
        found = judged(self._judge, rows.numpy(), y.numpy())
        return torch.from_numpy(np.ascontiguousarray(found))

    def kinds(self, crossing: Crossing) -> tuple[str, ...]:
        """Kinds of heads that fit what crosses."""
        if isinstance(self._answers, BoxesAnswer):
            return box_kinds_for(crossing, self._answers.queries)
        return kinds_for(crossing)

    def head(self, kind: str, crossing: Crossing) -> nn.Module:
        """A new head of a kind for what crosses; its values begin where the module's own lie."""
        if isinstance(self._answers, BoxesAnswer):
            made = box_head_of_kind(kind, crossing, self._answers.queries, self._values)
        else:
            made = head_of_kind(kind, crossing, self._values)
        return nn.Sequential(made, RowScale(self._mean, self._spread))

    def usual_head(self, crossing: Crossing) -> nn.Module:
        """A new head for what crosses: of boxes the first kind that fits, else one that looks
        around.
        """
        kinds = self.kinds(crossing)
        return self.head("conv" if "conv" in kinds else kinds[0], crossing)

    def probes(
        self,
        model: CapturedModel,
        points: Sequence[Cut],
        train: Iterable[Batch],
        held_back: Iterable[Batch],
        cost: Callable[[Cut], float],
    ) -> list[Probe]:
        """Probes of whole rows at `points` of `model`; see `probe_rows`.

        `train` and `held_back` give batches, `cost` prices a point.
        """
        targets = RowTargets(self._answers, self._mean, self._spread)
        return probe_rows(model, points, train, held_back, cost, targets, self._quality)
