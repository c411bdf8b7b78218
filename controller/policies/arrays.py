"""Arrays as they lie in an npz: written the same every time, refused where they make no sense."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, digest_bytes, read_bytes
from artefacts.arrays import Floats, unpack_npz


def packed(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of an npz."""
    buffer = io.BytesIO()
    # fixed dates and order: the same arrays give the same bytes
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            part = io.BytesIO()
            np.save(part, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


MOST_BYTES = 32 * 2**20
"""What a policy's arrays may take, packed or not; shipped ones take 0.1 to 6 MB."""
MOST_CARD_BYTES = 2**20
"""What a policy's card may take; shipped ones take 4 to 10 KB."""


def read_arrays(path: Path, digest: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """Every array of a policy's npz; refused where its bytes have another `digest`."""
    raw = read_bytes(path, MOST_BYTES)
    found = digest_bytes(raw)
    if digest not in (None, found):
        raise ArtefactError(
            path, field="digest", found=f"{found} (cut off or changed)",
            expected=f"{digest}, the card's",
        )  # fmt: skip
    return unpack_npz(path, io.BytesIO(raw), "an npz of arrays", most_bytes=MOST_BYTES)


@dataclass(frozen=True, slots=True)
class Taker:
    """Arrays by name, refused where shape or type is not what the card says."""

    path: Path
    arrays: dict[str, npt.NDArray[Any]]

    def __call__(
        self, name: str, shape: tuple[int, ...] | None, dtype: type = np.float32
    ) -> npt.NDArray[Any]:
        """The array of that name; `shape` None: any number of numbers, one at least."""
        if name not in self.arrays:
            raise ArtefactError(self.path, field=name, found="nothing", expected="an array")
        array = self.arrays[name]
        fits = array.ndim == 1 and len(array) > 0 if shape is None else array.shape == shape
        if not fits or array.dtype != dtype:
            raise ArtefactError(
                self.path,
                field=name,
                found=f"{array.dtype} {array.shape}",
                expected=f"{np.dtype(dtype)} {'(N,)' if shape is None else shape}",
            )
        if not np.isfinite(array).all():
            raise ArtefactError(self.path, field=name, found="NaN or inf", expected="numbers")
        return array

    def rising(self, name: str, least: int, first: float | None = 0.0) -> Floats:
        """A grid: numbers from `first` on (None: from 0 or more), `least` of them or more."""
        grid: Floats = self(name, None, np.float64)
        begins = grid[0] >= 0.0 if first is None else grid[0] == first
        rises = bool((np.diff(grid) > 0).all()) and bool(begins) and len(grid) >= least
        whence = "0 or more" if first is None else f"{first:g}"
        self.check(name, rises, f"{least} or more numbers that rise from {whence}")
        return grid

    def check(self, name: str, fits: bool, expected: str) -> None:
        """Refuse the array where it is not what it must be."""
        if not fits:
            found = np.array2string(self.arrays[name].ravel()[:4], precision=4)
            raise ArtefactError(self.path, field=name, found=f"{found} ...", expected=expected)
