"""Labelled pictures for training and judging, from the data folder; splits by seed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError, data_directory
from artefacts.arrays import read_npz

HELD_BACK_SHARE = 0.1


UNLABELLED: npt.NDArray[np.uint8] = np.zeros((0, 0), dtype=np.uint8)
"""In the place of labels: there are none."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled samples: `x` (N, ...) as a network's preprocessing takes them, `y` (N, ...) labels.

    Pictures are uint8 (N, H, W, 3); classes are uint8 (uint16 above 256 of them), (N,). `classes`:
    names of the classes, where they are known. `path`: the file that labels were read from.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    classes: tuple[str, ...] = ()
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: npt.NDArray[np.int64]) -> Samples:
        """The samples at `indices`, in that order."""
        return Samples(self.x[indices], self.y[indices], self.classes)


Pictures = Samples


def cifar10(part: str, folder: Path | None = None) -> Pictures:
    """CIFAR-10 'train' (50,000) or 'test' (10,000) in the published order (Krizhevsky 2009)."""
    root = folder or data_directory()
    if root is None or not (root / "cifar10").is_dir():
        raise UsageError(
            "CIFAR-10: found no data folder, expected 'cifar10/' in ../shared/data or in the "
            "folder named by COINFER_DATA"
        )
    names = ["test.npz"] if part == "test" else [f"train-{i}.npz" for i in range(3)]
    parts = [_read(root / "cifar10" / name) for name in names]
    return Pictures(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))


def _read(path: Path) -> Pictures:
    x, y = _named(path, "x", "y")
    if x.ndim != 4 or x.shape[1:] != (32, 32, 3) or x.dtype != np.uint8 or len(x) != len(y):
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}", expected="uint8 (N, 32, 32, 3)"
        )
    return Pictures(x, y)


def imagenette(
    part: str,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pictures:
    """Imagenette 'train' (9,469) or 'val' (3,925), 144x144, decoded (Howard; ILSVRC 2015).

    Every picture was squashed to a square and stored as a JPEG of quality 75.
    """
    place = imagenette_folder(folder)
    names = ["val-0.npz"] if part == "val" else [f"train-{i}.npz" for i in range(2)]
    files = [_read_jpegs(place / name) for name in names]
    total, decoded = sum(len(labels) for _, labels in files), []
    for (jpegs, _), name in zip(files, names, strict=True):
        for number, jpeg in enumerate(jpegs):
            decoded.append(_decode(place / name, number, jpeg))
            if len(decoded) % 500 == 0:
                progress(len(decoded), total)
    return Pictures(np.stack(decoded), np.concatenate([labels for _, labels in files]))


def imagenette_folder(folder: Path | None = None) -> Path:
    """Where Imagenette lies; refuses a machine without it."""
    root = folder or data_directory()
    if root is None or not (root / "imagenette").is_dir():
        raise UsageError(
            "Imagenette: found no data folder, expected 'imagenette/' in ../shared/data or in the "
            "folder named by COINFER_DATA"
        )
    return root / "imagenette"


def judged_pictures(dataset: str) -> Pictures | None:
    """The labelled pictures that outcomes of `dataset` were recorded on, where they are here."""
    root = data_directory()
    for name, folder, part in (("CIFAR-10 test", "cifar10", "test"),
                               ("Imagenette validation", "imagenette", "val")):  # fmt: skip
        if dataset.startswith(name) and root is not None and (root / folder).is_dir():
            return cifar10(part) if folder == "cifar10" else imagenette(part)
    return None


IMAGENETTE_SIDE = 144


def _named(path: Path, *names: str) -> list[npt.NDArray[Any]]:
    """Arrays of a data set's file."""
    arrays = read_npz(path, f"an npz with the arrays {', '.join(names)}", names)
    for name in names:
        if name not in arrays:
            raise ArtefactError(path, field=name, found="nothing", expected="an array")
    return [arrays[name] for name in names]


def _read_jpegs(path: Path) -> tuple[list[bytes], npt.NDArray[np.uint8]]:
    data, offsets, labels = _named(path, "data", "offsets", "labels")
    fits = len(offsets) == len(labels) + 1 and len(labels) > 0 and offsets[-1] == len(data)
    if not fits or np.any(np.diff(offsets) <= 0):
        raise ArtefactError(
            path,
            field="offsets",
            found=f"{len(offsets)} offsets up to {offsets[-1] if len(offsets) else 'none'}",
            expected=f"{len(labels) + 1} rising ones up to {len(data)}",
        )
    whole = data.tobytes()
    return [whole[a:b] for a, b in itertools.pairwise(offsets.tolist())], labels


def _decode(path: Path, number: int, jpeg: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            picture = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise ArtefactError(
            path, field=f"data, picture {number}", found=str(error), expected="a JPEG"
        ) from None
    if picture.shape != (IMAGENETTE_SIDE, IMAGENETTE_SIDE, 3):
        raise ArtefactError(
            path,
            field=f"data, picture {number}",
            found=f"{picture.shape[1]}x{picture.shape[0]} pixels",
            expected=f"{IMAGENETTE_SIDE}x{IMAGENETTE_SIDE}",
        )
    return picture


def judging_half(
    pictures: Pictures, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which pictures train and choose, and which judge a model that is brought: drawn by `seed`.

    In the order drawn: whoever takes the first few takes some of every class.
    """
    order = np.random.default_rng(seed).permutation(len(pictures))
    middle = len(pictures) // 2
    return order[:middle], order[middle:]


def hold_back(pictures: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """Split training pictures by `seed` into what is trained on and the 10 % every choice uses."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = round(HELD_BACK_SHARE * len(pictures))
    return pictures.take(np.sort(order[held:])), pictures.take(np.sort(order[:held]))
