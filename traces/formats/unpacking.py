"""What lies in a trace file: its bytes, or those packed in it (gzip, zip), bounded.

A few packed bytes must not fill the memory: what is unpacked from one file is counted together.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from artefacts import ArtefactError

MOST_BYTES = 256 * 1024 * 1024
"""Of a file, and of all that is unpacked from one."""
SUFFIXES = (
    ".log", ".txt", ".csv", ".tsv", ".dat", ".up", ".down", ".trace", ".mahimahi", ".json",
)  # fmt: skip
"""Of trace files among others, also before `.gz`."""
PACKED = (".gz", ".zip")
_DAMAGE = (
    OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError,
    NotImplementedError,
)  # fmt: skip
_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class Member:
    """One file, or one of an archive: `path` for messages, `name` unpacked, `inside` an archive."""

    path: Path
    name: str
    inside: str
    read: Callable[[], bytes]


def printable(text: str) -> str:
    """A stranger's name for a message of one line: what does not print is a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)


def members(path: str | Path) -> list[Member]:
    """The file itself, what its gzip holds, or a zip file's traces; nothing is unpacked yet."""
    path = Path(path)
    raw = _read(path)
    if raw.startswith(_ZIP):
        return _zipped(path, raw)
    if raw.startswith(_GZIP):
        return [Member(path, _without_gz(path.name), "", lambda: _gunzipped(path, raw))]
    return [Member(path, path.name, "", lambda: raw)]


def is_trace_name(path: PurePath) -> bool:
    """Whether a file among others is a trace by its name; hidden files are none."""
    if _is_hidden(path):
        return False
    inner = PurePath(path.stem) if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower() in (*SUFFIXES, ".zip")


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
        path, found=f"{what} of more than {most} MiB", expected=f"at most {most} MiB"
    )


def _damaged(path: Path, error: BaseException) -> ArtefactError:
    return ArtefactError(
        path, found=f"a packed file that does not unpack ({error})", expected="a whole one"
    )


def _bounded(path: Path, stream: IO[bytes] | gzip.GzipFile, most: int) -> bytes:
    """All that a packed stream holds, at most `most` bytes."""
    try:
        data = stream.read(most + 1)
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    if len(data) > most:
        raise _too_big(path, "unpacked, a file")
    return data


def _gunzipped(path: Path, raw: bytes) -> bytes:
    return _bounded(path, gzip.GzipFile(fileobj=io.BytesIO(raw)), MOST_BYTES)


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _zipped(path: Path, raw: bytes) -> list[Member]:
    """A zip file's traces by their names; the only file of one, whatever its name."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    files = [m for m in archive.infolist() if m.filename and not m.is_dir()]
    files = [m for m in files if not _is_hidden(PurePosixPath(m.filename))]
    if any(m.filename == "xl/workbook.xml" for m in files):
        raise ArtefactError(
            path, found="a spreadsheet", expected="text: save it as CSV in the spreadsheet program"
        )
    traces = [m for m in files if is_trace_name(PurePosixPath(m.filename))]
    chosen = files if len(files) == 1 else traces
    if not chosen:
        raise ArtefactError(path, found="a zip file without traces", expected="one or more")
    if sum(m.file_size for m in chosen) > MOST_BYTES:
        raise _too_big(path, "unpacked, a file")
    return [_member(path, archive, m, len(chosen) == 1) for m in chosen]


def _is_hidden(path: PurePath) -> bool:
    """Whether a file, or a folder it lies in, is hidden or macOS's own."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, only: bool) -> Member:
    inside = printable(info.filename)
    shown = path if only else path / inside

    def read() -> bytes:
        try:
            stream = archive.open(info)
        except _DAMAGE as error:
            raise _damaged(shown, error) from None
        # a header may lie about the size
        data = _bounded(shown, stream, min(info.file_size, MOST_BYTES))
        return _gunzipped(shown, data) if data.startswith(_GZIP) else data

    return Member(shown, _without_gz(PurePosixPath(inside).name), inside, read)
