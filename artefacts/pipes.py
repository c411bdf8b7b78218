"""Opening what is read: files, and pipes that somebody writes into (`<(command)`)."""

from __future__ import annotations

import io
import os
import select
import stat
from pathlib import Path

from artefacts.errors import ArtefactError

WRITER_WAIT_S = 2.0
"""For somebody to open a pipe that is read."""


def open_to_read(path: str | Path) -> io.BufferedReader | io.BytesIO:
    """A file or pipe to read; a pipe into which nobody writes is refused, not waited for.

    Whoever writes may come a little after the reader: that long is waited, no longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stream = open(descriptor, "rb")  # noqa: SIM115 (handed over open)
    try:
        early = b""
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            early = _from_writer(path, descriptor)
        os.set_blocking(descriptor, True)
        if early:
            with stream:
                return io.BytesIO(early + stream.read())
    except BaseException:
        stream.close()
        raise
    return stream


def _from_writer(path: str | Path, descriptor: int) -> bytes:
    """Wait for somebody to write into a pipe; what had to be read to find that out, if anything."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(1000 * WRITER_WAIT_S):
        return b""
    try:
        early = os.read(descriptor, 1)
    except BlockingIOError:  # somebody has it open, and is slow
        return b""
    if not early:
        raise ArtefactError(path, found="a pipe that nobody writes into", expected="a file")
    return early
