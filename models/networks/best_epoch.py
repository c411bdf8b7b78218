"""The best epoch of a training run: its weights, kept beside those that are still trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from torch import nn


class BestEpoch:
    """Weights of the epoch whose exits were right most often on the held-back pictures.

    The exits count by their weights in the loss. Of equally good epochs the one with the lower
    loss stays. A network whose exits are trained apart (it gives its `apart`: one module an exit,
    whose weights no other exit uses) keeps the best epoch of every exit.
    """

    def __init__(self, exit_weights: Sequence[float]) -> None:
        """`exit_weights` are those of the exits in the loss."""
        self._weights = tuple(exit_weights)
        self.epoch = 0
        """The last epoch (from 1; 0: before the first) that bettered anything."""
        self._scores: list[float] = []
        self._losses: list[float] = []
        self._kept: list[dict[str, Any]] = []

    def see(self, epoch: int, network: nn.Module, accuracies: Sequence[float], loss: float) -> None:
        """Keep the weights of `network` after `epoch` where they are the best so far.

        `accuracies` (0 to 1) are its exits' on the held-back pictures, `loss` is the epoch's.
        """
        parts = _parts(network)
        if len(parts) > 1:
            scores = list(accuracies[: len(parts)])
        else:
            scores = [sum(w * a for w, a in zip(self._weights, accuracies, strict=True))]
        if not self._kept:
            self._scores = [-math.inf] * len(parts)
            self._losses = [math.inf] * len(parts)
            self._kept = [{} for _ in parts]
        for k, (part, score) in enumerate(zip(parts, scores, strict=True)):
            if (score, -loss) > (self._scores[k], -self._losses[k]):
                self.epoch = epoch if score > self._scores[k] else self.epoch
                self._scores[k], self._losses[k] = score, loss
                self._kept[k] = copy.deepcopy(part.state_dict())

    def restore(self, network: nn.Module) -> None:
        """Give `network` the best weights; nothing where none were seen."""
        for part, kept in zip(_parts(network), self._kept, strict=False):
            part.load_state_dict(kept)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "epoch": self.epoch, "scores": self._scores, "losses": self._losses, "kept": self._kept,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.epoch = int(state["epoch"])
        self._scores, self._losses = list(state["scores"]), list(state["losses"])
        self._kept = list(state["kept"])


def _parts(network: nn.Module) -> list[nn.Module]:
    """The modules whose best epochs are kept each by itself: the network, or its exits' own."""
    apart = getattr(network, "apart", None)
    return list(apart) if apart is not None and len(apart) else [network]
