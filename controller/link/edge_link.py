"""The device's link to its edge: connects in the background, uploads in chunks, hears replies.

Two threads: one sends (`sender`; a black-holed link blocks it alone), one receives and timestamps
(`receiver`). After any broken transfer the connection is dropped, never resynchronised, and built
anew with back-off.
"""

from __future__ import annotations

import math
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artefacts import CoinferError
from controller.link.addresses import (
    Resolved,
    check_address,
    join_address,
    resolve,
    server_name,
)
from controller.link.dialling import connect, interleaved
from controller.link.estimate import BLIND_BUFFER_BYTES, LinkEstimate
from controller.link.interface import OneLane, Reply
from controller.link.keepalive import KEEPALIVE_S, KeepAlive
from controller.link.measuring import Upload
from controller.link.receiver import Receiver, reason
from controller.link.secure import SecureSocket, Security
from controller.link.sender import Sender
from controller.link.sockets import Stream, hang_up, in_flight_bytes, set_send_buffer
from controller.link.uploads import Uploads
from controller.wire import Connection, Message, MessageType, RemoteProtocolError, Role
from controller.wire.inbox import MAX_TENSOR_BYTES

CONNECT_TIMEOUT_S = 2.0
GREETING_S = 4.0
"""From the first packet to the greeting's end: an edge that dribbles is no edge."""
BACK_OFF_S = (0.1, 5.0)
SETTLED_S = 5.0
"""A connection that lived so long begins the back-off anew."""
MOST_INTERVALS = 128
"""In a greeting: each is some twelve bytes of the 4,096 that one may have, beside a token."""


class EdgeLink(OneLane):
    """A connection to one edge that is kept up. `on_reply` is called from the receiving thread."""

    def __init__(
        self,
        host: str,
        port: int,
        model_digest: str,
        on_reply: Callable[[Reply], None],
        *,
        intervals: Sequence[tuple[int, int, int]] = (),
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = 0,
        security: Security | None = None,
        wall: Callable[[], float] = time.time,
        reply_bytes: int = MAX_TENSOR_BYTES,
        keepalive_s: float = KEEPALIVE_S,
        greeting_s: float = GREETING_S,
        meaning: str = "",
        cancels_whole: bool = False,
    ) -> None:
        """`intervals`: (exit, start, stop) that will be asked for, so that the edge prepares;
        `reply_bytes`: of the longest tensor that comes back of them; `meaning`: of the card
        (`meaning_digest`), which the edge's must share ("": it is not asked); `cancels_whole`:
        what was sent whole is cancelled, too, and not only what goes on to further nodes.

        `wall` is the clock that certificates go by. `seed` of the back-off's jitter; None draws
        from the system, so that no two devices agree. `keepalive_s`: between two pings of a link
        in use; `greeting_s`: what connecting may take.
        """
        check_address(host, secure=security is not None)
        self._security, self._wall, self._greeting_s = security, wall, greeting_s
        self._hello = greeting(
            model_digest, intervals, None if security is None else security.token, meaning
        )
        self._address, self._cancels_whole = (host, port), cancels_whole
        self._silent: set[Resolved] = set()
        """Addresses of the host that took a connection and greeted nobody: they are asked last."""
        self._clock, self._jitter = clock, random.Random(seed)
        self._outgoing: queue.Queue[Upload | Message | None] = queue.Queue()
        self._closed, self._up = threading.Event(), threading.Event()
        self._socket: Stream | None = None
        self._connection = Connection(Role.DEVICE)
        self.uploads, self.estimate = Uploads(), LinkEstimate()
        self.keepalive = KeepAlive(clock(), keepalive_s)
        self._receiver = Receiver(
            self.uploads, self.estimate, self.keepalive, clock, on_reply, self._note, reply_bytes
        )
        self.last_error: str | None = None
        self.reconnects = self._greeted = 0
        threading.Thread(target=self._keep_up, daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether the edge has greeted us."""
        return self._up.is_set()

    @property
    def greetings(self) -> Mapping[int, int]:
        """How often the edge has greeted us."""
        return {0: self._greeted}

    @property
    def address(self) -> str:
        """HOST:PORT of the edge."""
        return join_address(*self._address)

    @property
    def unanswered_s(self) -> float:
        """Seconds that a ping has waited for anything to be heard (0 where none does)."""
        return self.keepalive.unanswered_s(self._clock())

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the greeting."""
        return self._up.wait(timeout_s)

    @property
    def rtt_s(self) -> float | None:
        """Round trip of keep-alives (None before any)."""
        return self.estimate.rtt_s

    @property
    def rate_bps(self) -> float | None:
        """The link's rate as the newest upload tells it (None before any)."""
        return self.estimate.rate_bps

    @property
    def late_replies(self) -> int:
        """Replies that nobody waited for any more."""
        return self._receiver.late_replies

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the link still has to carry, as far as the device can know.

        Uploads that are still wanted count whole until they are answered; what cancelled ones left
        in the socket counts until the other side has acknowledged it.
        """
        live, unsent = self.uploads.wanted_bytes()
        sock = self._socket
        return max(live, (0 if sock is None else in_flight_bytes(sock)) + unsent)

    def upload(self, meta: dict[str, Any], data: bytes, until_s: float = math.inf) -> int | None:
        """Queue a request that is worth answering until `until_s` (this clock).

        None where there is no connection: answer locally.
        """
        now = self._clock()
        job = self.uploads.add(meta, data, now, until_s)
        if job is None:
            return None
        self.keepalive.used_s = now
        self._outgoing.put(job)
        return job.request_id

    def cancel(self, request_id: int) -> int | None:
        """Stop an upload between chunks; bytes already handed to the kernel, None where over."""
        handed = self.uploads.cancel(request_id)
        if self.uploads.handed_on(request_id, every=self._cancels_whole):
            # what is whole at the edge may still be on its way to further nodes
            self._outgoing.put(Message(MessageType.CANCEL, request_id))
        return handed

    def sent_bytes(self, request_id: int) -> int:
        """Payload bytes of a request handed to the kernel so far (0 where it is over)."""
        return self.uploads.sent_bytes(request_id)

    def close(self) -> None:
        """End both threads and the connection."""
        self._closed.set()
        self._outgoing.put(None)
        self._drop(self.last_error or "closed")

    def _note(self, error: str) -> None:
        self.last_error = error

    # -- connecting ------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        delay = BACK_OFF_S[0]
        while not self._closed.is_set():
            try:
                self._connect()
            except (OSError, ValueError, CoinferError) as error:
                # ValueError: a name that cannot be one
                self.last_error = f"{self.address}: {error}"
                delay = self._back_off(delay)
                continue
            greeted_s = self._clock()
            self._converse()
            if self._closed.is_set():
                return
            self.reconnects += 1
            if self._clock() - greeted_s >= SETTLED_S:
                delay = BACK_OFF_S[0]
            # an edge that greets and closes, over and over, is not asked at full speed either
            delay = self._back_off(delay)

    def _back_off(self, delay_s: float) -> float:
        """Wait, jittered; how long to wait next time."""
        self._closed.wait(delay_s * (0.5 + self._jitter.random()))
        return min(2.0 * delay_s, BACK_OFF_S[1])

    def _connect(self) -> None:
        known = interleaved(resolve(*self._address))
        if self._silent.issuperset(known):
            self._silent.clear()
        known.sort(key=lambda one: one in self._silent)
        sock, used = connect(known, CONNECT_TIMEOUT_S)
        # each step has its time-out; together they must not take for ever
        patience = threading.Timer(self._greeting_s, hang_up, (sock,))
        patience.daemon = True
        patience.start()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_send_buffer(sock, BLIND_BUFFER_BYTES)
            if self._security is None:
                self._greet(sock)
            else:
                self._greet(
                    SecureSocket(sock, self._security.context, server_name(self._address[0]))
                )
        except BaseException:
            self._silent.add(used)
            sock.close()
            raise
        finally:
            patience.cancel()

    def _greet(self, sock: Stream) -> None:
        connection = Connection(Role.DEVICE)
        sock.sendall(connection.send(Message(MessageType.HELLO, meta=self._hello)))
        while True:
            try:
                data = sock.recv(65536)
            except ConnectionResetError:  # the same, where what we had sent was not read any more
                data = b""
            if not data:
                hint = ", as one does that does not believe our certificate"
                raise ConnectionError(
                    "the edge closed the connection during the greeting"
                    + (hint if self._security is not None else "")
                )
            messages = connection.receive(data)
            if messages:
                break
        if messages[0].type is MessageType.REFUSE:
            raise RemoteProtocolError(f"the edge refused us: {reason(messages[0].meta)}")
        sock.settimeout(self.keepalive.every_s)
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        self._socket, self._connection = sock, connection
        self.estimate.begin()
        self.keepalive.begin(self._clock())
        self._receiver.begin(connection)
        self._greeted += 1
        self.uploads.open()
        self._up.set()
        self._ping()

    def _drop(self, why: str) -> None:
        if self._up.is_set():
            # whoever notices second only sees that the socket is gone
            self.last_error = why
        self.uploads.shut()
        self._up.clear()
        sock = self._socket
        if sock is not None:
            hang_up(sock)
            sock.close()

    # -- one connection --------------------------------------------------------------------------

    def _converse(self) -> None:
        """Send and receive until the connection ends; what is under way then is lost."""
        sock = self._socket
        assert sock is not None
        sender = threading.Thread(target=self._send_all, args=(sock,), daemon=True)
        sender.start()
        self._receive_all(sock)
        self._drop(self.last_error or "closed")
        self._outgoing.put(None)
        sender.join(CONNECT_TIMEOUT_S)
        self._receiver.lost(self.last_error or "connection lost")

    def _send_all(self, sock: Stream) -> None:
        sender = Sender(
            sock, self._connection, self._outgoing, self.uploads, self.estimate, self.keepalive,
            self._clock, self._up.is_set, self._closed.is_set,
        )  # fmt: skip
        try:
            sender.run()
        except (OSError, ValueError, CoinferError) as error:
            # ValueError: the receiver closed the socket between the check and the poll
            self._drop(f"sending failed ({error})")

    def _receive_all(self, sock: Stream) -> None:
        try:
            while not self._closed.is_set():
                try:
                    data = sock.recv(65536)
                except TimeoutError:
                    self._idle(sock)
                    continue
                if not data:
                    self._receiver.end_of_stream()
                    raise ConnectionError("the edge closed the connection")
                self._receiver.received(data)
                self._still_believed(sock)
                if self.keepalive.due(self._clock()):
                    self._ping()
        except (OSError, CoinferError) as error:
            self._drop(str(error))

    def _still_believed(self, sock: Stream) -> None:
        """End the connection with the edge's certificate."""
        if isinstance(sock, SecureSocket) and self._wall() >= sock.believed_until_s:
            raise ConnectionError("the edge's certificate has ended")

    def _idle(self, sock: Stream) -> None:
        """Nothing heard for a while: ask, and give up on an edge that stays silent."""
        self._still_believed(sock)
        now = self._clock()
        silent_s = self.keepalive.silent_s(now)
        if silent_s is not None:
            raise ConnectionError(f"nothing heard for {silent_s:.1f} s, expected a keep-alive")
        if self.keepalive.due(now):
            self._ping()

    def _ping(self) -> None:
        self._outgoing.put(Message(MessageType.PING, self.keepalive.ask(self._clock())))


def greeting(
    digest: str, intervals: Sequence[tuple[int, int, int]], token: bytes | None, meaning: str = ""
) -> dict[str, Any]:
    """What a device's first message says; it fits into one, whatever there is to say."""
    said: dict[str, Any] = {
        "model": digest,
        "intervals": [list(one) for one in intervals[:MOST_INTERVALS]],
    }
    if meaning:
        said["meaning"] = meaning
    return said if token is None else said | {"token": token.decode("ascii")}
