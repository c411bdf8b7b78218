"""Sizes: how many bytes every sample takes on the wire, by codecs whose bytes depend on it.

`outcomes` know the mean. A simulated world in which every picture has its own size
(`[world] picture_sizes`) takes them from here. A codec of fixed size stands nowhere here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, atomic_write
from artefacts.arrays import Floats, read_npz
from models.facts.outcomes import Key

FORMAT_VERSION = 1
FILE = "sizes.npz"
"""Beside `outcomes.npz`."""
MOST_BYTES = 2**28
ARRAYS = ("format_version", "model_digest", "exits", "codecs", "cuts", "row", "sizes")


@dataclass(frozen=True)
class SampleSizes:
    """Bytes of S samples: `sizes` uint32 (R, S); `row[k]` says which of them key `keys[k]` has.

    What crosses a cut is the same for every exit behind it, so keys share rows.
    """

    model_digest: str
    keys: tuple[Key, ...]
    row: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, model_digest: str, sent: Mapping[Key, npt.NDArray[np.uint32]]) -> SampleSizes:
        """Sizes (S,) by key; equal ones are kept once."""
        keys = tuple(sorted(sent))
        kept: dict[bytes, int] = {}
        row = [kept.setdefault(sent[key].tobytes(), len(kept)) for key in keys]
        samples = len(sent[keys[0]]) if keys else 0
        found = np.frombuffer(b"".join(kept), dtype=np.uint32).reshape(len(kept), samples)
        return cls(model_digest, keys, np.array(row, dtype=np.int64), found)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.sizes.shape[1])

    @cached_property
    def _rows(self) -> dict[Key, int]:
        return {key: int(row) for key, row in zip(self.keys, self.row, strict=True)}

    def bytes_of(self, exit_: int, codec: str, cut: int) -> Floats | None:
        """Bytes of each sample (S,); None for a codec whose bytes are the same of all."""
        row = self._rows.get((exit_, codec, cut))
        return None if row is None else self.sizes[row].astype(np.float64)


def save_sizes(folder: str | Path, sizes: SampleSizes) -> None:
    """Write an npz without objects, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        format_version=np.array(FORMAT_VERSION),
        model_digest=np.array(sizes.model_digest),
        exits=np.array([k[0] for k in sizes.keys], dtype=np.int16),
        codecs=np.array([k[1] for k in sizes.keys]),
        cuts=np.array([k[2] for k in sizes.keys], dtype=np.int16),
        row=sizes.row.astype(np.int32),
        sizes=sizes.sizes,
    )
    with atomic_write(Path(folder) / FILE, "wb") as stream:
        stream.write(buffer.getvalue())


def read_sizes(folder: str | Path) -> SampleSizes:
    """Read the sizes beside a model's outcomes; names the file and the field that does not fit."""
    path = Path(folder) / FILE
    arrays = read_npz(path, "sizes (npz)", ARRAYS, MOST_BYTES)
    for name in ARRAYS:
        if name not in arrays:
            raise ArtefactError(path, field=name, found="nothing", expected="an array")
    version = arrays["format_version"]
    if version.shape != () or version.item() != FORMAT_VERSION:
        raise ArtefactError(
            path, field="format_version", found=str(version), expected=str(FORMAT_VERSION)
        )
    sizes, row = arrays["sizes"], arrays["row"]
    if sizes.dtype != np.uint32 or sizes.ndim != 2 or sizes.shape[1] < 1:
        raise ArtefactError(
            path, field="sizes", found=f"{sizes.dtype} {sizes.shape}", expected="uint32 (R, S)"
        )
    columns = [arrays[name] for name in ("exits", "codecs", "cuts")]
    same = all(c.ndim == 1 and len(c) == len(row) for c in (*columns, row))
    kinds = "".join(c.dtype.kind for c in (*columns, row))
    if not same or kinds != "iUii" or not ((row >= 0) & (row < len(sizes))).all():
        raise ArtefactError(
            path, field="exits, codecs, cuts, row", found="columns that do not fit",
            expected="one entry a key, each naming a row of sizes",
        )  # fmt: skip
    keys = zip(*(c.tolist() for c in columns), strict=True)
    return SampleSizes(
        str(arrays["model_digest"]), tuple((int(e), str(c), int(k)) for e, c, k in keys),
        row.astype(np.int64), sizes,
    )  # fmt: skip
