"""How a tool ends that holds processes, namespaces or folders: every signal unwinds it.

SIGTERM and SIGHUP end a Python process on the spot by default, and no `finally` runs. Inside
`orderly` they are raised as exceptions, as SIGINT is. What must not be cut short is `shielded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OURS_TO_TAKE = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that may be replaced. Others are the caller's own; an ignored signal stays ignored, as
`nohup` and a shell's background jobs want it."""
T = TypeVar("T")


class _State:
    """Of this process: signals belong to it as a whole, and only its main thread handles them."""

    open = False
    shields = 0
    ended_by: int | None = None
    """The first SIGTERM or SIGHUP: the same again changes nothing."""
    waiting: int | None = None
    """What came while shielded."""


def exit_code(number: int) -> int:
    """Of a process that a signal ended, as shells count."""
    return 128 + number


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(exit_code(number))


def _received(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGINT:
        if _State.ended_by is not None:
            return
        _State.ended_by = number
    if _State.shields:
        _State.waiting = number
        return
    _raise(number)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `SystemExit` with 128 + their number.

    So context managers and `finally` run. SIGINT raises `KeyboardInterrupt`, as ever. In a block
    within another, and in other threads than the main one, nothing changes.
    """
    if _State.open or not _in_main_thread():
        yield
        return
    taken = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) in OURS_TO_TAKE}
    _State.open, _State.ended_by, _State.waiting = True, None, None
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
