"""Blocks of the trunk that an exit has for itself: a copy that is trained, while the trunk stays.

An exit that hangs after a block reads features that were made for later layers. With blocks of its
own it leaves the trunk a few blocks earlier, and computes a copy of them whose weights its training
may change. The model's own answers stay what they were, and whoever goes past that exit computes
the model's blocks, not the exit's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.capture.exits import candidate_points
from models.capture.graph import CapturedModel, Cut

LEARNING_SHARE = 0.1
"""Of the heads' learning rate, for weights that were trained before."""


class OwnBlocks(nn.Module):
    """A trained copy of a captured model's operations from one cut to another.

    `forward` takes the tensor that crosses at the first and gives what crosses at the second.
    Normalisations keep their statistics.
    """

    learning_share = LEARNING_SHARE

    def __init__(self, model: CapturedModel, start: Cut, stop: Cut) -> None:
        """Copy the weights of `model` that its operations between `start` and `stop` read."""
        super().__init__()
        read = {name for at in range(start.at, stop.at) for name in model.reads(at)}
        self.names = tuple(sorted(read & model.trainable))
        # a parameter's name in torch holds no dot
        self.weights = nn.ParameterList(
            [nn.Parameter(model.constants[name].detach().clone()) for name in self.names]
        )
        self._model, self._start, self._stop = model, start, stop

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) at the second cut of (N, ...) at the first."""
        own = self._model.with_constants(dict(zip(self.names, self.weights, strict=True)))
        given = own.run(self._start.at, self._stop.at, {self._start.crossings[0].name: x})
        return given[self._stop.crossings[0].name]

    def extra_repr(self) -> str:
        """Which operations, in a printed module."""
        return f"operations [{self._start.at}, {self._stop.at})"


def block_starts(model: CapturedModel) -> tuple[int, ...]:
    """The operations that blocks begin with.

    A block is what one numbered part of the module computes (`layers.3`, `features.12`, the first
    number of its path), or one part without a number. What holds no weights goes with the block
    before it.
    """
    found: list[int] = []
    before: str | None = None
    for at, operation in enumerate(model.operations):
        if not any(name in model.trainable for name in model.reads(at)):
            continue
        block = _block_of(operation.module)
        if block != before:
            found.append(at)
        before = block
    return tuple(found)


def _block_of(path: str) -> str:
    parts = path.split(".")
    numbers = [k for k, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else path


def blocks_before(model: CapturedModel, points: Sequence[Cut], count: int) -> tuple[Cut, ...]:
    """For each of `points`, where an exit leaves the trunk that has `count` blocks of its own.

    A point stays where it is when there is no place so far before it, or when the exit before it
    leaves the trunk there already.
    """
    starts = block_starts(model)
    found: list[Cut] = []
    candidates = candidate_points(model)
    for point in points:
        begun = [at for at in starts if at < point.at]
        least = found[-1].at + 1 if found else 0
        first = begun[-count] if 0 < count <= len(begun) else point.at
        places = [cut for cut in candidates if least <= cut.at <= first]
        found.append(places[-1] if places else point)
    return tuple(found)
