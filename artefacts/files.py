"""Files that are read: bytes, text and digests, and what is refused for being no file.

What the system says about reading becomes an `ArtefactError` that names the file. `writing` writes
files, `documents` reads and writes JSON and TOML.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from artefacts.errors import ArtefactError, UsageError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}
"""What is no regular file, in words."""


_PIECE_BYTES = 2**18
READABLE = "a readable file"
FILE_BYTES, TEXT_BYTES = 2**30, 2**26
"""Of a file, and of a text, whose reader says no other bound."""


def data_directory() -> Path | None:
    """The folder of real data: `COINFER_DATA`, or `../shared/data` beside the checkout; or None.

    Refuses a `COINFER_DATA` that is no folder: whoever names one does not mean stand-ins.
    """
    named = os.environ.get("COINFER_DATA")
    if named:
        if not Path(named).is_dir():
            raise UsageError(f"COINFER_DATA: found '{named}', expected a folder that exists")
        return Path(named)
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def check_name(path: str | Path, field: str, name: str) -> None:
    """Refuse a name, found in a file, that could not be a file's or folder's own."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArtefactError(
            path, field=field, found=f"'{name}'",
            expected="letters, digits, '.', '_' and '-' (it names a file)",
        )  # fmt: skip


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data` as lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as lower-case hex; one of more than `FILE_BYTES` is refused."""
    with open_file(path) as stream:
        if os.fstat(stream.fileno()).st_size > FILE_BYTES:
            raise _too_large(path, FILE_BYTES)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: str | Path, most_bytes: int = FILE_BYTES, expected: str = "") -> bytes:
    """A file's bytes; an `ArtefactError` where it cannot be read, or is no file and never ends.

    So it is where it holds more than `most_bytes`, of which one more is read at most. `expected`:
    what a file that cannot be read should be.
    """
    with open_file(path, expected) as stream:
        raw = bytearray()
        if os.fstat(stream.fileno()).st_size <= most_bytes:
            while piece := stream.read(min(_PIECE_BYTES, most_bytes + 1 - len(raw))):
                raw += piece  # a single large read would make room for all of it first
                if len(raw) > most_bytes:
                    break
            else:
                return bytes(raw)
    raise _too_large(path, most_bytes)


def _too_large(path: str | Path, most_bytes: int) -> ArtefactError:
    most = f"{most_bytes // 1024**2} MiB" if most_bytes >= 1024**2 else f"{most_bytes} bytes"
    return ArtefactError(path, found=f"a file of more than {most}", expected=f"at most {most}")


@contextlib.contextmanager
def open_file(path: str | Path, expected: str = "") -> Iterator[io.BufferedReader]:
    """A file to read from; what reading cannot do in the block is an `ArtefactError` too.

    What is no regular file is refused without waiting for it: `/dev/zero` has no end, and a pipe in
    the file system may have nobody who writes. A pipe that this process was given is read, as of
    `<(command)`.
    """
    with _readable(path, expected):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            kind = stat.S_IFMT(os.fstat(handle).st_mode)
            if kind == stat.S_IFIFO and _is_given(path):
                os.set_blocking(handle, True)
            elif kind in KINDS:
                raise ArtefactError(path, found=KINDS[kind], expected=expected or "a file")
            yield stream


def _is_given(path: str | Path) -> bool:
    """Whether a path names an open descriptor."""
    return os.path.realpath(path).startswith(("/proc/", "/dev/fd/"))


def read_text(path: str | Path, most_bytes: int = TEXT_BYTES) -> str:
    """A text file that a user made, bounded as by `read_bytes`, decoded by `decode_text`."""
    return decode_text(path, read_bytes(path, most_bytes))


def decode_text(path: str | Path, raw: bytes) -> str:
    """UTF-8 with or without a byte order mark, lines that end as they may, each ending in LF.

    Editors of other systems write all of these. Other encodings are refused with the line where
    they show.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ArtefactError(path, found="UTF-16 (its byte order mark)", expected="UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        raise ArtefactError(
            path, line=1 + before.count(b"\n"), found=f"byte 0x{raw[error.start]:02x}",
            expected="UTF-8 text",
        ) from None  # fmt: skip
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextlib.contextmanager
def _readable(path: str | Path, expected: str) -> Iterator[None]:
    """Turn what the system says about reading a file into an `ArtefactError`."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind in KINDS and kind != stat.S_IFIFO:  # to open a device may do something
            raise ArtefactError(path, found=KINDS[kind], expected=expected or "a file")
        yield
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected=expected or READABLE) from None
    except PermissionError:
        raise ArtefactError(
            path, found="no permission to read", expected=expected or READABLE
        ) from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise ArtefactError(path, found=found, expected=expected or READABLE) from None
    except ValueError as error:  # a NUL in a name
        raise ArtefactError(path, found=str(error), expected=expected or READABLE) from None
