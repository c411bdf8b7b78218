"""The sending half of one connection: uploads in chunks, paced by what is known of the link.

A link that stands still blocks this thread alone.
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.link.estimate import LinkEstimate
from controller.link.keepalive import KEEPALIVE_S, KeepAlive
from controller.link.measuring import Upload
from controller.link.sockets import (
    Stream,
    in_flight_bytes,
    set_send_buffer,
    window_bytes,
    writable,
)
from controller.link.uploads import Uploads
from controller.wire import CHUNK_BYTES, Connection, Message, MessageType

POLL_S = 0.001


@dataclass(frozen=True)
class Sender:
    """Sends what is put into `outgoing` until a None comes. One instance, one connection.

    `alive` says whether the connection still stands, `closed` whether the link is being ended.
    """

    sock: Stream
    connection: Connection
    outgoing: queue.Queue[Upload | Message | None]
    uploads: Uploads
    estimate: LinkEstimate
    keepalive: KeepAlive
    clock: Callable[[], float]
    alive: Callable[[], bool]
    closed: Callable[[], bool]

    def run(self) -> None:
        """Raises `OSError`, `ValueError` or `CoinferError` where the connection is of no use."""
        while (item := self.outgoing.get()) is not None:
            if isinstance(item, Upload):
                self._upload(item)
                continue
            if item.type is MessageType.PING:
                self.keepalive.sent(item.request_id, self.clock())
            self._send(item)

    def _send(self, *messages: Message) -> None:
        data = memoryview(b"".join([self.connection.send(m) for m in messages]))
        while data:
            # TCP_NOTSENT_LOWAT holds back only those who ask before they send
            if self.sock.fileno() < 0:
                raise ConnectionError("closed while sending")
            if not writable(self.sock, KEEPALIVE_S):
                if self.closed() or not self.alive():
                    raise ConnectionError("closed while sending")
                continue
            try:
                data = data[self.sock.send(data) :]
            except TimeoutError:
                # the link may stand still for longer than a keep-alive; the receiver decides
                # when it is dead, and closing the socket ends this loop
                if self.closed():
                    raise

    def _upload(self, job: Upload) -> None:
        self._wait_for_room(job)
        job.begun_s = self.clock()
        request, burst = job.request_id, self._fit()
        size = min(burst, CHUNK_BYTES)
        # waiting has cost time: what remains is counted from now
        left = 0.0 if job.until_s == math.inf else max(job.until_s - job.begun_s, 1e-3)
        opening = [
            Message(MessageType.REQUEST, request, meta=job.meta | {"remaining_s": round(left, 4)})
        ]
        for at in range(0, max(len(job.data), 1), burst):
            if job.cancelled:
                break
            until = min(at + burst, len(job.data))
            parts = [
                Message(MessageType.CHUNK, request, k, payload=job.data[k : min(k + size, until)])
                for k in range(at, until, size)
            ]
            # the opening goes with the first bytes: one packet, one waking of the edge
            self._send(*opening, *parts)
            if opening:
                job.window_bytes = window_bytes(self.sock)
            opening, job.sent_bytes = [], until
        if job.cancelled and 0 < job.sent_bytes < len(job.data):
            self._send(Message(MessageType.CANCEL, request))
        job.finished = True
        if job.sent_bytes == 0:
            self.uploads.pop(request)

    def _fit(self) -> int:
        """Bytes to hand over at once; fits the send buffer to the link too."""
        wanted = self.estimate.new_buffer_bytes()
        if wanted is not None:
            set_send_buffer(self.sock, wanted, self.estimate.unsent_bytes)
        return self.estimate.burst_bytes

    def _wait_for_room(self, job: Upload) -> None:
        """Hold an upload back while older bytes fill the link: once handed over they cannot be
        taken back, and behind stale bytes every frame is late.
        """
        while not job.cancelled and self.alive():
            if in_flight_bytes(self.sock) <= self.estimate.room_bytes:
                return
            # the kernel tells nobody when the other side acknowledges: it must be asked
            time.sleep(POLL_S)
