"""What a device asks of its way to the edge, whatever it is: one edge, several, or none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.interface import Measurement


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: an answer or a tensor, or `error`; with its measurement if any."""

    request_id: int
    at_s: float
    meta: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""
    error: str | None = None
    cancelled: bool = False
    measurement: Measurement | None = None
    lost: bool = False
    """The connection went with it."""


class Link(Protocol):
    """What an engine asks of its way to the edge; replies come by a callback."""

    @property
    def last_error(self) -> str | None:
        """Why the connection was last lost or refused."""

    @property
    def late_replies(self) -> int:
        """Replies that nobody waited for any more."""

    @property
    def reconnects(self) -> int:
        """Connections that were lost."""

    @property
    def rtt_s(self) -> float | None:
        """Round trip of keep-alives."""

    @property
    def connected(self) -> bool:
        """Whether an edge has greeted us."""

    @property
    def address(self) -> str:
        """HOST:PORT of the edge that serves."""

    @property
    def unanswered_s(self) -> float:
        """Seconds that it has been silent though it was asked."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the link still has to carry."""

    @property
    def lanes(self) -> tuple[int, ...]:
        """Numbers of the edges that may be asked, the one to prefer first; never none."""

    @property
    def greetings(self) -> Mapping[int, int]:
        """How often each edge has greeted us."""

    def lane(self, request_id: int) -> int:
        """Which edge a request went to."""

    def serve(self, lane: int) -> None:
        """Have this edge serve: it gets the next request, and what the link says is said of it."""

    def upload(self, meta: dict[str, Any], data: bytes, until_s: float = math.inf) -> int | None:
        """Queue a request; None where there is no connection."""

    def cancel(self, request_id: int) -> int | None:
        """Stop an upload; bytes handed over so far, None where it is over."""

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a greeting."""

    def close(self) -> None:
        """End it."""


class OneLane:
    """What a way to one edge alone, or to none, says of the edges to choose from."""

    lanes: tuple[int, ...] = (0,)

    def lane(self, request_id: int) -> int:
        """The only one."""
        return 0

    def serve(self, lane: int) -> None:
        """There is no other."""


class NoLink(OneLane):
    """No edge was named: the device answers alone."""

    greetings: Mapping[int, int] = {}

    last_error: str | None = "no edge is configured"
    late_replies = 0
    reconnects = 0
    rtt_s: float | None = None
    connected = False
    address = ""
    unanswered_s = 0.0
    backlog_bytes = 0

    def upload(self, meta: dict[str, Any], data: bytes, until_s: float = math.inf) -> int | None:
        """Nothing can be sent."""
        return None

    def cancel(self, request_id: int) -> int | None:
        """Nothing is under way."""
        return None

    def wait_connected(self, timeout_s: float) -> bool:
        """Nobody will greet."""
        return False

    def close(self) -> None:
        """Nothing to end."""
