"""Being told to end (SIGTERM) at any moment, from the first line of a process on.

The first process of a container has no default handlers: what it does not handle is lost. So a
handler is set before anything else is imported. It unwinds the process, so that nothing stays half
written; a daemon that serves handles the signal itself. Imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import signal
from types import FrameType

EXIT_CODE = 128
"""Plus the signal's number, as shells say it."""
_came: list[int] = []


class Terminated(SystemExit):
    """The process was told to end; the exit code is 128 and the signal's number."""


def unwind_on_sigterm() -> None:
    """Let SIGTERM raise `Terminated` in the main thread."""
    with contextlib.suppress(ValueError):  # another thread than the main one may set none
        signal.signal(signal.SIGTERM, _unwind)


def raise_if_terminated() -> None:
    """Raise `Terminated` where a signal came and somebody's handling of errors has swallowed it."""
    if _came:
        raise Terminated(EXIT_CODE + _came[-1])


def _unwind(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise Terminated(EXIT_CODE + number)
