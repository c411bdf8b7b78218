"""Bounds within which trace files are read, and text in blocks of bounded memory.

A small file must not take minutes or gigabytes, packed or not: a file within these bounds takes
seconds and less than 400 MiB, any other is refused in one short line.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from artefacts import ArtefactError, printable

MOST_LINES = 3_500_000
"""Of all texts of a file together, blank ones and comments among them."""
MOST_TABLE_ROWS = 2_000_000
"""Of another's table, whose rows take more memory (23 days of seconds)."""
MOST_WORDED_ROWS = 1_000_000
"""Of rows with dates, times of day or units, which take longer to read than numbers."""
MOST_NUMBERS = 7_000_000
"""Of bare columns together: they are held as one array."""
LONGEST_LINE_BYTES = 64 * 1024
MOST_COLUMNS = 1_000
MOST_REPORT_BYTES = 32 * 1024 * 1024
"""Of an iperf report, in JSON (which may be one line) or in words."""
MOST_INTERVALS = 300_000
"""Of an iperf report: a day in steps of 0.3 s."""
MOST_REPORT_OBJECTS = 500_000
LONGEST_NAME = 80
"""Characters of a column's or a packed file's name that are kept and shown."""
MOST_NAMED = 5
MOST_NAMED_CHARACTERS = 120
"""Names in one message, and their characters together; one is always named."""
BLOCK_BYTES = 1024 * 1024
_COMMENT = re.compile(rb"^[ \t]*(?:#|//|%).*$", re.MULTILINE)


def short(text: str, most: int = LONGEST_NAME) -> str:
    """Text of a file for a message: it prints, and has at most `most` characters."""
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def short_file_name(name: str) -> str:
    """The same of a file's name, whose end (the suffix) says most."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def listed(names: list[str], form: str = "'{}'", between: str = ", ") -> str:
    """The first of some names for a message, and how many more there are."""
    formed = [form.format(name) for name in names[:MOST_NAMED]]
    while len(formed) > 1 and sum(map(len, formed)) > MOST_NAMED_CHARACTERS:
        formed.pop()
    more = len(names) - len(formed)
    return between.join([*formed, f"{more} more"] if more else formed)


def is_report(text: bytes) -> bool:
    """Whether a text is an object in JSON: its line may be long, and has no rows."""
    return text[:LONGEST_LINE_BYTES].lstrip()[:1] == b"{"


def check(path: Path, text: bytes) -> None:
    """Refuse a text (LF line ends) that is outside the bounds; of lines the first is named."""
    lines = text.count(b"\n")
    check_count(path, lines, "lines", MOST_LINES)
    if not is_report(text):
        number = _long_line(text)
        if number is not None:
            most = f"{LONGEST_LINE_BYTES // 1024} KiB"
            raise ArtefactError(
                path, line=number, found=f"a line of more than {most}", expected=f"at most {most}"
            )
        return
    check_report(path, text)
    check_count(path, text.count(b"{"), "objects in one report", MOST_REPORT_OBJECTS)


def check_rows(path: Path, text: bytes) -> None:
    """Refuse a table of too many rows."""
    check_count(path, text.count(b"\n"), "rows in a table", MOST_TABLE_ROWS)


def check_report(path: Path, text: bytes) -> None:
    """Refuse a report that is too long, in JSON or in words."""
    if len(text) > MOST_REPORT_BYTES:
        most = f"{MOST_REPORT_BYTES // 1024**2} MiB"
        raise ArtefactError(path, found=f"a report of more than {most}", expected=f"at most {most}")


def check_count(path: Path, count: int, what: str, most: int) -> None:
    """Refuse a file that holds more of something than is read.

    `count` of `what` (a plural, for the message) were found in the file at `path`, expected are at
    most `most`. Raises an `ArtefactError`.
    """
    if count > most:
        raise ArtefactError(path, found=f"more than {most:,} {what}", expected=f"at most {most:,}")


def _long_line(text: bytes) -> int | None:
    """The number of the first line that is too long."""
    at = 0
    while at + LONGEST_LINE_BYTES < len(text):
        end = text.rfind(b"\n", at, at + LONGEST_LINE_BYTES + 1)
        if end < 0:
            return text.count(b"\n", 0, at) + 1
        at = end + 1
    return None


def with_line_feeds(raw: bytes) -> bytes:
    """The text with LF line ends."""
    if b"\r" not in raw:
        return raw
    out = io.BytesIO()
    at = 0
    while at < len(raw):
        end = at + BLOCK_BYTES
        end += raw[end - 1 : end + 1] == b"\r\n"  # one line end stays in one block
        out.write(raw[at:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        at = end
    return out.getvalue()


def as_utf_8(raw: bytes, encoding: str) -> bytes:
    """Text of another encoding; raises `UnicodeError`."""
    decoder, out = codecs.getincrementaldecoder(encoding)(), io.BytesIO()
    for at in range(0, len(raw), BLOCK_BYTES):
        out.write(decoder.decode(raw[at : at + BLOCK_BYTES]).encode("utf-8"))
    out.write(decoder.decode(b"", final=True).encode("utf-8"))
    return out.getvalue()


def without_comments(text: bytes) -> bytes:
    """The text with comment lines blanked, so that every line keeps its number."""
    return _changed(text, lambda block: _COMMENT.sub(b"", block))


def has_comments(text: bytes) -> bool:
    """Whether any line is a comment."""
    return _COMMENT.search(text) is not None


def first_bad_line(text: bytes) -> int | None:
    """The number of the first line with bytes that are not UTF-8."""
    if text.isascii():
        return None
    lines = 0
    for block in _blocks(text):
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            return lines + block.count(b"\n", 0, error.start) + 1
        lines += block.count(b"\n")
    return None


def _changed(text: bytes, change: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    for block in _blocks(text):
        out.write(change(block))
    return out.getvalue()


def _blocks(text: bytes) -> Iterator[bytes]:
    """Pieces of whole lines: a long line is one of its own."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at + BLOCK_BYTES)
        end = len(text) if end < 0 else end + 1
        yield text[at:end]
        at = end
