"""One thread's loop: what other threads post is handled in order, what is due is done in time.

Knows nothing of frames, and no clock of its own.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Generic, TypeVar

Event = TypeVar("Event")


class EventLoop(Generic[Event]):
    """A queue of events and the wait for them. `post` is for any thread, the rest for one.

    `handle` takes one event. `due` does whatever is due by now. `next_moment_s(latest_s)` says when
    `due` has to be called again, `latest_s` at the latest. Times are of `clock`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        handle: Callable[[Event], None],
        due: Callable[[], None],
        next_moment_s: Callable[[float], float],
    ) -> None:
        self._clock, self._handle, self._due = clock, handle, due
        self._next_moment_s = next_moment_s
        self._events: queue.Queue[Event] = queue.Queue()

    def post(self, event: Event) -> None:
        """Have an event handled, as soon as the loop waits."""
        self._events.put(event)

    def wait(self, until_s: float, over: Callable[[], bool] = lambda: False) -> None:
        """Handle events and what is due until `until_s`, or until it is `over`."""
        while True:
            # what has come is looked at before what is due: an answer in time is an answer
            for _ in range(self._events.qsize()):
                self.handle_one(0.0)
            self._due()
            now = self._clock()
            if over() or (now >= until_s and self._events.empty()):
                return
            self.handle_one(self._next_moment_s(until_s) - now)

    def handle_one(self, timeout_s: float) -> Event | None:
        """Handle the next event; None where none comes within `timeout_s`."""
        try:
            event = self._events.get(timeout_s > 0, max(timeout_s, 0.0))
        except queue.Empty:
            return None
        self._handle(event)
        return event
