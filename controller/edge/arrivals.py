"""A request at the edge: when its bytes came, what it was; and the word that refuses one."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.wire import Message, MessageType

GAPS = 6
"""As many round trips as a window of ten segments needs for a megabyte."""
FIRST_WINDOW_BYTES = 14480
"""RFC 6928: what fits into it has waited for nothing."""
MOST_REASON = 500
"""Characters of a refusal's reason: they fit into a message, whatever they are."""


@dataclass(slots=True)
class Timing:
    """When a request's bytes came, on the edge's clock; nobody waits for it after `until_s`."""

    first_s: float
    last_s: float
    until_s: float = math.inf
    first_read_bytes: int = 0
    whole_chunks_bytes: int = 0
    received_bytes: int = 0
    gaps_s: list[float] = field(default_factory=list)
    """The longest times between two reads: where TCP's window was small, it waited there."""
    expected_bytes: int = 0
    """That the request announced."""
    charged: float = 0.0
    """What it cost of the device's budget, until the request is answered."""

    def note(self, now_s: float, partial_bytes: int) -> None:
        """A read ended; `partial_bytes` of a chunk whose rest is still to come belong to it."""
        if now_s > self.last_s:
            keep = heapq.heappush if len(self.gaps_s) < GAPS else heapq.heappushpop
            keep(self.gaps_s, now_s - self.last_s)
        self.last_s = now_s
        self.received_bytes = self.whole_chunks_bytes + partial_bytes
        if now_s == self.first_s:
            self.first_read_bytes = self.received_bytes

    def meta(self) -> dict[str, Any]:
        """What the device's bandwidth estimate is made of."""
        found: dict[str, Any] = {
            "first_read_bytes": self.first_read_bytes,
            "received_bytes": self.received_bytes,
            "receive_s": self.last_s - self.first_s,
        }
        if self.received_bytes > FIRST_WINDOW_BYTES:
            found["gaps_s"] = [round(gap, 5) for gap in sorted(self.gaps_s, reverse=True)]
        return found


@dataclass(frozen=True, slots=True)
class Arrival:
    """A whole request, and when it came."""

    request_id: int
    meta: Mapping[str, Any]
    data: bytes
    timing: Timing


def refusal(request: int, reason: str, more: Mapping[str, Any] | None = None) -> Message:
    """A REFUSE message; request 0 is the whole connection."""
    return Message(
        MessageType.REFUSE, request, meta={"reason": reason[:MOST_REASON], **(more or {})}
    )
