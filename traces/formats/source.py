"""A trace file's bytes as text: without byte-order mark, lines ending in LF, comments blanked.

Comment lines (`#`, `//`, `%`) are blanked, so that every line keeps its number.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from artefacts import ArtefactError
from traces.formats import limits
from traces.formats.unpacking import Member, members

HEAD_LINES = 40
SHOWN = 80
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
    kept: dict[int, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    """What formats made of the whole text while they were tried: it is read once."""

    @property
    def stem(self) -> str:
        """The file's name without its suffix; digits after a dot are no suffix."""
        path = Path(self.name)
        return self.name if path.suffix[1:].isdigit() else path.stem

    def lines(self) -> Iterator[tuple[int, str]]:
        """Numbered lines that are not blank, without spaces around them (a tab may separate)."""
        stream = io.BytesIO(self.raw)
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.decode("utf-8", "replace").strip(" \n")

    @property
    def is_report(self) -> bool:
        """Whether it is an object in JSON, not rows."""
        return limits.is_report(self.raw)

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
    quoted = repr(text[:SHOWN])
    return quoted if len(quoted) <= 2 * SHOWN else f"{quoted[: 2 * SHOWN - 2]}…'"


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


def load_all(path: str | Path) -> Iterator[Source | ArtefactError]:
    """The traces of a file, of a zip file every one; where one cannot be read, why not."""
    lines = 0
    try:
        for member in members(path):
            try:
                source = _as_source(member)
            except ArtefactError as error:
                yield error
                continue
            lines += source.raw.count(b"\n")
            limits.check_count(Path(path), lines, "lines", limits.MOST_LINES)
            yield source
    except ArtefactError as error:
        yield error


def _as_source(member: Member) -> Source:
    text, comment = _as_lines(member.path, member.read()), ""
    limits.check(member.path, text)
    remarks = (f"unpacked from '{member.inside}'",) if member.inside else ()
    if limits.has_comments(text):
        comment = _header_comment(text)
        text = limits.without_comments(text)
    if not text.strip():
        raise ArtefactError(member.path, found="an empty file", expected="a bandwidth trace")
    line = limits.first_bad_line(text)
    if line is not None:
        remarks = (*remarks, f"line {line} has bytes that are not UTF-8: unknown letters")
    return Source(member.path, member.name, text, comment, remarks)


def _as_lines(path: Path, raw: bytes) -> bytes:
    """UTF-8 with LF line ends."""
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            try:
                raw = limits.as_utf_8(raw[len(mark) :], encoding)
            except UnicodeError:
                raise ArtefactError(
                    path, found="bytes that are not text", expected="a trace as text"
                ) from None
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if b"\0" in raw:
        raise ArtefactError(path, found="bytes that are not text", expected="a trace as text")
    return limits.with_line_feeds(raw)


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
