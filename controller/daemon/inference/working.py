"""Threads for what bytes from outside cost: unpacking, reading and decoding them.

What costs little never waits behind what costs much: the cheapest piece of work is next, and one
thread takes nothing else than cheap ones. A program that sends large pictures thus delays others
that do the same, and where too much waits the costliest piece is refused. The threads are daemon
threads: whoever ends the process waits for none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from artefacts import usable_cpus
from controller.daemon.inference.refusals import TooLateError
from controller.daemon.service import BusyError

T = TypeVar("T")
CHEAP = 2_500_000
"""Bytes to read, or pixels times scans to decode, that count as little: a camera's picture of
1920 x 1080 is less."""
MOST_WAITING = 32
"""Pieces that wait at once: whoever waits for minutes holds a connection for as long."""
HANG_S = 10.0
"""A thread that has been at one cheap piece of work for so long hangs."""


@dataclass(order=True, slots=True)
class _Work:
    cost: int
    number: int
    call: Callable[[], Any] = field(compare=False)
    done: Callable[[Any, BaseException | None], None] = field(compare=False)
    pixels: int = field(compare=False)
    gone: bool = field(default=False, compare=False)


class WorkPool:
    """`run` from an event loop. Threads are made with the first piece of work."""

    def __init__(
        self,
        pixels: Callable[[], int],
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pixels`: of pictures that are decoded at once; `threads`: beside the one for little."""
        self._pixels, self._clock = pixels, clock
        self._count = max(usable_cpus() // 2, 1) if threads is None else threads
        self._changed = threading.Condition()
        self._waiting: list[_Work] = []
        self._numbers = itertools.count()
        self._decoding = 0
        self._threads: list[threading.Thread] = []
        self._cheap_since_s: float | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether a cheap piece of work that came now would be done."""
        since_s = self._cheap_since_s
        hangs = since_s is not None and self._clock() - since_s > HANG_S
        return not hangs and all(thread.is_alive() for thread in self._threads)

    async def run(
        self, call: Callable[[], T], cost: int, *, left_s: float = math.inf, pixels: int = 0
    ) -> T:
        """What `call` gives, called on a thread. Raises `TooLateError` after `left_s`,
        `BusyError` where too much waits that costs less.

        `cost`: bytes, or pixels times scans. Work whose asker is gone is not begun.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def done(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks
                loop.call_soon_threadsafe(settle, result, error)

        work = _Work(cost, next(self._numbers), call, done, pixels)
        self._add(work)
        try:
            async with asyncio.timeout(None if math.isinf(left_s) else left_s):
                return await future
        except TimeoutError:
            raise TooLateError("no answer in time: what was sent was not yet read") from None
        finally:
            work.gone = True

    def close(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, work: _Work) -> None:
        with self._changed:
            heapq.heappush(self._waiting, work)
            if len(self._waiting) > MOST_WAITING:
                self._refuse_costliest()
            if not self._threads:
                self._start()
            self._changed.notify_all()

    def _refuse_costliest(self) -> None:
        left = sorted(work for work in self._waiting if not work.gone)
        for work in left[MOST_WAITING:]:
            work.done(None, BusyError(f"work: more than {MOST_WAITING} pieces that cost less wait"))
        self._waiting = left[:MOST_WAITING]  # what is sorted is a heap

    def _start(self) -> None:
        for most in (CHEAP, *(math.inf for _ in range(self._count))):
            name = "cheap work" if most == CHEAP else "work"
            thread = threading.Thread(target=self._serve, args=(most,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, most: float) -> None:
        while (work := self._next(most)) is not None:
            if most == CHEAP:
                self._cheap_since_s = self._clock()
            result: Any = None
            error: BaseException | None = None
            try:
                result = work.call()
            except BaseException as found:  # the asker's to handle; the thread goes on
                error = found
            self._cheap_since_s = None if most == CHEAP else self._cheap_since_s
            with self._changed:
                self._decoding -= work.pixels
                self._changed.notify_all()
            work.done(result, error)
            del work, result, error  # a picture is not held until the next one comes

    def _next(self, most: float) -> _Work | None:
        """The cheapest piece of work that this thread may begin; None at the end."""
        with self._changed:
            while not self._closed:
                while self._waiting and self._waiting[0].gone:
                    heapq.heappop(self._waiting)
                if self._waiting and self._may_begin(self._waiting[0], most):
                    work = heapq.heappop(self._waiting)
                    self._decoding += work.pixels
                    return work
                self._changed.wait()
        return None

    def _may_begin(self, work: _Work, most: float) -> bool:
        fits = not self._decoding or self._decoding + work.pixels <= self._pixels()
        return work.cost <= most and (fits or work.cost <= CHEAP)
