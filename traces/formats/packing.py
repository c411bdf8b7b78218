"""Packed streams unpacked in pieces: gzip of a bounded number of members, zip members of two kinds.

Each piece costs what it holds: nothing is copied again for every member of a gzip file, of which a
few kilobytes can hold millions.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any, Protocol

PIECE_BYTES = 256 * 1024
MOST_GZIP_MEMBERS = 10_000
"""A file of 64 KiB blocks (bgzip) within the bound of bytes has a few thousand."""
MOST_ZIP_MEMBERS = 4_096
_ZIP_ENTRY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Reads(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, none at the end."""


class Gunzip:
    """What the members of a gzip file hold, one after the other; padding of zeros may follow.

    Raises `zlib.error` for what is no gzip, `EOFError` where it is cut off, `ValueError` for more
    than `MOST_GZIP_MEMBERS`.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = memoryview(raw)
        self._at = 0
        self._members = 0
        self._unpacker: Any = None
        self._left = b""
        self._step = PIECE_BYTES

    def read(self, size: int = -1, /) -> bytes:
        """One piece, empty at the end."""
        size = PIECE_BYTES if size < 0 else min(size, PIECE_BYTES)
        while True:
            if self._unpacker is None and not self._begin():
                return b""
            piece: bytes = self._unpacker.decompress(self._packed(), size)
            self._left = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                self._at -= len(self._unpacker.unused_data)
                self._left, self._unpacker = b"", None
            elif not piece and not self._left and self._at >= len(self._raw):
                raise EOFError("it is cut off")
            if piece:
                return piece

    def _packed(self) -> bytes:
        if self._left:
            return self._left
        piece = bytes(self._raw[self._at : self._at + self._step])
        self._at += len(piece)
        self._step = PIECE_BYTES
        return piece

    def _begin(self) -> bool:
        """Begin the next member, if there is one."""
        while self._members and bytes(self._raw[self._at : self._at + 1]) == b"\0":
            padding = bytes(self._raw[self._at : self._at + PIECE_BYTES])
            self._at += len(padding) - len(padding.lstrip(b"\0"))
        if self._at >= len(self._raw):
            return False
        self._members += 1
        if self._members > MOST_GZIP_MEMBERS:
            raise ValueError(f"more than {MOST_GZIP_MEMBERS:,} members")
        # most members of such a file are short: little is unpacked past one's end
        self._step = PIECE_BYTES if self._members == 1 else 1024
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
        return True


def gathered(stream: Reads, most: int) -> bytes:
    """All that a stream holds, or its first `most` bytes and a few more; never held twice."""
    out = io.BytesIO()
    while out.tell() < most:
        piece = stream.read(PIECE_BYTES)
        if not piece:
            break
        out.write(piece)
    return out.getvalue()


def opened_zip(raw: bytes) -> zipfile.ZipFile:
    """A zip file; raises `ValueError` where it lists more than `MOST_ZIP_MEMBERS`."""
    if raw.count(_ZIP_ENTRY) > MOST_ZIP_MEMBERS:
        raise ValueError(f"more than {MOST_ZIP_MEMBERS:,} files")
    return zipfile.ZipFile(io.BytesIO(raw))


def opened_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Reads:
    """One file of a zip file, stored or deflated; raises `ValueError` for other methods.

    The others (LZMA, bzip2) may ask for gigabytes of memory, and end in errors of their own.
    """
    if info.compress_type not in _METHODS:
        raise ValueError("neither stored nor deflated: pack it anew")
    return archive.open(info)
