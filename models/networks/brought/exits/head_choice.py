"""Which kind of head every exit gets: the kinds that fit it are trained briefly and compared.

They are judged on pictures that they were not trained on, and priced by their time. A head that
takes 1 % of the network's time more must be right 1 point more often: the network itself goes from
guessing to its accuracy at about that rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from models.capture.exits import WithExits
from models.networks.brought.exits.trunk_features import HeadsAlone, KeptFeatures
from models.networks.losses import CLASS_MARKING, Marking
from models.networks.training import TrainingArgs, exit_accuracies, train
from models.networks.training_data import Batch

CHOICE_STEPS = 120
"""Batches that every kind is trained on at least: fewer tell nothing apart."""
CHOICE_EPOCHS = 6
CHOICE_PICTURES = 2000
"""Rows that the choice looks at, at most."""
HELD_SHARE = 0.25
"""Of those: judged on, beside the pictures that are held back from all training."""
LEAST_SHARE = 0.5
"""Of the best kind's accuracy: what a kind must reach to be chosen for its speed."""
RUNS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of head at one exit, and what it was found to be worth."""

    kind: str
    accuracy: float
    """Share of the pictures it was not trained on that it answers rightly."""
    seconds: float
    """Of one sample on this machine."""


def choose(candidates: Sequence[Candidate], network_s: float) -> int:
    """The candidate whose accuracy, less its share of the network's time, is greatest.

    `network_s` is what the whole network takes, in seconds. Of equals the quicker one stands. A
    kind that is right less than half as often as the best one is left out, however quick: an exit
    that answers nothing rightly is none.
    """
    least = LEAST_SHARE * max(c.accuracy for c in candidates)
    worth = {
        k: c.accuracy - c.seconds / network_s
        for k, c in enumerate(candidates)
        if c.accuracy >= least
    }
    best = max(worth.values())
    equal = [k for k, w in worth.items() if w >= best - 1e-9]
    return min(equal, key=lambda k: candidates[k].seconds)


def said(candidates: Sequence[Candidate], chosen: int, network_s: float) -> str:
    """Why candidate `chosen` was taken, in one line; `network_s` are the network's seconds."""
    parts = ", ".join(
        f"{c.kind} {100 * c.accuracy:.1f} % for {100 * c.seconds / network_s:.1f} % of its time"
        for c in candidates
    )
    return f"head {candidates[chosen].kind} of: {parts}"


class _Part:
    """The first augmentation, a quarter of it held back: nothing else is a choice made on."""

    def __init__(self, kept: KeptFeatures, batch: int, seed: int) -> None:
        self._kept, self._batch, self._seed = kept, batch, seed
        count = min(kept.count(0), CHOICE_PICTURES)
        held = max(1, round(HELD_SHARE * count))
        self._known, self._held = np.arange(count - held), np.arange(count - held, count)

    @property
    def steps(self) -> int:
        count = len(self._known)
        return count // self._batch + (count % self._batch > 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng([self._seed, epoch, 1]).permutation(self._known)
        for step in range(self.steps):
            yield self._kept.rows(0, order[step * self._batch : (step + 1) * self._batch])

    def held_back(self) -> Iterator[Batch]:
        for start in range(0, len(self._held), self._batch):
            yield self._kept.rows(0, self._held[start : start + self._batch])
        yield from self._kept.held_back()


def measured(
    whole: WithExits,
    kinds: Sequence[Sequence[str]],
    heads: Sequence[Sequence[nn.Module]],
    kept: KeptFeatures,
    args: TrainingArgs,
    step: Callable[[int, int], None],
    marking: Marking = CLASS_MARKING,
) -> list[list[Candidate]]:
    """What every kind of head is worth at every exit of `whole`.

    `heads` are untrained ones of the `kinds`, a list for each exit; they are trained here. `kept`
    has the trunk's features. `args` train them, but for other epochs; `step` hears of the batches
    done, of all. `marking` says what is right.
    """
    tried = HeadsAlone(whole, heads)
    count = tried.exit_count
    part = _Part(kept, args.batch, args.seed)
    epochs = max(CHOICE_EPOCHS, math.ceil(CHOICE_STEPS / max(part.steps, 1)))
    few = replace(args, epochs=epochs, exit_weights=(1.0,) * count, patience=0)
    train(tried, few, part, None, lambda now: None, step, marking)  # too short to be gone on with
    accuracies = iter(exit_accuracies(tried, part.held_back(), marking))
    shapes = [p.crossings[0].shape for p in whole.points]
    trained = iter(tried.heads)
    return [
        [Candidate(kind, next(accuracies), head_seconds(next(trained), shape)) for kind in of_exit]
        for of_exit, shape in zip(kinds, shapes, strict=True)
    ]


def head_seconds(head: nn.Module, shape: tuple[int, ...]) -> float:
    """Median seconds of a head on one sample of `shape`, in evaluation mode, on this machine."""
    head.eval()
    x, times = torch.zeros(1, *shape), []
    with torch.inference_mode():
        for _ in range(RUNS):
            begun = time.perf_counter()
            head(x)
            times.append(time.perf_counter() - begun)
    return float(np.median(times))
