"""The folder of kept records: one segment is open, ended ones have their final names.

A segment that is being written ends in `.part`; its writer holds a lock on it. What a killed
daemon has left is given its final name by the next one. For one thread; the disk's trouble is an
`ArtefactError`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from artefacts import ArtefactError
from controller.daemon.records.entries import PART, SEGMENT, RecordSettings

SHARE = 8
"""A segment has at most this part of all bytes and of all hours: so much goes at once."""
MOST_SEGMENT_BYTES = 4 * 2**20
EXPECTED = "a folder that can be written into"


class Segments:
    """Writes lines to segments, within the bounds of the settings. Times are seconds since 1970."""

    def __init__(self, settings: RecordSettings) -> None:
        self._settings, self._folder = settings, Path(settings.folder)
        self._handle: int | None = None
        self._path = self._folder
        self._written = 0
        self._begun_s = 0.0
        self.bytes = 0
        """Of all segments in the folder, as last looked."""

    @property
    def segment_bytes(self) -> int:
        """What one segment may have."""
        return min(self._settings.most_bytes // SHARE, MOST_SEGMENT_BYTES)

    def ready(self, now_s: float, room: int = 0) -> None:
        """Make the folder where it is not there, and `room` bytes in it."""
        with self._naming(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "no permission to write")
        self._adopt()
        self.prune(now_s, room)

    def full(self, more: int, now_s: float) -> bool:
        """Whether a line of `more` bytes needs another segment than the open one."""
        if self._handle is None:
            return True
        age_s = abs(now_s - self._begun_s)
        old = age_s > 3600.0 * self._settings.hours / SHARE
        return old or self._written + more > self.segment_bytes

    def begin(self, name: str, header: bytes, now_s: float) -> None:
        """Open another segment with its first line; the open one is ended."""
        self.end()
        self.ready(now_s, self.segment_bytes)
        path = self._folder / f"{name}{PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._naming(path):
            self._handle = os.open(path, flags, 0o600)
            self._path, self._written, self._begun_s = path, 0, now_s
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write(header)

    def write(self, lines: bytes) -> None:
        """Write whole lines to the open segment, or none of them."""
        if not lines:
            return
        assert self._handle is not None
        with self._naming(self._path):
            self._check_there()
            rest = lines
            try:
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
            except OSError:
                # what a full disk has taken of a line is no line
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, self._written)
                raise
        self._written += len(lines)
        self.bytes += len(lines)

    def end(self) -> None:
        """Give the open segment its final name."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with self._naming(self._path):
            try:
                os.fsync(handle)
                os.rename(self._path, self._path.with_suffix(""))
            finally:
                os.close(handle)

    def give_up(self) -> None:
        """End the open segment as far as the disk lets us."""
        with contextlib.suppress(ArtefactError):
            self.end()

    def _adopt(self) -> None:
        """Give segments that a killed daemon has left their final names."""
        for path in segment_files(self._folder):
            if path.suffix != PART or (path == self._path and self._handle is not None):
                continue
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer is no more
                    if os.fstat(handle).st_size:
                        os.rename(path, path.with_suffix(""))
                    else:
                        os.unlink(path)
                finally:
                    os.close(handle)

    def prune(self, now_s: float, room: int = 0) -> None:
        """Remove what is too old, then the oldest until `room` bytes are free of all."""
        sizes: list[tuple[Path, int]] = []
        for path in segment_files(self._folder):
            with contextlib.suppress(OSError):
                found = path.stat(follow_symlinks=False)
                # a clock that was ahead has left names that would be the newest for ever
                old = abs(now_s - _begun_s(path)) > 3600.0 * self._settings.hours
                if old and not self._is_open(path):
                    os.unlink(path)
                else:
                    sizes.append((path, found.st_size))
        total = sum(size for _, size in sizes)
        for path, size in sizes:
            if total + room <= self._settings.most_bytes:
                break
            if self._is_open(path):
                continue
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size
        self.bytes = total

    def _is_open(self, path: Path) -> bool:
        return self._handle is not None and path == self._path

    def _check_there(self) -> None:
        """A segment whose name is gone would take lines that nobody finds."""
        assert self._handle is not None
        named, own = os.stat(self._path), os.fstat(self._handle)
        if (named.st_dev, named.st_ino) != (own.st_dev, own.st_ino):
            raise FileNotFoundError(2, "another file in its place")

    @contextlib.contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            raise ArtefactError(path, found=found, expected=EXPECTED) from None
        except ValueError as error:  # a NUL in a name
            raise ArtefactError(path, found=str(error), expected=EXPECTED) from None


def segment_files(folder: Path) -> list[Path]:
    """The segments in a folder, the oldest first; none where it cannot be looked into."""
    with contextlib.suppress(OSError, ValueError):
        return sorted(path for path in folder.iterdir() if SEGMENT.fullmatch(path.name))
    return []


def segment_name(now_s: float, stream: str, number: int) -> str:
    """The final name of a segment that begins at `now_s`: names are in the order of time."""
    return f"records-{max(int(1e3 * now_s), 0):013d}-{stream}-{number:06d}.jsonl"


def _begun_s(path: Path) -> float:
    return int(path.name.split("-")[1]) / 1e3
