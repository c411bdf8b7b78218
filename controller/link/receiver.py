"""The receiving half of a link: what the edge's messages mean, and what they say of the link.

Bytes in, replies out. No socket, thread or clock of its own: whoever reads the socket passes bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from artefacts import CoinferError
from controller.interface import Measurement
from controller.link.budget import Budget, chunk_cost, idle_cost, read_cost
from controller.link.estimate import LinkEstimate
from controller.link.interface import Reply
from controller.link.keepalive import KeepAlive
from controller.link.measuring import Upload, measure
from controller.link.uploads import Uploads
from controller.wire import Arrived, Connection, Inbox, Message, MessageType, RemoteProtocolError
from controller.wire.messages import shown_text

IDLE_MESSAGES, IDLE_MESSAGES_PER_S = 200, 20.0
"""That belong to nothing we asked: so many an edge may send at once, and so many a second."""


class Receiver:
    """`begin` for every connection; `received` for every read.

    `reply_bytes`: of the longest tensor that is waited for. `on_reply` gets what came of each
    request, `report` what was wrong with an answer that was of use all the same.
    """

    def __init__(
        self,
        uploads: Uploads,
        estimate: LinkEstimate,
        keepalive: KeepAlive,
        clock: Callable[[], float],
        on_reply: Callable[[Reply], None],
        report: Callable[[str], None],
        reply_bytes: int,
    ) -> None:
        self._uploads, self._estimate, self._keepalive = uploads, estimate, keepalive
        self._clock, self._on_reply, self._report = clock, on_reply, report
        self._reply_bytes = reply_bytes
        self._budget = Budget(IDLE_MESSAGES, IDLE_MESSAGES_PER_S)
        """Over all connections: an edge that was hung up on owes still."""
        self.late_replies = 0

    def begin(self, connection: Connection) -> None:
        """A new connection, whose greeting is over."""
        self._connection = connection
        self._inbox = Inbox(max_bytes=self._reply_bytes)

    def received(self, data: bytes) -> None:
        """Bytes came; a `RemoteProtocolError` where the connection is of no further use."""
        self._keepalive.heard(self._clock())
        count = 0
        for message in self._connection.messages(data):
            count += 1
            self._handle(message)
        self._spend(read_cost(len(data), count))

    def end_of_stream(self) -> None:
        """The edge has closed; a `RemoteProtocolError` where that was amid a message."""
        self._connection.end_of_stream()

    def lost(self, why: str) -> None:
        """The connection went with everything that was under way."""
        for request in self._uploads.pop_all():
            self._on_reply(Reply(request, self._clock(), error=why, lost=True))

    def _spend(self, cost: float) -> None:
        """Take what a message costs from the edge's budget."""
        if cost and not self._budget.spend(cost, self._clock()):
            raise RemoteProtocolError(f"found more than {self._budget}, expected fewer")

    def _handle(self, message: Message) -> None:
        kind, request = message.type, message.request_id
        if not self._belongs(message):
            self._spend(idle_cost(message))
            if kind is MessageType.REFUSE and request == 0:
                raise RemoteProtocolError(f"the edge dropped us: {reason(message.meta)}")
            self.late_replies += kind in (MessageType.REPLY, MessageType.CANCELLED)
        elif kind is MessageType.PONG:
            now = self._clock()
            self._estimate.round_trip(now, self._keepalive.answered(request, now))
        elif kind is MessageType.REPLY:
            self._whole(self._inbox.begin(message))
        elif kind is MessageType.CHUNK:
            self._chunk(message)
        elif kind is MessageType.CANCELLED:
            self._ended(request, message.meta, b"", cancelled=True)
        elif kind is MessageType.REFUSE:
            self._refused(request, message.meta)

    def _belongs(self, message: Message) -> bool:
        """Whether a message belongs to something that we asked."""
        request = message.request_id
        if message.type is MessageType.PONG:
            return request in self._keepalive
        if message.type is MessageType.CHUNK and request not in self._inbox:
            return False
        return request in self._uploads

    def _chunk(self, message: Message) -> None:
        cost = chunk_cost(message)
        self._spend(cost)
        arrived = self._inbox.add(message)
        if arrived is not None:
            self._budget.give_back(cost)  # the last one is as short as it is
        self._whole(arrived)

    def _whole(self, arrived: Arrived | None) -> None:
        if arrived is not None:
            self._ended(arrived.request_id, arrived.meta, arrived.data, cancelled=False)

    def _refused(self, request: int, meta: Mapping[str, Any]) -> None:
        why, now, job = reason(meta), self._clock(), self._uploads.pop(request)
        # a refusal that says when the bytes came still tells how fast the link is
        timed = job is not None and "received_bytes" in meta
        seen = self._measured(job, meta, now, False) if job and timed else None
        self._estimate.learn(seen)
        self._on_reply(Reply(request, now, meta, error=why, measurement=seen))

    def _ended(
        self, request: int, meta: Mapping[str, Any], data: bytes, *, cancelled: bool
    ) -> None:
        now, job = self._clock(), self._uploads.pop(request)
        if job is None:
            self.late_replies += 1
            return
        self.late_replies += job.cancelled and not cancelled
        seen = self._measured(job, meta, now, cancelled)
        self._estimate.learn(seen)
        self._on_reply(Reply(request, now, meta, data, cancelled=cancelled, measurement=seen))

    def _measured(
        self, job: Upload, meta: Mapping[str, Any], now_s: float, cancelled: bool
    ) -> Measurement | None:
        """`measure`, or nothing where the edge's figures make no sense: its answer may."""
        known = self._estimate
        try:
            return measure(job, meta, now_s, known.rtt_s or 0.0, cancelled, known.usual_rtt_s)
        except CoinferError as error:
            self._report(f"the edge's receive times: {error}")
            return None


def reason(meta: Mapping[str, Any]) -> str:
    """Why an edge refuses, as far as that can be shown to people."""
    return shown_text(meta.get("reason", "no reason given"))
