"""What lies in a trace file: its bytes, or those packed in it (gzip, zip), bounded.

A few packed bytes must not fill the memory: what is unpacked from one file is counted together.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from artefacts import ArtefactError, printable, read_bytes
from traces.formats.limits import short, short_file_name
from traces.formats.packing import Gunzip, Reads, gathered, opened_member, opened_zip

MOST_BYTES = 128 * 1024 * 1024
"""Of a file, and of all that is unpacked from one."""
SUFFIXES = (
    ".log", ".txt", ".csv", ".tsv", ".dat", ".up", ".down", ".trace", ".mahimahi", ".json",
)  # fmt: skip
"""Of trace files among others, also before `.gz`."""
PACKED = (".gz", ".zip")
PAPERS = frozenset({
    "readme", "license", "licence", "copying", "notice", "authors", "changelog", "citation",
    "version", "makefile", "dockerfile", "md5sum", "md5sums", "sha256sum", "sha256sums",
})  # fmt: skip
"""Files without a suffix that lie beside traces."""
_DAMAGE = (
    OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError,
    NotImplementedError, MemoryError,
)  # fmt: skip
_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class Member:
    """One file, or one of an archive: `path` for messages, `name` unpacked, `inside` an archive."""

    path: Path
    name: str
    inside: str
    read: Callable[[], bytes]


@dataclass
class _Budget:
    """What may yet be unpacked from one file, all that it holds together."""

    left: int


def members(path: str | Path) -> list[Member]:
    """The file itself, what its gzip holds, or a zip file's traces; nothing is unpacked yet."""
    path = Path(path)
    raw = read_bytes(path, MOST_BYTES)
    budget = _Budget(MOST_BYTES)
    if raw.startswith(_ZIP):
        return _zipped(path, raw, budget)
    if raw.startswith(_GZIP):
        return [Member(path, _without_gz(path.name), "", lambda: _gunzipped(path, raw, budget))]
    return [Member(path, path.name, "", lambda: raw)]


def is_trace_name(path: PurePath) -> bool:
    """Whether a file among others is a trace by its name; hidden files are none.

    Of names without a suffix (`trace_17`, `log.2019`) those of a collection's papers are none.
    """
    if _is_hidden(path):
        return False
    inner = PurePath(path.stem) if path.suffix.lower() == ".gz" else path
    suffix = inner.suffix.lower()
    if not suffix or suffix[1:].isdigit():
        return inner.name.lower() not in PAPERS
    return suffix in (*SUFFIXES, ".zip")


def _too_big(path: Path) -> ArtefactError:
    most = f"{MOST_BYTES // 1024**2} MiB"
    found = f"unpacked, a file of more than {most}"
    return ArtefactError(path, found=found, expected=f"at most {most}")


def _damaged(path: Path, error: BaseException) -> ArtefactError:
    return ArtefactError(
        path,
        found=f"a packed file that does not unpack ({short(str(error))})",
        expected="a whole one, of gzip or of zip (stored or deflated)",
    )


def _bounded(path: Path, stream: Reads, budget: _Budget) -> bytes:
    """All that a packed stream holds, taken off the budget."""
    try:
        data = gathered(stream, budget.left + 1)
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    if len(data) > budget.left:
        raise _too_big(path)
    budget.left -= len(data)
    return data


def _gunzipped(path: Path, raw: bytes, budget: _Budget) -> bytes:
    return _bounded(path, Gunzip(raw), budget)


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _zipped(path: Path, raw: bytes, budget: _Budget) -> list[Member]:
    """A zip file's traces by their names; the only file of one, whatever its name."""
    try:
        archive = opened_zip(raw)
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
        raise _too_big(path)
    return [_member(path, archive, m, len(chosen) == 1, budget) for m in chosen]


def _is_hidden(path: PurePath) -> bool:
    """Whether a file, or a folder it lies in, is hidden or macOS's own."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _member(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, only: bool, budget: _Budget
) -> Member:
    inside = short_file_name(printable(info.filename))
    shown = path if only else path / inside

    def read() -> bytes:
        try:
            stream = opened_member(archive, info)
        except _DAMAGE as error:
            raise _damaged(shown, error) from None
        data = _bounded(shown, stream, budget)  # a header may lie about the size
        return _gunzipped(shown, data, budget) if data.startswith(_GZIP) else data

    return Member(shown, _without_gz(PurePosixPath(inside).name), inside, read)
