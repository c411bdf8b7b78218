"""Labelled pictures for training and judging: CIFAR-10 from the data folder, splits by seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError, data_directory

HELD_BACK_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures: `x` uint8 (N, H, W, 3), `y` uint8 (N,)."""

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: npt.NDArray[np.int64]) -> Pictures:
        """The pictures at `indices`, in that order."""
        return Pictures(self.x[indices], self.y[indices])


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
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="a CIFAR-10 npz") from None
    except (KeyError, ValueError, OSError) as error:
        raise ArtefactError(path, found=str(error), expected="arrays x and y") from None
    if x.ndim != 4 or x.shape[1:] != (32, 32, 3) or x.dtype != np.uint8 or len(x) != len(y):
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}", expected="uint8 (N, 32, 32, 3)"
        )
    return Pictures(x, y)


def hold_back(pictures: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """Split training pictures by `seed` into what is trained on and the 10 % every choice uses."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = round(HELD_BACK_SHARE * len(pictures))
    return pictures.take(np.sort(order[held:])), pictures.take(np.sort(order[:held]))
