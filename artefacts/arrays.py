"""Array types, and arrays from an npz that somebody else made.

The types are what signatures of every room name; an alias elsewhere would be a second meaning of
the same word. Of an archive sizes are looked at before anything is unpacked: what a few kilobytes
unpack to may be larger than the memory, and an array's header may name a shape that its bytes never
fill.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from artefacts.errors import ArtefactError
from artefacts.files import open_file

Floats = npt.NDArray[np.float64]
"""Quantities: seconds, bytes, rates, shares."""
Float32s = npt.NDArray[np.float32]
"""What networks compute with: pictures as input, tensors, weights, observations."""
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FREE_BYTES, MOST_RATIO = 64 * 2**20, 64
"""An archive may unpack to that much, and to that many times its own size."""
MOST_MEMBERS = 1024
HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|\x02\x00....)\{'descr': '([<>|][biufUS][0-9]{1,9})', "
    rb"'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), \} *\n",
    re.DOTALL,
)
"""Of an npy (version 1.0 or 2.0) of numbers or text as numpy writes it: type, order, shape.

numpy itself would evaluate whatever stands there.
"""


def read_npz(
    path: str | Path,
    expected: str,
    names: Collection[str] | None = None,
    most_bytes: int | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Every array of an npz, or those of `names` that are there.

    Raises `ArtefactError` (`expected`: what the file should be) for what is no archive of plain
    arrays, and for one that has, or unpacks to, more than `most_bytes`, or where that is not given
    unpacks to more than `FREE_BYTES` and `MOST_RATIO` times its size.
    """
    with open_file(path) as stream:
        return unpack_npz(path, stream, expected, names, most_bytes)


def npz_names(path: str | Path) -> tuple[str, ...]:
    """Names of the arrays of an npz that `read_npz` reads, for messages: ten of them at most."""
    with open_file(path) as stream, zipfile.ZipFile(stream) as archive:
        return tuple(_name(member) for member in archive.infolist()[:10])


def unpack_npz(
    path: str | Path,
    stream: IO[bytes],
    expected: str,
    names: Collection[str] | None = None,
    most_bytes: int | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """The same of a stream that can be sought in; `path` names it in messages."""
    packed = stream.seek(0, io.SEEK_END)
    if most_bytes is not None and packed > most_bytes:
        raise ArtefactError(path, found=f"{packed:,} bytes", expected=f"at most {most_bytes:,}")
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_sizes(path, members, packed, most_bytes)
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


def _check_sizes(
    path: str | Path, members: list[zipfile.ZipInfo], packed: int, most_bytes: int | None
) -> None:
    unpacked = sum(m.file_size for m in members)
    most = max(FREE_BYTES, MOST_RATIO * packed) if most_bytes is None else most_bytes
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
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse(path, member, f"compression {member.compress_type}", "deflated arrays")
    with archive.open(member) as stream:
        # `archive.read` would unpack all that is there, however little its directory claims
        raw = bytearray(stream.read(member.file_size + 1))
    header = HEADER.match(raw)
    if header is None:
        _refuse(path, member, f"{bytes(raw[:64])!r}", "a header of numpy's, of numbers or text")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(axis) for axis in header[3].split(b",") if axis.strip())
    left, at = len(raw) - header.end(), header.end()
    if math.prod(shape) * dtype.itemsize != left:
        _refuse(path, member, f"{left} bytes as {dtype} {shape}", "as many bytes as its shape has")
    made = np.frombuffer(raw, dtype, offset=at)
    return made.reshape(shape, order="F" if header[2] == b"True" else "C")


def _refuse(path: str | Path, member: zipfile.ZipInfo, found: str, expected: str) -> NoReturn:
    raise ArtefactError(path, field=member.filename[:80], found=found[:200], expected=expected)
