"""Several edges of which one serves: the nearest that is of use."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.link.interface import Link, Reply

BETTER = 0.8
"""Another edge takes over once its round trip is this share of the present one's: no flapping."""


class LinkPool:
    """Several edges. Whoever sends decides which of them `serve`s, from the order of their `lanes`:
    the one of least measured round trip among those connected first; one that is silent though it
    was asked counts as no nearer than its silence is long.

    Any edge serves any request, so that a lost one costs the requests it held and nothing else.
    Request ids are `id of the link * links + its number`.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[Callable[[Reply], None]], Link]],
        on_reply: Callable[[Reply], None],
    ) -> None:
        """`makers` make a link each from the callback it is to report to."""
        self._on_reply = on_reply
        self._lock = threading.Lock()
        self._nearest = 0
        self._serves: int | None = None
        self._links = [make(self._reporter(number)) for number, make in enumerate(makers)]

    def _reporter(self, number: int) -> Callable[[Reply], None]:
        def report(reply: Reply) -> None:
            self._on_reply(replace(reply, request_id=self._outside(number, reply.request_id)))

        return report

    def _outside(self, number: int, request: int) -> int:
        return request * len(self._links) + number

    @property
    def lanes(self) -> tuple[int, ...]:
        """The edges that are connected, the nearest first; all of them where none is."""
        with self._lock:
            rtts = {
                k: math.inf if link.rtt_s is None else max(link.rtt_s, link.unanswered_s)
                for k, link in enumerate(self._links)
                if link.connected
            }
            if not rtts:
                others = (k for k in range(len(self._links)) if k != self._nearest)
                return self._nearest, *others
            best = min(rtts, key=lambda k: (rtts[k], k))
            present = rtts.get(self._nearest, math.inf)
            if self._nearest not in rtts or rtts[best] < BETTER * present:
                self._nearest = best
            order = sorted(rtts, key=lambda k: (k != self._nearest, rtts[k], k))
            return tuple(order)

    @property
    def greetings(self) -> Mapping[int, int]:
        """Of each link."""
        return {k: link.greetings[0] for k, link in enumerate(self._links)}

    def lane(self, request_id: int) -> int:
        """Its link's number."""
        return request_id % len(self._links)

    def serve(self, lane: int) -> None:
        """The next request goes there."""
        self._serves = lane

    @property
    def chosen(self) -> int:
        """The number of the edge that serves: the one that was asked to while it is connected,
        else the nearest.
        """
        lane = self._serves
        if lane is not None and self._links[lane].connected:
            return lane
        return self.lanes[0]

    @property
    def rtt_s(self) -> float | None:
        """Of the edge that serves."""
        return self._links[self.chosen].rtt_s

    @property
    def connected(self) -> bool:
        """Whether any edge has greeted us."""
        return any(link.connected for link in self._links)

    @property
    def address(self) -> str:
        """Of the edge that serves."""
        return self._links[self.chosen].address

    @property
    def unanswered_s(self) -> float:
        """Of the edge that serves."""
        return self._links[self.chosen].unanswered_s

    @property
    def last_error(self) -> str | None:
        """Of the edge that serves, else of the first that has one."""
        own = self._links[self.chosen].last_error
        return own or next((x.last_error for x in self._links if x.last_error), None)

    @property
    def late_replies(self) -> int:
        """Of all links."""
        return sum(link.late_replies for link in self._links)

    @property
    def reconnects(self) -> int:
        """Of all links."""
        return sum(link.reconnects for link in self._links)

    @property
    def backlog_bytes(self) -> int:
        """Of the edge that serves."""
        return self._links[self.chosen].backlog_bytes

    def upload(self, meta: dict[str, Any], data: bytes, until_s: float = math.inf) -> int | None:
        """Queue a request on the link that serves."""
        number = self.chosen
        request = self._links[number].upload(meta, data, until_s)
        return None if request is None else self._outside(number, request)

    def cancel(self, request_id: int) -> int | None:
        """Stop an upload wherever it is."""
        request, number = divmod(request_id, len(self._links))
        return self._links[number].cancel(request)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the first edge that is named."""
        return self._links[0].wait_connected(timeout_s) or self.connected

    def close(self) -> None:
        """End every link."""
        for link in self._links:
            link.close()
