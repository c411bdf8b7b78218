"""The device's link to its edge: connects in the background, uploads in chunks, hears replies.

Two threads: one sends (a black-holed link blocks it alone), one receives and timestamps. After any
broken transfer the connection is dropped, never resynchronised, and built anew with back-off.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import queue
import random
import select
import socket
import statistics
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artefacts import CoinferError
from controller.interface import Measurement
from controller.link.addresses import (
    Resolved,
    check_address,
    join_address,
    resolve,
    server_name,
)
from controller.link.budget import Budget, chunk_cost, idle_cost, read_cost
from controller.link.dialling import connect, interleaved
from controller.link.interface import OneLane, Reply
from controller.link.measuring import Upload, measure
from controller.link.secure import SecureSocket, Security
from controller.wire import (
    CHUNK_BYTES,
    Arrived,
    Connection,
    Inbox,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
)
from controller.wire.inbox import MAX_TENSOR_BYTES
from controller.wire.messages import shown_text

UPLOAD_CHUNK_BYTES = 2048
"""Small chunks end a cancelled upload soon on a slow link; a header is 1.4 % of one."""
CHUNK_S = 0.002
"""On a link known to be fast as much is handed over at once as it carries in so long."""
BURST_BYTES = 262144
"""But no more than this."""
NOT_SENT_BYTES = 4096
SEND_BUFFER_BYTES = 16384
BLIND_BUFFER_BYTES = 65536
"""While nothing is known of the link: TCP itself sends no more than its first window and as much
again as has come through, and a buffer below that would look like a slow link."""
BUFFER_S = 0.005
"""On a link known to be fast the send buffer holds what it carries in so long: what a cancelled
upload leaves there delays the next frame by no more."""
WINDOWS = 2.0
"""And so many bandwidth-delay products."""
LARGEST_BUFFER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 2.0
GREETING_S = 4.0
"""From the first packet to the greeting's end: an edge that dribbles is no edge."""
BACK_OFF_S = (0.1, 5.0)
SETTLED_S = 5.0
"""A connection that lived so long begins the back-off anew."""
KEEPALIVE_S = 1.0
"""A ping goes out so often while requests do."""
IDLE_KEEPALIVE_S = 10.0
"""And so often while none do (0.2 KB each: 55 MB a month)."""
SILENCE_S = 5.0
"""How long a ping may go without anything being heard."""
RTT_WINDOW_S = 10.0
"""The round trip is the least of so long: a ping that waits behind an upload says nothing of it."""
QUEUE_GAIN = 1.25
"""An upload begins once no more than this many bandwidth-delay products are on the way."""
LEAST_IN_FLIGHT_BYTES = 1448
BLIND_IN_FLIGHT_BYTES = 14480
"""TCP's initial window (RFC 6928): what may be on the way before the link's rate is known."""
POLL_S = 0.001
TCP_INFO = struct.Struct("=16xI60xI")
"""Of the kernel's `struct tcp_info`: bytes of a segment, segments of the window."""
IDLE_MESSAGES, IDLE_MESSAGES_PER_S = 200, 20.0
"""That belong to nothing we asked: so many an edge may send at once, and so many a second."""
MOST_PINGS = 64
"""That an answer is waited for."""
MOST_INTERVALS = 128
"""In a greeting: each is some twelve bytes of the 4,096 that one may have, beside a token."""


Stream = socket.socket | SecureSocket
"""What the link's two threads send into and receive from."""


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
    ) -> None:
        """`intervals`: (exit, start, stop) that will be asked for, so that the edge prepares;
        `reply_bytes`: of the longest tensor that comes back of them.

        `wall` is the clock that certificates go by. `seed` of the back-off's jitter; None draws
        from the system, so that no two devices agree.
        """
        check_address(host, secure=security is not None)
        self._security = security
        self._hello = greeting(
            model_digest, intervals, None if security is None else security.token
        )
        self._wall, self._reply_bytes = wall, reply_bytes
        self._budget = Budget(IDLE_MESSAGES, IDLE_MESSAGES_PER_S)
        """Over all connections: an edge that was hung up on owes still."""
        self._address = (host, port)
        self._silent: set[Resolved] = set()
        """Addresses of the host that took a connection and greeted nobody: they are asked last."""
        self._on_reply, self._clock = on_reply, clock
        self._jitter = random.Random(seed)
        self._lock = threading.Lock()
        self._outgoing: queue.Queue[Upload | Message | None] = queue.Queue()
        self._uploads: dict[int, Upload] = {}
        self._next_id = 1
        self._closed = threading.Event()
        self._up = threading.Event()
        self._socket: Stream | None = None
        self._connection = Connection(Role.DEVICE)
        self._pinged: dict[int, float] = {}
        self._pings = 0
        self._asked_s = 0.0
        self._awaited_s: float | None = None
        self._rtts: deque[tuple[float, float]] = deque()
        self._buffer_bytes = BLIND_BUFFER_BYTES
        self.rtt_s: float | None = None
        self._rate_bps: float | None = None
        self.last_error: str | None = None
        self.late_replies = 0
        self.reconnects = self._greeted = 0
        self._heard_s = self._used_s = self._clock()
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
        awaited = self._awaited_s
        return 0.0 if awaited is None else max(self._clock() - awaited, 0.0)

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the greeting."""
        return self._up.wait(timeout_s)

    @property
    def rate_bps(self) -> float | None:
        """The link's rate as the newest upload tells it (None before any)."""
        return self._rate_bps

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the link still has to carry, as far as the device can know.

        Uploads that are still wanted count whole until they are answered; what cancelled ones left
        in the socket counts until the other side has acknowledged it.
        """
        with self._lock:
            wanted = [u for u in self._uploads.values() if not u.cancelled]
            live = sum(len(u.data) for u in wanted)
            unsent = sum(len(u.data) - u.sent_bytes for u in wanted)
        return max(live, self._in_flight() + unsent)

    def upload(self, meta: dict[str, Any], data: bytes, until_s: float = math.inf) -> int | None:
        """Queue a request that is worth answering until `until_s` (this clock).

        None where there is no connection: answer locally.
        """
        with self._lock:
            if not self._up.is_set():
                return None
            request = self._next_id
            self._next_id += 1
            self._used_s = self._clock()
            job = Upload(request, meta | {"bytes": len(data)}, data, self._clock(), until_s)
            self._uploads[request] = job
        self._outgoing.put(job)
        return request

    def cancel(self, request_id: int) -> int | None:
        """Stop an upload between chunks; bytes already handed to the kernel, None where over."""
        with self._lock:
            job = self._uploads.get(request_id)
            if job is None:
                return None
            job.cancelled = True
            return job.sent_bytes

    def sent_bytes(self, request_id: int) -> int:
        """Payload bytes of a request handed to the kernel so far (0 where it is over)."""
        with self._lock:
            job = self._uploads.get(request_id)
            return 0 if job is None else job.sent_bytes

    def close(self) -> None:
        """End both threads and the connection."""
        self._closed.set()
        self._outgoing.put(None)
        self._drop(self.last_error or "closed")

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
            sender = threading.Thread(target=self._send_all, args=(self._socket,), daemon=True)
            sender.start()
            self._receive_all()
            self._drop(self.last_error or "closed")
            self._outgoing.put(None)
            sender.join(CONNECT_TIMEOUT_S)
            self._fail_uploads(self.last_error or "connection lost")
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
        patience = threading.Timer(GREETING_S, _hang_up, (sock,))
        patience.daemon = True
        patience.start()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLIND_BUFFER_BYTES)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
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
            data = sock.recv(65536)
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
            raise RemoteProtocolError(f"the edge refused us: {_reason(messages[0].meta)}")
        sock.settimeout(KEEPALIVE_S)
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        self._socket, self._connection = sock, connection
        self._pinged.clear()
        self._rtts.clear()
        self._rate_bps, self._buffer_bytes = None, BLIND_BUFFER_BYTES
        self._heard_s, self._awaited_s = self._clock(), None
        self._inbox = Inbox(max_bytes=self._reply_bytes)
        self._greeted += 1
        self._up.set()
        self._ping()

    def _drop(self, why: str) -> None:
        if self._up.is_set():
            # whoever notices second only sees that the socket is gone
            self.last_error = why
        with self._lock:
            self._up.clear()
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _fail_uploads(self, why: str) -> None:
        with self._lock:
            lost = list(self._uploads)
            self._uploads.clear()
        for request in lost:
            self._on_reply(Reply(request, self._clock(), error=why, lost=True))

    # -- sending ---------------------------------------------------------------------------------

    def _send_all(self, sock: Stream) -> None:
        try:
            while (item := self._outgoing.get()) is not None:
                if isinstance(item, Upload):
                    self._send_upload(sock, item)
                    continue
                if item.type is MessageType.PING:
                    # how long it waited behind our own uploads is not the link's doing
                    self._pinged[item.request_id] = self._clock()
                    if len(self._pinged) > MOST_PINGS:  # an edge that answers anything but these
                        del self._pinged[next(iter(self._pinged))]
                self._send(sock, item)
        except (OSError, ValueError, CoinferError) as error:
            # ValueError: the receiver closed the socket between the check and the select
            self._drop(f"sending failed ({error})")

    def _send(self, sock: Stream, *messages: Message) -> None:
        data = memoryview(b"".join([self._connection.send(m) for m in messages]))
        while data:
            # TCP_NOTSENT_LOWAT holds back only those who ask before they send
            if sock.fileno() < 0:
                raise ConnectionError("closed while sending")
            if not _writable(sock, KEEPALIVE_S):
                if self._closed.is_set() or not self._up.is_set():
                    raise ConnectionError("closed while sending")
                continue
            try:
                data = data[sock.send(data) :]
            except TimeoutError:
                # the link may stand still for longer than a keep-alive; the receiver decides
                # when it is dead, and closing the socket ends this loop
                if self._closed.is_set():
                    raise

    def _send_upload(self, sock: Stream, job: Upload) -> None:
        self._wait_for_room(job)
        job.begun_s = self._clock()
        request = job.request_id
        burst = self._fit(sock)
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
            self._send(sock, *opening, *parts)
            if opening:
                job.window_bytes = self._window()
            opening, job.sent_bytes = [], until
        if job.cancelled and 0 < job.sent_bytes < len(job.data):
            self._send(sock, Message(MessageType.CANCEL, request))
        job.finished = True
        if job.sent_bytes == 0:
            with self._lock:
                self._uploads.pop(request, None)

    def _fit(self, sock: Stream) -> int:
        """Bytes to hand over at once, from the link's rate; fits the send buffer to it too."""
        rate = self._rate_bps
        if rate is None:
            return UPLOAD_CHUNK_BYTES
        # twice what the link holds: a window that is too small would look like a slow link
        carried = rate * (BUFFER_S + WINDOWS * (self.rtt_s or 0.0)) / 8.0
        wanted = min(max(SEND_BUFFER_BYTES, int(carried)), LARGEST_BUFFER_BYTES)
        if not 0.5 <= wanted / self._buffer_bytes <= 2.0:
            self._buffer_bytes = wanted
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wanted)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                unsent = max(NOT_SENT_BYTES, int(rate * CHUNK_S / 8.0))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
        return min(max(UPLOAD_CHUNK_BYTES, int(rate * CHUNK_S / 8.0)), BURST_BYTES)

    def _wait_for_room(self, job: Upload) -> None:
        """Hold an upload back while older bytes fill the link: once handed over they cannot be
        taken back, and behind stale bytes every frame is late.
        """
        while not job.cancelled and self._up.is_set():
            rate = self._rate_bps
            room = float(BLIND_IN_FLIGHT_BYTES)
            if rate is not None:
                flying = QUEUE_GAIN * rate * (self.rtt_s or 0.0) / 8.0
                room = max(float(LEAST_IN_FLIGHT_BYTES), flying)
            if self._in_flight() <= room:
                return
            # the kernel tells nobody when the other side acknowledges: it must be asked
            time.sleep(POLL_S)

    def _window(self) -> float:
        """Bytes that TCP lets into one round trip now (Linux; else infinite).

        Asked behind an upload's first bytes: after a silence TCP begins anew with the next send.
        """
        sock = self._socket
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return math.inf
        try:
            told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        except (OSError, ValueError):
            return math.inf  # closed meanwhile
        if len(told) < TCP_INFO.size:
            return math.inf
        segment, window = TCP_INFO.unpack(told)
        # the kernel may grant less than was asked for, and says twice what it grants
        held = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) / 2.0
        return min(float(segment * window), held)

    def _in_flight(self) -> int:
        """Bytes in the socket that the other side has not acknowledged (Linux; else 0)."""
        sock = self._socket
        if sock is None or not hasattr(termios, "TIOCOUTQ"):
            return 0
        try:
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):
            return 0  # closed meanwhile
        return int(struct.unpack("i", answer)[0])

    def _ping(self) -> None:
        number = (1 << 63) + self._pings
        self._pings += 1
        self._asked_s = self._clock()
        if self._awaited_s is None:
            self._awaited_s = self._asked_s
        self._outgoing.put(Message(MessageType.PING, number))

    # -- receiving -------------------------------------------------------------------------------

    def _receive_all(self) -> None:
        sock = self._socket
        assert sock is not None
        try:
            while not self._closed.is_set():
                try:
                    data = sock.recv(65536)
                except TimeoutError:
                    self._idle()
                    continue
                if not data:
                    self._connection.end_of_stream()
                    raise ConnectionError("the edge closed the connection")
                self._heard_s, self._awaited_s = self._clock(), None
                count = 0
                for message in self._connection.messages(data):
                    count += 1
                    self._handle(message)
                self._spend(read_cost(len(data), count))
                self._still_believed()
                if self._heard_s - self._asked_s >= self._keepalive_s:
                    self._ping()
        except (OSError, CoinferError) as error:
            self._drop(str(error))

    def _still_believed(self) -> None:
        """End the connection with the edge's certificate."""
        sock = self._socket
        if isinstance(sock, SecureSocket) and self._wall() >= sock.believed_until_s:
            raise ConnectionError("the edge's certificate has ended")

    def _spend(self, units: float) -> None:
        """Take what a message costs from the edge's budget."""
        if units and not self._budget.spend(units, self._clock()):
            raise RemoteProtocolError(f"found more than {self._budget}, expected fewer")

    def _idle(self) -> None:
        """Nothing heard for a while: ask, and give up on an edge that stays silent."""
        self._still_believed()
        now = self._clock()
        if self._awaited_s is not None and now - self._awaited_s >= SILENCE_S:
            silent = now - self._heard_s
            raise ConnectionError(f"nothing heard for {silent:.1f} s, expected a keep-alive")
        if now - self._asked_s >= self._keepalive_s:
            self._ping()

    @property
    def _keepalive_s(self) -> float:
        """Seconds between two pings: an unused connection costs little."""
        recent = self._clock() - self._used_s < IDLE_KEEPALIVE_S
        return KEEPALIVE_S if recent else IDLE_KEEPALIVE_S

    def _handle(self, message: Message) -> None:
        kind, request = message.type, message.request_id
        if not self._belongs(message):
            self._spend(idle_cost(message))
            if kind is MessageType.REFUSE and request == 0:
                raise RemoteProtocolError(f"the edge dropped us: {_reason(message.meta)}")
            self.late_replies += kind in (MessageType.REPLY, MessageType.CANCELLED)
        elif kind is MessageType.PONG:
            self._timed(self._pinged.pop(request))
        elif kind is MessageType.REPLY:
            self._whole(self._inbox.begin(message))
        elif kind is MessageType.CHUNK:
            cost = chunk_cost(message)
            self._spend(cost)
            arrived = self._inbox.add(message)
            if arrived is not None:
                self._budget.give_back(cost)  # the last one is as short as it is
            self._whole(arrived)
        elif kind is MessageType.CANCELLED:
            self._ended(request, message.meta, b"", cancelled=True)
        elif kind is MessageType.REFUSE:
            self._refused(request, message.meta)

    def _belongs(self, message: Message) -> bool:
        """Whether a message belongs to something that we asked."""
        request = message.request_id
        if message.type is MessageType.PONG:
            return request in self._pinged
        if message.type is MessageType.CHUNK and request not in self._inbox:
            return False
        with self._lock:
            return request in self._uploads

    def _timed(self, sent_s: float) -> None:
        """A ping has come back."""
        now = self._clock()
        self._rtts.append((now, now - sent_s))
        while self._rtts[0][0] < now - RTT_WINDOW_S:
            self._rtts.popleft()
        self.rtt_s = min(rtt for _, rtt in self._rtts)

    def _refused(self, request: int, meta: Mapping[str, Any]) -> None:
        reason, now = _reason(meta), self._clock()
        with self._lock:
            job = self._uploads.pop(request, None)
        # a refusal that says when the bytes came still tells how fast the link is
        timed = job is not None and "received_bytes" in meta
        seen = self._measured(job, meta, now, False) if job and timed else None
        self._learn(seen)
        self._on_reply(Reply(request, now, error=reason, measurement=seen))

    def _whole(self, arrived: Arrived | None) -> None:
        if arrived is not None:
            self._ended(arrived.request_id, arrived.meta, arrived.data, cancelled=False)

    def _ended(
        self, request: int, meta: Mapping[str, Any], data: bytes, *, cancelled: bool
    ) -> None:
        now = self._clock()
        with self._lock:
            job = self._uploads.pop(request, None)
        if job is None:
            self.late_replies += 1
            return
        self.late_replies += job.cancelled and not cancelled
        measurement = self._measured(job, meta, now, cancelled)
        self._learn(measurement)
        self._on_reply(
            Reply(request, now, meta, data, cancelled=cancelled, measurement=measurement)
        )

    def _measured(
        self, job: Upload, meta: Mapping[str, Any], now: float, cancelled: bool
    ) -> Measurement | None:
        """`measure`, or nothing where the edge's figures make no sense: its answer may."""
        try:
            usual = statistics.median(rtt for _, rtt in self._rtts) if self._rtts else 0.0
            return measure(job, meta, now, self.rtt_s or 0.0, cancelled, usual)
        except CoinferError as error:
            self.last_error = f"the edge's receive times: {error}"
            return None

    def _learn(self, measurement: Measurement | None) -> None:
        if measurement is not None:
            self._rate_bps = measurement.rate_bps


def greeting(
    digest: str, intervals: Sequence[tuple[int, int, int]], token: bytes | None
) -> dict[str, Any]:
    """What a device's first message says; it fits into one, whatever there is to say."""
    said: dict[str, Any] = {
        "model": digest,
        "intervals": [list(one) for one in intervals[:MOST_INTERVALS]],
    }
    return said if token is None else said | {"token": token.decode("ascii")}


def _reason(meta: Mapping[str, Any]) -> str:
    """Why an edge refuses, as far as that can be shown to people."""
    return shown_text(meta.get("reason", "no reason given"))


def _writable(sock: Stream, timeout_s: float) -> bool:
    """Whether a socket takes bytes within so long (poll knows descriptors beyond 1,024)."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT)
    return bool(poll.poll(1e3 * timeout_s))


def _hang_up(sock: socket.socket) -> None:
    """Wake whoever waits for a socket."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
