"""What an edge hands on: requests that go on to a further node, by a device's own link.

Everything here is for the communicating thread. Each node that the edge may hand work to has a link
for each model, and each link a breaker: where the node is away, silent or of no use, the edge
computes the rest itself. Nobody waits for what was handed on longer than for the request itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from artefacts import CoinferError
from controller.edge.computing import Job, Onward
from controller.edge.served import MOST_HOPS
from controller.health import Breakers
from controller.link.interface import Link, Reply
from controller.wire import RemoteProtocolError
from controller.wire.messages import meta_int, meta_number, meta_shape, shown_text

TIMES = ("receive_s", "queue_s", "compute_s")
"""What a further node says of a request: each comes back to whoever asked."""

PATIENCE_S = 0.25
"""Less than so long without an answer says nothing of a node."""
TRACEPARENT = 55
"""Characters of a W3C trace context's `traceparent`."""

Make = Callable[[Callable[[Reply], None]], Link]


@dataclass(frozen=True, slots=True)
class _Handed:
    """What was handed on and is waited for."""

    onward: Onward
    lane: int
    request: int
    at_s: float
    """When it was handed on."""


class NextNodes:
    """The nodes that an edge hands work to, by their names, and what is under way to them."""

    def __init__(
        self,
        clock: Callable[[], float],
        on_reply: Callable[[Onward, Mapping[str, Any], bytes], None],
        on_error: Callable[[Onward, str, bool], None],
        rng: random.Random | None = None,
    ) -> None:
        """`rng` is of the breakers' jitter.

        `on_reply` hears of an answer: of what, its metadata, its bytes; `on_error` why there is
        none, and whether computing that one sample failed.
        """
        self._clock, self._on_reply, self._on_error = clock, on_reply, on_error
        self._breakers = Breakers(rng or random.Random(0))
        self._links: list[tuple[str, Link]] = []
        self._lanes: dict[tuple[str, str], int] = {}
        self._greetings: dict[int, int] = {}
        self._handed: dict[tuple[int, int], _Handed] = {}
        self.handed_on = 0
        """Requests."""

    def add(self, name: str, digest: str, make: Make, later: Callable[..., None]) -> None:
        """A node called `name`, for the model of a `digest`.

        `make` makes its link from the callback that hears of replies; `later` has a function called
        with arguments on the communicating thread.
        """
        lane = len(self._links)

        def report(reply: Reply) -> None:
            later(self._replied, lane, reply)

        self._lanes[name, digest] = lane
        self._links.append((name, make(report)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them, each once."""
        return tuple(dict.fromkeys(name for name, _ in self._lanes))

    @property
    def states(self) -> dict[str, str]:
        """Of every node: '' where it serves, else why not."""
        found: dict[str, str] = {}
        for name, link in self._links:
            why = "" if link.connected else link.last_error or "not connected yet"
            found[name] = found.get(name) or why
        return found

    def send(self, onward: Onward) -> bool:
        """Hand a request on to the next of its hops; False where that node is of no use now."""
        job, now = onward.job, self._clock()
        hop, *rest = job.hops
        digest, exit_ = job.arrival.meta["model"], job.arrival.meta["exit"]
        lane = self._lanes[hop.node, digest]
        link = self._links[lane][1]
        if not link.connected or not self._allowed(lane, now):
            return False
        meta = {
            "model": digest, "exit": exit_, "start": hop.start, "stop": hop.stop,
            "codec": hop.codec, **onward.meta,
        }  # fmt: skip
        if rest:
            meta["hops"] = [[h.node, h.start, h.stop, h.codec] for h in rest]
        traced = job.arrival.meta.get("traceparent")
        if isinstance(traced, str) and len(traced) <= TRACEPARENT:
            meta["traceparent"] = traced
        request = link.upload(meta, onward.data, job.arrival.timing.until_s)
        if request is None:
            self._breakers.failed(lane, now)
            return False
        self.handed_on += 1
        self._handed[lane, request] = _Handed(onward, lane, request, now)
        return True

    def _allowed(self, lane: int, now_s: float) -> bool:
        """Whether a node's breaker lets a request pass; one that greets anew is tried at once."""
        count = self._links[lane][1].greetings[0]
        if count != self._greetings.get(lane, count):
            self._breakers.renewed(lane, now_s)
        self._greetings[lane] = count
        return self._breakers.allows([lane], now_s) is not None

    def cancel(self, gone: Callable[[Job], bool]) -> list[Onward]:
        """Nobody waits any more for the requests that are `gone`; gives them."""
        found = [one for one in self._handed.values() if gone(one.onward.job)]
        for one in found:
            del self._handed[one.lane, one.request]
            self._links[one.lane][1].cancel(one.request)
            self._breakers.abandoned(one.lane)
        return [one.onward for one in found]

    def expire(self) -> None:
        """Give up what is over: its node took it, and said nothing in its time."""
        now = self._clock()
        over = [h for h in self._handed.values() if h.onward.job.arrival.timing.until_s <= now]
        for one in over:
            del self._handed[one.lane, one.request]
            name, link = self._links[one.lane]
            link.cancel(one.request)
            if now - one.at_s >= PATIENCE_S:
                self._breakers.failed(one.lane, now)
            else:  # it had next to no time when it was handed on
                self._breakers.abandoned(one.lane)
            self._on_error(one.onward, f"'{name}' gave no answer in time", False)

    def close(self) -> None:
        """End every link."""
        for _, link in self._links:
            link.close()

    def _replied(self, lane: int, reply: Reply) -> None:
        handed = self._handed.pop((lane, reply.request_id), None)
        if handed is None:  # nobody waits for it any more
            self._breakers.heard(lane)
            return
        name, now = self._links[lane][0], self._clock()
        if reply.error is not None or reply.cancelled:
            failed = reply.meta.get("failed") is True
            if failed:
                self._breakers.heard(lane)
            elif reply.lost:
                self._breakers.failed(lane, now)
            else:  # it had no time, or too much to do: that may be who asked
                self._breakers.carried(lane, now)
            self._on_error(handed.onward, f"'{name}': {reply.error or 'cancelled'}", failed)
            return
        try:
            meta = _passed_on(name, reply)
        except CoinferError as error:
            self._breakers.failed(lane, now)
            self._on_error(handed.onward, f"'{name}': {error}", False)
            return
        self._breakers.answered(lane)
        self._on_reply(handed.onward, meta, reply.data)


def _passed_on(name: str, reply: Reply) -> dict[str, Any]:
    """What a node's reply says of an answer, and its times: nothing else of it is passed on.

    What the answer is worth is for whoever asked to judge. Raises `CoinferError` for what is none.
    """
    found: dict[str, Any] = {"bytes": len(reply.data)}
    if "class" in reply.meta:
        found["class"] = meta_int(reply.meta, "class", 0, 2**31)
    if "confidence" in reply.meta:
        found["confidence"] = meta_number(reply.meta, "confidence")
    if reply.data:
        found["shape"] = list(meta_shape(reply.meta, "shape"))
    times = {key: round(meta_number(reply.meta, key, 0.0), 6) for key in TIMES}
    further = reply.meta.get("hops", [])
    if not isinstance(further, list) or len(further) > MOST_HOPS:
        raise RemoteProtocolError("hops: found no list of a few, expected every node's times")
    found["hops"] = [{"node": name} | times, *(_times(one) for one in further)]
    return found


def _times(said: Any) -> dict[str, Any]:
    """A further node's times, as the one before it passed them on."""
    if not isinstance(said, dict) or not isinstance(said.get("node"), str):
        raise RemoteProtocolError("hops: found no node's times, expected them")
    times = {key: round(meta_number(said, key, 0.0), 6) for key in TIMES}
    return {"node": shown_text(said["node"])[:64]} | times
