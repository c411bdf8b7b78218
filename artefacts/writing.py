"""Files that are written whole or not at all, and whether they can be written.

A reader sees the old file or the new one. What the disk refuses becomes an `ArtefactError` that
names the file.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, overload

from artefacts.errors import ArtefactError
from artefacts.files import KINDS

_NAME_CHARACTERS = 40
"""Of the file's name, at most, in the temporary one: a longest name has no room for more."""
_TRIED_BYTES = 4096
"""Written to find out whether a disk has room at all."""


@overload
def atomic_write(
    path: str | Path, mode: Literal["w"] = "w"
) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(
    path: str | Path, mode: Literal["wb"]
) -> contextlib.AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path`; rename it into place only if the block ends well.

    A reader therefore sees the old file or the new one, also across a power cut (the data are
    flushed to disk before the rename). What the disk refuses, at opening or at any byte, becomes an
    `ArtefactError` whatever the block's library makes of it. The block only writes: an `OSError` in
    it that names no other file counts as this one's.
    """
    target = Path(path)
    with _writable(target):
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name[:_NAME_CHARACTERS]}.", suffix=".part"
        )
    disk = _Disk(handle)
    try:
        with _opened(disk, mode) as stream:
            yield stream
            stream.flush()
            # by the descriptor: in a folder that others may write, the name may be theirs by now
            os.fchmod(handle, _mode_of(target))
            os.fsync(handle)
        os.replace(temporary, target)
    except Exception as error:
        cause = disk.refusal or _own_refusal(error, temporary)
        if cause is None:
            raise
        raise _unwritable(target, cause) from None
    finally:
        # where it was renamed there is nothing to remove
        with contextlib.suppress(OSError):
            os.unlink(temporary)


class _Disk(io.FileIO):
    """A file that remembers the first write which the system refused.

    It shows no descriptor: whoever found one would write past it.
    """

    def __init__(self, handle: int) -> None:
        super().__init__(handle, "w")
        self.refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """See `io.FileIO.write`."""
        try:
            return super().write(data)
        except OSError as error:
            self.refusal = self.refusal or error
            raise

    def fileno(self) -> int:
        """None that could be used."""
        raise io.UnsupportedOperation("fileno")


@contextlib.contextmanager
def _opened(disk: _Disk, mode: str) -> Iterator[IO[Any]]:
    """A buffered stream over a file; what is left in its buffer after a mistake is let go."""
    binary = io.BufferedWriter(disk)
    stream: Any = binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")
    try:
        yield stream
        stream.close()
    finally:
        disk.close()
        with contextlib.suppress(ValueError, OSError):  # its buffer has nowhere to go
            stream.close()


def _own_refusal(error: Exception, temporary: str) -> OSError | None:
    """The error where it is the disk's about this file; connections have nothing to do with it."""
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return None
    return error if error.filename in (None, temporary) else None


def _mode_of(target: Path) -> int:
    """What the file that is replaced lets whom do; a new one is for everybody to read."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return 0o644


def _check_target(target: Path) -> None:
    """Refuse to put a file in the place of a folder or a device (`/dev/null`, to root)."""
    try:
        kind = target.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        raise ArtefactError(
            target, found=KINDS.get(stat.S_IFMT(kind), "no regular file"),
            expected="a file that can be written",
        )  # fmt: skip


@contextlib.contextmanager
def _writable(path: Path, expected: str = "a file that can be written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error, expected) from None
    except ValueError as error:  # a NUL in a name
        raise ArtefactError(path, found=str(error), expected=expected) from None


def _unwritable(
    path: Path, error: OSError, expected: str = "a file that can be written"
) -> ArtefactError:
    return ArtefactError(path, found=(error.strerror or str(error)).lower(), expected=expected)


def ready_folder(folder: str | Path, *, make: bool = True) -> Path:
    """The folder, made where it is not there; refused where nothing can be written into it.

    For long work: who learns of it at the end has lost what was made. Without `make` it is only
    found out whether that could be.
    """
    folder = Path(folder)
    with _writable(folder, "a folder that can be written into"):
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
    return folder


def ready_file(path: str | Path) -> Path:
    """The path, refused where no file can be written there (as `ready_folder`, nothing is made)."""
    path = Path(path)
    with _writable(path):
        _check_target(path)
        _try_writing(path.parent)
    return path


def _try_writing(folder: Path) -> None:
    """Write a little, without a name, into a folder or the first around it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(_TRIED_BYTES))
