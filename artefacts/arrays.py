"""Arrays from an npz that somebody else made: sizes are looked at before anything is unpacked.

What a few kilobytes unpack to may be larger than the memory; an array's header may name a shape
that its bytes never fill.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from artefacts.errors import ArtefactError
from artefacts.files import open_file

FREE_BYTES, MOST_RATIO = 64 * 2**20, 64
"""An archive may unpack to that much, and to that many times its own size."""
MOST_MEMBERS = 1024
HEADER_BYTES = 4096
_KINDS = "biufUS"
"""Of numbers and texts, as numpy names them; the others hold objects or parts."""


def read_npz(
    path: str | Path, expected: str, names: Collection[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Every array of an npz, or those of `names` that are there.

    Raises `ArtefactError` (`expected`: what the file should be) for what is no archive of plain
    arrays, and for one that unpacks to more than `FREE_BYTES` and `MOST_RATIO` times its size.
    """
    with open_file(path) as stream:
        return unpack_npz(path, stream, expected, names)


def unpack_npz(
    path: str | Path, stream: IO[bytes], expected: str, names: Collection[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The same of a stream that can be sought in; `path` names it in messages."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_sizes(path, members, stream.seek(0, io.SEEK_END))
            wanted = [m for m in members if names is None or _name(m) in names]
            return {_name(m): _array(path, archive, m) for m in wanted}
    except ArtefactError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for a damaged file
        archived = not isinstance(error, zipfile.BadZipFile)
        found = f"an unreadable file ({type(error).__name__})" if archived else "no whole archive"
        raise ArtefactError(path, found=found, expected=expected) from None


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _check_sizes(path: str | Path, members: list[zipfile.ZipInfo], packed: int) -> None:
    unpacked, most = sum(m.file_size for m in members), max(FREE_BYTES, MOST_RATIO * packed)
    if len(members) > MOST_MEMBERS:
        raise ArtefactError(
            path, found=f"{len(members)} arrays", expected=f"at most {MOST_MEMBERS}"
        )
    if unpacked > most:
        raise ArtefactError(
            path, found=f"arrays of {unpacked:,} bytes in a file of {packed:,}",
            expected=f"at most {most:,}",
        )  # fmt: skip


def _array(path: str | Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    """One array; its header is held against what is there before room is made for it."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError("version")
        shape, column_major, dtype = read(stream, HEADER_BYTES)
        if dtype.kind not in _KINDS:
            raise ValueError(dtype.kind)
        left = member.file_size - stream.tell()
        if math.prod(shape) * dtype.itemsize != left:
            raise ArtefactError(
                path, field=_name(member)[:80], found=f"{left} bytes as {dtype} {shape}"[:200],
                expected="as many bytes as its shape has",
            )  # fmt: skip
        made = np.frombuffer(bytearray(stream.read()), dtype)
    return made.reshape(shape, order="F" if column_major else "C")
