"""What a frozen trunk gives the heads of its exits, computed once for all epochs that train them.

Only the heads are trained: every pass of a picture through the trunk gives the same tensors. A few
augmentations of each picture are run through it, and what reaches the heads is kept in a file.
Epochs take the augmentations in turn, each in an order of its own.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artefacts.arrays import Float32s, Ints
from models.capture.exits import WithExits
from models.networks.training_data import Batch, PlainSamples, SmallPictures

AUGMENTATIONS = 3
"""Augmentations of each picture."""
MOST_BYTES = 8 * 2**30
"""Of the file: a trunk whose tensors need more is run in every epoch."""
MOST_PASSES = 12_000
"""Of pictures through the trunk: many pictures need no augmentation beside their own number."""
FEW_PIXELS = 2**18
"""Of pictures that pass the trunk together: more of them leave the processor's caches."""


class HeadsAlone(nn.Module):
    """Heads of a model with exits, on rows of what reaches them and of what the model answered."""

    channels_last = False

    def __init__(self, whole: WithExits, heads: Sequence[Sequence[nn.Module]] = ()) -> None:
        """`heads` are several for each exit, one exit after the other (none: those of `whole`)."""
        super().__init__()
        several = heads or [[head] for head in whole.heads]
        self.heads = nn.ModuleList(head for of_exit in several for head in of_exit)
        self._counts = [len(of_exit) for of_exit in several]
        self.exit_count = len(self.heads) + 1
        self.identity = f"{whole.identity}, on features kept of {AUGMENTATIONS} augmentations"
        self._shapes = [p.crossings[0].shape for p in whole.points]
        self._classes = int(whole.model.output.shape[-1])

    @property
    def apart(self) -> nn.ModuleList:
        """The modules that are trained each by itself, an exit after the other."""
        return self.heads

    def forward(self, rows: Tensor) -> list[Tensor]:
        """Logits (N, classes) of every head, and last the model's own, for rows (N, values)."""
        widths = [math.prod(shape) for shape in self._shapes]
        *parts, own = torch.split(rows, [*widths, self._classes], dim=1)
        heads = iter(self.heads)
        found = []
        for part, shape, count in zip(parts, self._shapes, self._counts, strict=True):
            value = part.reshape(len(rows), *shape)
            found += [next(heads)(value) for _ in range(count)]
        return [*found, own]


class KeptFeatures:
    """Batches of rows for `HeadsAlone`; the trunk is run when the first is asked for."""

    def __init__(
        self, whole: WithExits, data: SmallPictures | PlainSamples, folder: Path, augmentations: int
    ) -> None:
        """`folder` is where the file lies, `augmentations` how many of each picture are kept."""
        self._whole, self._data, self._path, self._augmentations = (
            whole,
            data,
            folder / "features",
            augmentations,
        )
        self._width = row_values(whole)
        self._labels: list[Ints] = []
        self.progress: Callable[[int, int], None] = lambda done, total: None
        """Called while the trunk is run, with how many of its passes are done."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self._data.steps

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """One epoch's batches: of the next augmentation, in a new order."""
        self._fill()
        augmentation, batch = epoch % self._augmentations, self._data.batch
        labels = self._labels[augmentation]
        order = np.random.default_rng([self._data.seed, epoch]).permutation(len(labels))
        for step in range(self.steps):
            yield self.rows(augmentation, order[step * batch : (step + 1) * batch])

    def held_back(self) -> Iterator[Batch]:
        """The held-back pictures, as they are."""
        self._fill()
        count = len(self._labels[self._augmentations])
        for start in range(0, count, self._data.batch):
            yield self.rows(
                self._augmentations, np.arange(start, min(start + self._data.batch, count))
            )

    def count(self, augmentation: int) -> int:
        """How many pictures an augmentation has rows of."""
        self._fill()
        return len(self._labels[augmentation])

    def rows(self, part: int, index: Ints) -> Batch:
        """Rows of an augmentation, or (behind the augmentations) of the held-back pictures.

        `index` numbers its pictures, in the order of that augmentation.
        """
        self._fill()
        before = sum(len(labels) for labels in self._labels[:part])
        rows = np.empty((len(index), self._width), dtype=np.float32)
        with self._path.open("rb", buffering=0) as stream:
            for row, k in zip(rows, index, strict=True):
                stream.seek(4 * self._width * (before + int(k)))
                stream.readinto(row.data)
        return torch.from_numpy(rows), torch.from_numpy(self._labels[part][index])

    def _fill(self) -> None:
        if self._labels:
            return
        data, done = self._data, 0
        total = self._augmentations * data.steps + 1
        with self._path.open("wb") as stream:
            for part in range(self._augmentations + 1):
                held = part == self._augmentations
                labels = []
                for x, y in data.held_back() if held else data.epoch(part):
                    for rows in self._features(x):
                        stream.write(rows.tobytes())
                    labels.append(y.numpy())
                    done += not held
                    self.progress(done, total)
                self._labels.append(np.concatenate(labels))
        self.progress(total, total)

    def _features(self, x: Tensor) -> Iterator[Float32s]:
        """Rows of a batch, a few pictures at a time."""
        model, few = self._whole.model, max(1, FEW_PIXELS // math.prod(x.shape[2:]))
        for part in torch.split(x, few):
            found, at, tensors = [], 0, {model.input.name: part}
            with torch.inference_mode():
                for point in self._whole.points:
                    tensors = model.run(at, point.at, tensors)
                    at = point.at
                    found.append(tensors[point.crossings[0].name].flatten(1))
                found.append(model.run(at, len(model), tensors)[model.output.name])
                yield torch.cat(found, dim=1).numpy()


def row_values(whole: WithExits) -> int:
    """How many values of a picture are kept: what reaches the heads, and the model's answer."""
    heads = sum(math.prod(p.crossings[0].shape) for p in whole.points)
    return heads + int(whole.model.output.shape[-1])


def augmentations_that_fit(
    whole: WithExits, data: SmallPictures | PlainSamples, epochs: int, folder: Path
) -> int:
    """How many augmentations of the pictures may be kept in a folder; 0 where none fits.

    `whole` says how large one of a picture is, `data` how many pictures there are. More of them
    than `epochs` serve nobody; `folder` is where the file would lie.
    """
    room = min(MOST_BYTES, shutil.disk_usage(folder).free // 2)
    row = 4 * row_values(whole)
    count = max(len(data.pictures), 1)
    return min(
        1 if isinstance(data, PlainSamples) else AUGMENTATIONS,  # they are what they are
        epochs,
        max(1, MOST_PASSES // count),
        (room - row * len(data.kept)) // (row * count),
    )
