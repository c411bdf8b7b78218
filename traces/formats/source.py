"""A trace file's bytes as text: unpacked (bounded), without byte-order mark, lines ending in LF.

Comment lines (`#`, `//`, `%`) are blanked, so that every line keeps its number.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO

from artefacts import ArtefactError

MOST_BYTES = 256 * 1024 * 1024
"""Of a file, and of what is unpacked from one: a few packed bytes must not fill the memory."""
HEAD_LINES = 40
SHOWN = 80
_COMMENT = re.compile(rb"^[ \t]*(?:#|//|%).*$", re.MULTILINE)
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True)
class Source:
    """One file's text: `raw` is UTF-8 with LF line ends; `name` is the file's, unpacked.

    `comment` is the last comment line before the first row, `remarks` what unpacking showed.
    """

    path: Path
    name: str
    raw: bytes
    comment: str = ""
    remarks: tuple[str, ...] = field(default=())

    @property
    def stem(self) -> str:
        """The file's name without its last suffix."""
        return Path(self.name).stem

    def lines(self) -> Iterator[tuple[int, str]]:
        """Numbered lines that are not blank, without spaces around them (a tab may separate)."""
        stream = io.BytesIO(self.raw)
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.decode("utf-8", "replace").strip(" \n")

    @cached_property
    def head(self) -> tuple[tuple[int, str], ...]:
        """The first lines that are not blank, with their numbers."""
        found = []
        for row in self.lines():
            found.append(row)
            if len(found) == HEAD_LINES:
                break
        return tuple(found)

    def error(self, expected: str, line: int | None = None, found: str = "") -> ArtefactError:
        """An error at a line, showing it where `found` is not given."""
        return ArtefactError(
            self.path, line=line, found=found or shown(self.line(line or 1)), expected=expected
        )

    def line(self, number: int) -> str:
        """One line's text, by its number from 1."""
        stream = io.BytesIO(self.raw)
        for count, line in enumerate(stream, 1):
            if count == number:
                return line.decode("utf-8", "replace").strip()
        return ""


def shown(text: str) -> str:
    """A line as it stands in a message: quoted and cut."""
    return repr(text[:SHOWN])


def load(path: str | Path) -> Source:
    """Read a file, packed or not; raises `ArtefactError` for what is no text."""
    path = Path(path)
    raw = _read(path)
    raw, name, remarks = _unpacked(path, raw)
    text = _as_lines(path, raw)
    comment = ""
    if _COMMENT.search(text):
        comment = _header_comment(text)
        text = _COMMENT.sub(b"", text)
    if not text.strip():
        raise ArtefactError(path, found="an empty file", expected="a bandwidth trace")
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            remarks = (*remarks, f"line {line} has bytes that are not UTF-8: unknown letters")
    return Source(path, name, text, comment, remarks)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="a bandwidth trace") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtefactError(path, found=str(reason).lower(), expected="a readable file") from None
    if len(raw) > MOST_BYTES:
        raise _too_big(path, "a file")
    return raw


def _too_big(path: Path, what: str) -> ArtefactError:
    most = MOST_BYTES // 1024**2
    return ArtefactError(
        path, found=f"{what} of more than {most} MiB", expected=f"a trace of at most {most} MiB"
    )


def _unpacked(path: Path, raw: bytes) -> tuple[bytes, str, tuple[str, ...]]:
    if raw.startswith(b"\x1f\x8b"):
        name = path.stem if path.suffix.lower() == ".gz" else path.name
        return _bounded(path, gzip.GzipFile(fileobj=io.BytesIO(raw))), name, ()
    if raw.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unzipped(path, raw)
    return raw, path.name, ()


def _bounded(path: Path, stream: IO[bytes] | gzip.GzipFile) -> bytes:
    """At most `MOST_BYTES` of what a packed stream holds."""
    try:
        data = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise ArtefactError(
            path, found=f"a packed file that does not unpack ({error})", expected="a whole one"
        ) from None
    if len(data) > MOST_BYTES:
        raise _too_big(path, "unpacked, a file")
    return data


def _unzipped(path: Path, raw: bytes) -> tuple[bytes, str, tuple[str, ...]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        members = [m for m in archive.infolist() if _is_trace(m.filename)]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise ArtefactError(
            path, found=f"a zip file that does not unpack ({error})", expected="a whole one"
        ) from None
    if any(m.filename == "xl/workbook.xml" for m in archive.infolist()):
        raise ArtefactError(
            path, found="a spreadsheet", expected="text: save it as CSV in the spreadsheet program"
        )
    if len(members) != 1:
        raise ArtefactError(
            path,
            found=f"a zip file of {len(members)} files",
            expected="one of a single trace (unpack it and name the folder)",
        )
    try:
        stream = archive.open(members[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, OSError) as error:
        raise ArtefactError(
            path, found=f"a zip file that does not unpack ({error})", expected="a whole one"
        ) from None
    name = PurePosixPath(members[0].filename).name
    return _bounded(path, stream), name, (f"unpacked from '{members[0].filename}'",)


def _is_trace(name: str) -> bool:
    """Of an archive's member: no folder, nothing hidden, nothing of macOS's own."""
    parts = PurePosixPath(name).parts
    return not name.endswith("/") and not any(p.startswith((".", "__MACOSX")) for p in parts)


def _as_lines(path: Path, raw: bytes) -> bytes:
    """UTF-8 with LF line ends."""
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            try:
                raw = raw[2:].decode(encoding).encode("utf-8")
            except UnicodeError:
                raise ArtefactError(
                    path, found="bytes that are not text", expected="a trace as text"
                ) from None
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if b"\0" in raw:
        raise ArtefactError(path, found="bytes that are not text", expected="a trace as text")
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw


def _header_comment(raw: bytes) -> str:
    """The last comment before the first row: a header may stand there."""
    last = ""
    for line in io.BytesIO(raw):
        text = line.strip()
        if not text:
            continue
        if not text.startswith((b"#", b"//", b"%")):
            return last
        last = text.lstrip(b"#/%").strip().decode("utf-8", "replace")
    return last
