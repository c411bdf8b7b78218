"""Requests that are coming in on one connection: timestamped, bounded, and over in time.

No socket, thread or clock: messages come with the time their read ended.
"""

from __future__ import annotations

import math

from controller.edge.arrivals import Arrival, Timing
from controller.edge.limits import EdgeLimits
from controller.link.budget import chunk_cost, idle_cost
from controller.wire import Arrived, Inbox, Message, MessageType
from controller.wire.messages import meta_number

OWED_REQUESTS = 64
"""Requests that are over and of which bytes may still come; of more the oldest is forgotten."""


class Incoming:
    """Takes REQUEST, CHUNK and CANCEL; gives whole requests, and CANCELLED for those that end."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._longest_s = limits.longest_s
        self._inbox = Inbox(limits.requests, limits.tensor_bytes, limits.inbox_bytes)
        self.timings: dict[int, Timing] = {}
        """Of requests whose bytes are still to come."""
        self._owed: dict[int, int] = {}
        """Bytes that are still to come of requests that are over."""

    def cost(self, message: Message) -> float:
        """What a message takes from its device's budget; a request's part comes back with its
        answer.
        """
        request = message.request_id
        timing, size = self.timings.get(request), len(message.payload)
        if message.type is not MessageType.CHUNK:
            return idle_cost(message)
        if timing is not None:
            cost = chunk_cost(message)
            timing.charged += cost
            return cost
        if 0 < size <= self._owed.get(request, 0):
            # what was under way when the request's time was over
            self._owed[request] -= size
            return chunk_cost(message)
        return idle_cost(message)

    def begin(self, message: Message, now_s: float) -> Arrival | None:
        """A REQUEST; gives it where it brings no bytes. Raises `RemoteProtocolError`."""
        remaining, longest = meta_number(message.meta, "remaining_s", 0.0), self._longest_s
        until = now_s + (min(remaining, longest) if remaining > 0 else longest)
        timing = Timing(now_s, now_s, until, charged=idle_cost(message))
        self.timings[message.request_id] = timing
        arrived = self._inbox.begin(message)
        if arrived is None:
            timing.expected_bytes = int(message.meta["bytes"])
        return self._whole(arrived, now_s)

    def add(self, message: Message, now_s: float) -> Arrival | None:
        """A CHUNK; gives the request that it completes. Raises `RemoteProtocolError`."""
        timing = self.timings.get(message.request_id)
        if timing is not None:
            timing.whole_chunks_bytes += len(message.payload)
            timing.note(now_s, 0)
        return self._whole(self._inbox.add(message), now_s)

    def partial(self, request: int, n_bytes: int, now_s: float) -> None:
        """A read ended amid a chunk, `n_bytes` of which are here."""
        if n_bytes and request in self.timings:
            self.timings[request].note(now_s, n_bytes)

    def cancel(self, request: int) -> Message | None:
        """Nobody waits for it any more; the word that says how much of it had come.

        None where it is over: answered, or its time was, which the device knows already.
        """
        timing = self.timings.pop(request, None)
        if timing is None:
            return None
        there = self._inbox.cancel(request)
        self._owe(request, timing.expected_bytes - there)
        received = max(there, timing.received_bytes)
        meta = timing.meta() | {"received_bytes": received}
        return Message(MessageType.CANCELLED, request, meta=meta)

    def expire(self, now_s: float) -> list[Message]:
        """Free what cannot be answered in time any more; the words that say so.

        A CANCEL queues behind the very bytes it is to stop; the edge knows the deadline itself.
        """
        words = []
        for request in [r for r, t in self.timings.items() if t.until_s <= now_s]:
            self.timings[request].last_s = now_s
            words.append(self.cancel(request))
        return [word for word in words if word is not None]

    @property
    def expires_s(self) -> float:
        """When the next request's time will be over (inf where none is coming in)."""
        return min((t.until_s for t in self.timings.values()), default=math.inf)

    def _whole(self, arrived: Arrived | None, now_s: float) -> Arrival | None:
        if arrived is None:
            return None
        timing = self.timings.pop(arrived.request_id, Timing(now_s, now_s))
        return Arrival(arrived.request_id, arrived.meta, arrived.data, timing)

    def _owe(self, request: int, size: int) -> None:
        """So many bytes of a request that is over may be on their way still."""
        if size > 0:
            self._owed[request] = size
            if len(self._owed) > OWED_REQUESTS:
                del self._owed[next(iter(self._owed))]
