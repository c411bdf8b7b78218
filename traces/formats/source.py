"""A trace file's bytes as text: without byte-order mark, lines ending in LF, comments blanked.

Comment lines (`#`, `//`, `%`) are blanked, so that every line keeps its number.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from artefacts import ArtefactError
from traces.formats.unpacking import Member, members

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
    """Read a file, packed or not; raises `ArtefactError` for what is no text of one trace."""
    found = members(path)
    if len(found) != 1:
        raise ArtefactError(
            path,
            found=f"a zip file of {len(found)} traces",
            expected="one of a single trace (or unpack it)",
        )
    return _as_source(found[0])


def load_all(path: str | Path) -> Iterator[Source]:
    """The traces of a file: of a zip file every one."""
    for member in members(path):
        yield _as_source(member)


def _as_source(member: Member) -> Source:
    text, comment = _as_lines(member.path, member.read()), ""
    remarks = (f"unpacked from '{member.inside}'",) if member.inside else ()
    if _COMMENT.search(text):
        comment = _header_comment(text)
        text = _COMMENT.sub(b"", text)
    if not text.strip():
        raise ArtefactError(member.path, found="an empty file", expected="a bandwidth trace")
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            remarks = (*remarks, f"line {line} has bytes that are not UTF-8: unknown letters")
    return Source(member.path, member.name, text, comment, remarks)


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
