"""How a process ends: every signal unwinds it, at every moment.

SIGTERM and SIGHUP end a Python process on the spot by default, and no `finally` runs; the first
process of a container has no default handlers, and what it does not handle is lost. So the command
line lets SIGTERM raise an exception from its first lines on (`unwind_from_start`), and tools that
hold processes, namespaces or folders do so with SIGHUP too (`orderly`), as Python does with SIGINT.
What must not be cut short is `shielded`. A daemon that serves handles the signals itself: SIGHUP
makes it read its files again, and one that comes while it starts is remembered.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, ClassVar, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OURS_TO_TAKE = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that may be replaced. Others are the caller's own; an ignored signal stays ignored, as
`nohup` and a shell's background jobs want it."""
MOST_SIGNALS = 5
"""After so many, soon after one another, that code of somebody's swallowed the process ends."""
SOON_S = 10.0
"""Between two signals that are counted together."""
T = TypeVar("T")


class _State:
    """Of this process: signals belong to it as a whole, and only its main thread handles them."""

    open = False
    shields = 0
    ended_by: int | None = None
    """The first SIGTERM or SIGHUP: the same again changes nothing."""
    waiting: int | None = None
    """What came while shielded."""
    came: int | None = None
    """The newest of any of them."""
    count = 0
    """How many came soon after one another."""
    came_s = -math.inf
    """When the newest came, on the monotonic clock."""
    hangups: ClassVar[list[int]] = []
    """SIGHUPs that came to a daemon before it could read its files again."""


class Terminated(SystemExit):
    """The process was asked to end; its exit code is 128 and the signal's number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def _raise(number: int) -> None:
    sys.unraisablehook = _left_half_made
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(number)


def _received(number: int, frame: FrameType | None) -> None:
    _State.came, now_s = number, time.monotonic()
    _State.count = _State.count + 1 if now_s - _State.came_s < SOON_S else 1
    _State.came_s = now_s
    if _State.count >= MOST_SIGNALS and not _State.shields:
        # a network's own code may catch whatever is raised in it, over and over
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    if number != signal.SIGINT:
        if _State.ended_by is not None:
            return
        _State.ended_by = number
    if _State.shields:
        _State.waiting = number
        return
    _raise(number)


def _left_half_made(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an error in a destructor.

    A signal cuts short what is being made, at any line: an event loop without its attributes fails
    as it is taken down, and that is no fault of anybody's.
    """


def unwind_from_start() -> None:
    """Let SIGTERM raise `Terminated` in the main thread from here on.

    SIGINT raises `KeyboardInterrupt` as before, and is remembered too.
    """
    if not _in_main_thread():
        return
    signal.signal(signal.SIGTERM, _received)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _received)


def remember_hangups(came: list[int]) -> None:
    """Keep the list to which a handler adds each SIGHUP of a daemon's start."""
    _State.hangups = came


def hung_up() -> bool:
    """Whether SIGHUP came while a daemon started; asked again, no more."""
    found = bool(_State.hangups)
    _State.hangups.clear()
    return found


def raise_if_ended() -> None:
    """Raise again what a signal has raised, where somebody's handling of errors swallowed it.

    An exception that comes in a destructor or in a library's callback is lost.
    """
    if _State.came is not None and not _State.shields:
        _raise(_State.came)


def is_ending(error: BaseException) -> bool:
    """Whether a signal has raised it, as far as can be known; others may raise the same."""
    if not _in_main_thread():
        return False
    unseen = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupt = isinstance(error, KeyboardInterrupt) and (unseen or _State.came is not None)
    return interrupt or isinstance(error, Terminated)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `Terminated`.

    So context managers and `finally` run. SIGINT raises `KeyboardInterrupt`, as ever. In a block
    within another, and in other threads than the main one, nothing changes.
    """
    if _State.open or not _in_main_thread():
        yield
        return
    taken = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) in OURS_TO_TAKE}
    if signal.SIGTERM in taken:  # else whatever came since the start still counts
        _State.ended_by = _State.waiting = None
    _State.open = True
    try:
        for number in taken:
            signal.signal(number, _received)
        yield
    finally:
        _State.open = False
        for number, handler in taken.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Cleaning up that is finished first: a signal that comes inside is obeyed at the end.

    What happens inside must have a bound of its own.
    """
    if not _in_main_thread():
        yield
        return
    _State.shields += 1
    try:
        yield
    finally:
        _State.shields -= 1
        if not _State.shields and _State.waiting is not None:
            number, _State.waiting = _State.waiting, None
            _raise(number)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` of work that `orderly`'s signals cancel, so that its `finally` blocks run.

    A handler that raises could break the loop in the middle of a step. Raises what `orderly` would
    once the work has ended.
    """
    import asyncio  # takes longer than all that the first lines of a process may take

    came: list[int] = []

    async def guarded() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def cancel(number: int) -> None:
            if not came:
                task.cancel()
            came.append(number)

        for number in taken:
            loop.add_signal_handler(number, cancel, number)
        return await work

    with orderly():
        taken = [n for n in SIGNALS if _in_main_thread() and signal.getsignal(n) is _received]
        try:
            found = asyncio.run(guarded())
        except asyncio.CancelledError:
            if not came:
                raise
        finally:
            for number in taken:  # the loop leaves the default behind
                signal.signal(number, _received)
        if came:
            _State.ended_by = came[0]
            _raise(came[0])
        return found


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
