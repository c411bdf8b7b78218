"""Batches for training: pictures augmented by seed and epoch, and those held back for choices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data.datasets import Pictures, Samples
from models.facts.preprocessing import PictureInput, Preprocessing, Raw

Batch = tuple[Tensor, Tensor]
MOST_PIXELS = 2**20
"""Of pictures that are computed together where nobody trains on them."""


class TrainingData(Protocol):
    """Where training takes its batches from: inputs (N, 3, H, W) float32, classes (N,) int64."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """One epoch's batches; the same for the same seed and epoch, whatever ran before."""

    def held_back(self) -> Iterator[Batch]:
        """The pictures every choice is made on, as they are."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Per-channel mean and standard deviation of pictures in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def preprocessing(self) -> PictureInput:
        """The same for a card: the device does it without torch."""
        return PictureInput(self.mean, self.std)

    @classmethod
    def of(cls, pictures: Pictures) -> Normalisation:
        """Measured on `pictures`."""
        # by histogram: exact, and no copy of half a gigabyte as floats
        levels, m, s = np.arange(256) / 255.0, [], []
        for channel in range(3):
            share = np.bincount(pictures.x[..., channel].ravel(), minlength=256).astype(float)
            share /= share.sum()
            mean = float(share @ levels)
            m.append(round(mean, 4))
            s.append(round(float(np.sqrt(share @ (levels - mean) ** 2)), 4))
        return cls((m[0], m[1], m[2]), (s[0], s[1], s[2]))

    def apply(self, x: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Pictures (N, H, W, 3) uint8 as the network's float32 input (N, 3, H, W)."""
        return self.scale(torch.as_tensor(x).permute(0, 3, 1, 2).float() / 255.0)

    def scale(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) within [0, 1] as the network's input."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        # some captured models look at memory as it lies, and expect it channels first
        return ((x - mean[:, None, None]) / std[:, None, None]).contiguous()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Raw samples of any kind as a network's input, by the card's own preprocessing."""

    preprocessing: Preprocessing

    def apply(self, x: Raw) -> Tensor:
        """Raw samples (N, ...) as the network's float32 input."""
        return torch.from_numpy(self.preprocessing.apply(x))


@dataclass(frozen=True)
class PlainSamples:
    """Samples as they are, each epoch in another order: of what is no picture."""

    pictures: Samples
    kept: Samples
    batch: int
    seed: int
    given: Prepared

    @property
    def steps(self) -> int:
        """Batches of an epoch; a last one of a single sample is left out (batch normalisation)."""
        count = len(self.pictures)
        return count // self.batch + (count % self.batch > 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches in a new order."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pictures))
        for step in range(self.steps):
            index = order[step * self.batch : (step + 1) * self.batch]
            yield self.given.apply(self.pictures.x[index]), _targets(self.pictures.y[index])

    def held_back(self) -> Iterator[Batch]:
        """The held-back samples."""
        yield from plain_batches(self.kept, self.given)


@dataclass(frozen=True)
class SmallPictures:
    """CIFAR-sized pictures: shifts, mirror images, a blanked square."""

    pictures: Pictures
    kept: Pictures
    batch: int
    seed: int
    cutout: int
    given: Prepared | Normalisation | None = None
    """What the network expects, where it is not measured on the pictures trained on."""

    @cached_property
    def normalisation(self) -> Prepared | Normalisation:
        """What was given, else of the pictures trained on."""
        return self.given or Normalisation.of(self.pictures)

    @property
    def steps(self) -> int:
        """Batches of an epoch; a last one of a single picture is left out (batch normalisation)."""
        count = len(self.pictures)
        return count // self.batch + (count % self.batch > 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Augmented batches in a new order."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.pictures))
        for step in range(self.steps):
            index = order[step * self.batch : (step + 1) * self.batch]
            x = self.normalisation.apply(augment(self.pictures.x[index], rng, self.cutout))
            yield x, torch.from_numpy(self.pictures.y[index].astype(np.int64))

    def held_back(self) -> Iterator[Batch]:
        """The held-back pictures, normalised as those trained on."""
        yield from plain_batches(self.kept, self.normalisation)


@dataclass(frozen=True)
class CameraPictures:
    """Camera-sized pictures: random crops scaled to the epoch's side, mirror images, light.

    `sizes` gives (epochs, side) in order; the last side serves every epoch beyond them.
    """

    pictures: Pictures
    kept: Pictures
    batch: int
    seed: int
    sizes: Sequence[tuple[int, int]]
    least_share: float = 0.35
    """Smallest share of the picture's area that a crop keeps (Szegedy et al. 2015: 0.08)."""

    @cached_property
    def normalisation(self) -> Normalisation:
        """Of the pictures trained on."""
        return Normalisation.of(self.pictures)

    @property
    def steps(self) -> int:
        """Batches of an epoch; the last, smaller one is left out (batch normalisation)."""
        return len(self.pictures) // self.batch

    def side(self, epoch: int) -> int:
        """Side of the pictures of an epoch."""
        for epochs, side in self.sizes:
            if epoch < epochs:
                return side
            epoch -= epochs
        return self.sizes[-1][1]

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Augmented batches in a new order."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.pictures))
        side = self.side(epoch)
        for step in range(self.steps):
            index = order[step * self.batch : (step + 1) * self.batch]
            crops = [self._crop(self.pictures.x[i], side, rng) for i in index]
            light = rng.uniform(0.75, 1.25, (len(index), 1, 1, 1)).astype(np.float32)
            x = torch.stack(crops) * torch.from_numpy(light)
            x = self.normalisation.scale(x.clamp(0.0, 1.0))
            yield x, torch.from_numpy(self.pictures.y[index].astype(np.int64))

    def _crop(self, picture: npt.NDArray[np.uint8], side: int, rng: np.random.Generator) -> Tensor:
        height, width = picture.shape[:2]
        area = rng.uniform(self.least_share, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        h = min(height, max(1, round(height * math.sqrt(area / ratio))))
        w = min(width, max(1, round(width * math.sqrt(area * ratio))))
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        part = picture[top : top + h, left : left + w]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        x = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float() / 255.0
        resized = torch.nn.functional.interpolate(
            x, (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        return resized[0]

    def held_back(self) -> Iterator[Batch]:
        """The held-back pictures at full size."""
        yield from plain_batches(self.kept, self.normalisation, 100)


def plain_batches(
    pictures: Samples, normalisation: Normalisation | Prepared, batch: int = 500
) -> Iterator[Batch]:
    """All pictures in order, normalised and not augmented; large ones in smaller batches."""
    batch = max(1, min(batch, MOST_PIXELS // math.prod(pictures.x.shape[1:3])))
    for start in range(0, len(pictures), batch):
        y = _targets(pictures.y[start : start + batch])
        yield normalisation.apply(pictures.x[start : start + batch]), y


def _targets(y: npt.NDArray[Any]) -> Tensor:
    """Labels as torch takes them: classes and labels as whole numbers, all else as float32."""
    return torch.from_numpy(y.astype(np.float32 if y.dtype.kind == "f" else np.int64))


def augment(
    x: npt.NDArray[np.uint8], rng: np.random.Generator, cutout: int
) -> npt.NDArray[np.uint8]:
    """Random 4-pixel shifts (reflected edges), mirror images and a blanked square."""
    count, height, width = (int(n) for n in x.shape[:3])
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    rows = rng.integers(0, 9, count)[:, None] + np.arange(height)
    columns = rng.integers(0, 9, count)[:, None] + np.arange(width)
    mirrored = rng.random(count) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    shifted: npt.NDArray[np.uint8] = padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    if cutout:
        inside = []
        for side in (height, width):
            centre = rng.integers(0, side, count)
            inside.append(np.abs(np.arange(side) - centre[:, None]) * 2 < cutout)
        shifted[inside[0][:, :, None] & inside[1][:, None, :]] = 128
    return shifted
