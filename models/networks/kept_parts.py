"""What a long pass over samples has found so far, kept in parts: a pass that was cut goes on.

Parts lie in a hidden folder beside what the pass is for, each whole or absent, and only the pass
that wrote them takes them up: their names begin with a digest of everything that decides it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, CoinferError, atomic_write, digest_bytes, digest_file
from artefacts.arrays import read_npz

FOLDER = ".judging"
"""In a model's folder, while it is judged."""
KEEP_S = 2.0
"""Of computing that a pass which is cut may lose: small networks are judged in less, and keep
nothing."""
MOST_BYTES = 2**30
"""Of one part's arrays."""
FORMAT_VERSION = 1

Arrays = Mapping[str, npt.NDArray[Any]]
Part = dict[str, npt.NDArray[Any]]


class KeptParts:
    """The parts of one pass over samples, in their order."""

    def __init__(
        self,
        folder: Path,
        name: str,
        identity: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        keep_s: float | None = None,
    ) -> None:
        """`folder` is the model's; `name` says which pass this is, and `identity` what decides it.

        Parts of a pass of this name and another identity are removed. A part is due `keep_s`
        seconds, by `clock`, after the last one (`KEEP_S`).
        """
        self._folder, self._clock = folder / FOLDER, clock
        self._keep_s = KEEP_S if keep_s is None else keep_s
        said = json.dumps({"format_version": FORMAT_VERSION, **identity}, sort_keys=True)
        self._pass = f"{name}-{digest_bytes(said.encode())[:32]}-"
        for path in self._folder.glob(f"{name}-*.npz"):
            if not path.name.startswith(self._pass):
                path.unlink(missing_ok=True)
        self._last_s = clock()

    def read(self) -> list[tuple[int, int, Part]]:
        """(start, stop, arrays) of every part from the first sample on, without a gap.

        What cannot be read, and what lies behind it, counts as not there.
        """
        found: list[tuple[int, int, Part]] = []
        reached = 0
        for path in sorted(self._folder.glob(f"{self._pass}*.npz")):
            try:
                arrays = read_npz(path, "a part of a pass over samples", most_bytes=MOST_BYTES)
                start, stop = (int(n) for n in arrays.pop("samples"))
            except (ArtefactError, KeyError, ValueError, TypeError):
                break
            if start != reached or stop <= start:
                break
            found.append((start, stop, arrays))
            reached = stop
        return found

    @property
    def due(self) -> bool:
        """Whether the last part is long enough ago for another."""
        return self._clock() - self._last_s >= self._keep_s

    def keep(self, start: int, stop: int, arrays: Arrays) -> None:
        """Write what was found of samples `start` to before `stop`."""
        buffer = io.BytesIO()
        saved: Any = np.savez  # its stub takes no arrays by computed names
        saved(buffer, samples=np.array([start, stop]), **arrays)
        with atomic_write(self._folder / f"{self._pass}{start:09d}.npz", "wb") as stream:
            stream.write(buffer.getvalue())
        self._last_s = self._clock()

    def drop(self) -> None:
        """Remove the parts of this pass: it begins anew."""
        for path in self._folder.glob(f"{self._pass}*.npz"):
            path.unlink(missing_ok=True)


Keep = Callable[[Mapping[str, str]], KeptParts]
"""Where a pass keeps its parts, by what decides the pass (`kept_in`)."""


def kept_in(folder: Path, name: str) -> Keep:
    """Where a pass of this name over the samples of a model's `folder` keeps its parts."""
    return functools.partial(KeptParts, folder, name)


def is_begun(folder: Path) -> bool:
    """Whether a model's folder holds parts of a pass that was cut."""
    return any((folder / FOLDER).glob("*.npz"))


def remove_parts(folder: Path) -> None:
    """Remove all parts of a model's folder: everything that they were for is written."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def arrays_digest(*arrays: npt.NDArray[Any]) -> str:
    """SHA-256 of arrays: their types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def packages() -> str:
    """The packages that compute and encode, with their versions."""
    found = []
    for name in ("onnxruntime", "numpy", "pillow", "zstandard"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def function_digest(function: Callable[..., Any]) -> str:
    """What tells a function from another: its name, what is bound to it, and its source file.

    A function that is edited between two runs is another one. What it calls in other files is not
    looked at: whoever goes on holds a first piece against what was kept.
    """
    return digest_bytes(repr(_described(function)).encode())


def _described(value: Any) -> object:
    if isinstance(value, functools.partial):
        bound = [*value.args, *sorted(value.keywords.items())]
        return [_described(value.func), [_described(one) for one in bound]]
    if not callable(value):
        return repr(value)
    named = getattr(value, "__qualname__", type(value).__qualname__)
    try:
        source = inspect.getsourcefile(inspect.unwrap(value))
        lies = "" if source is None else digest_file(source)
    except (TypeError, ValueError, OSError, CoinferError):
        lies = ""
    return [getattr(value, "__module__", ""), named, lies]
