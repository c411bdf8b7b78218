"""The edge server: receives cut tensors, computes their interval, sends answers. Keeps no state
between requests, so that any number of edges may serve the same devices.

One reading thread per connection timestamps what arrives; one worker computes, first come first
served. It listens beyond loopback only on the test namespaces' addresses: there is no encryption.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts import CoinferError, UsageError
from controller.runtime.executors import Executor, softmax_answer
from controller.wire import (
    CHUNK_BYTES,
    Arrived,
    Connection,
    Inbox,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
    serialise,
)
from controller.wire.messages import meta_int, meta_number, meta_shape, meta_text
from models.cards import Model
from models.codecs import LEARNED, carries_picture, check_codec, encoded_bytes
from models.coding import latent_codec

TEST_NETWORK = ipaddress.ip_network("10.200.0.0/16")
MAX_CONNECTIONS = 64
MAX_QUEUE = 64
MAX_ERRORS = 1000
"""What is kept of past trouble: an edge runs for years."""
MAX_WARM = 256
READ_BYTES = 65536
SEND_TIMEOUT_S = 5.0
"""A device that takes no answer for so long is dropped: the one worker waits for nobody longer."""

Clock = Callable[[], float]


def check_address(host: str) -> None:
    """Refuse addresses that plain TCP may not use: all but loopback and the test namespaces."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise UsageError(f"address: found '{host}', expected an IP address") from None
    inside = address.version == 4 and address in TEST_NETWORK
    if not (address.is_loopback or inside):
        raise UsageError(
            f"address: found {host}, expected loopback or {TEST_NETWORK} (a test namespace): "
            "there is no encryption yet, so nothing else may be served"
        )


@dataclass(slots=True)
class _Timing:
    """When a request's bytes came, on the edge's clock; nobody waits for it after `until_s`."""

    first_s: float
    last_s: float
    until_s: float = math.inf
    first_read_bytes: int = 0
    whole_chunks_bytes: int = 0
    received_bytes: int = 0

    def note(self, now_s: float, partial_bytes: int) -> None:
        """A read ended; `partial_bytes` of a chunk whose rest is still to come belong to it."""
        self.last_s = now_s
        self.received_bytes = self.whole_chunks_bytes + partial_bytes
        if now_s == self.first_s:
            self.first_read_bytes = self.received_bytes

    def meta(self) -> dict[str, Any]:
        """What the device's bandwidth estimate is made of."""
        return {
            "first_read_bytes": self.first_read_bytes,
            "received_bytes": self.received_bytes,
            "receive_s": self.last_s - self.first_s,
        }


@dataclass(frozen=True, slots=True)
class _Job:
    peer: _Peer
    arrived: Arrived
    timing: _Timing


@dataclass(frozen=True, slots=True)
class _Warm:
    """Intervals (exit, start, stop) that a device says it will ask for."""

    intervals: tuple[tuple[int, int, int], ...]


class EdgeServer:
    """Serves one model. `start` listens, `close` ends every connection and thread."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        check_address(host)
        self.model, self.executor, self.clock = model, executor, clock
        self._listener = socket.create_server((host, port))
        self.host, self.port = self._listener.getsockname()[:2]
        self._jobs: queue.Queue[_Job | _Warm | None] = queue.Queue(MAX_QUEUE)
        self._warm: set[tuple[int, int, int]] = set()
        self._peers: set[_Peer] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.served = 0
        self.errors: deque[str] = deque(maxlen=MAX_ERRORS)

    def start(self) -> None:
        """Accept and compute in the background."""
        for target in (self._accept, self._work):
            threading.Thread(target=target, daemon=True).start()

    def close(self) -> None:
        """Stop listening, drop every connection, end the worker."""
        self._closed.set()
        with contextlib.suppress(OSError):
            # a thread that waits in accept keeps a merely closed listener open
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            peer.abort()
        self._jobs.put(None)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, address = self._listener.accept()
            except OSError:
                return
            if self._closed.is_set():
                sock.close()
                return
            with self._lock:
                full = len(self._peers) >= MAX_CONNECTIONS
            if full:
                sock.close()
                self.errors.append(f"{address[0]}: refused, {MAX_CONNECTIONS} connections are open")
                continue
            peer = _Peer(self, sock, f"{address[0]}:{address[1]}")
            with self._lock:
                self._peers.add(peer)
            threading.Thread(target=peer.read, daemon=True).start()

    def forget(self, peer: _Peer, error: str | None) -> None:
        """A connection is over; `error` says why where it was dropped."""
        with self._lock:
            self._peers.discard(peer)
        if error is not None:
            self.errors.append(f"{peer.name}: {error}")

    def submit(self, job: _Job | _Warm) -> bool:
        """Queue a request; False where the queue is full."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, _Warm):
                self._prepare(job)
                continue
            try:
                self._answer(job)
                self.served += 1
            except CoinferError as error:
                job.peer.send(_refusal(job.arrived.request_id, str(error)))
            except Exception as error:  # the one worker must outlive any single request
                reason = f"{type(error).__name__}: {error}"
                self.errors.append(f"{job.peer.name}: request failed ({reason})")
                job.peer.send(_refusal(job.arrived.request_id, f"the edge failed ({reason})"))

    def _prepare(self, job: _Warm) -> None:
        """Run announced intervals once on zeros, so that no frame pays for what is compiled."""
        spec = self.model.spec
        for branch, start, stop in job.intervals:
            if (branch, start, stop) in self._warm or self._closed.is_set():
                continue
            self._warm.add((branch, start, stop))
            zeros = np.zeros((1, *spec.shapes[branch][start]), dtype=np.float32)
            self.executor.run(branch, start, stop, zeros)
            learned = spec.bottleneck(start)
            if learned is not None and start <= spec.exits[branch].after:
                latent = encoded_bytes(latent_codec(learned), learned.encoder.output_shape(()))
                self.executor.decode(LEARNED, branch, start, {}, bytes(latent or 0))

    def _answer(self, job: _Job) -> None:
        began = self.clock()
        meta, timing, request = job.arrived.meta, job.timing, job.arrived.request_id
        waited = {"queue_s": began - timing.last_s}
        if began > timing.until_s:
            reason = f"its time was over {began - timing.until_s:.3f} s before the edge was free"
            job.peer.send(_refusal(request, reason, timing.meta() | waited | {"compute_s": 0.0}))
            return
        head: dict[str, Any] = {"bytes": 0}
        payload = b""
        if not meta.get("probe"):
            head, payload = self._compute(meta, job.arrived.data)
        done = self.clock()
        head |= timing.meta() | waited | {"compute_s": done - began}
        job.peer.send(Message(MessageType.REPLY, request, meta=head))
        for at in range(0, len(payload), CHUNK_BYTES):
            part = payload[at : at + CHUNK_BYTES]
            job.peer.send(Message(MessageType.CHUNK, request, at, payload=part))

    def _compute(self, meta: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        spec = self.model.spec
        digest = meta_text(meta, "model")
        if digest != self.model.digest:
            raise UsageError(
                f"model digest: found {digest[:12]}…, expected {self.model.digest[:12]}… "
                f"('{spec.name}')"
            )
        branch = meta_int(meta, "exit", 0, len(spec.branches) - 1)
        length = len(spec.branches[branch])
        start = meta_int(meta, "start", 0, length)
        stop = meta_int(meta, "stop", start, length)
        codec, shape = meta_text(meta, "codec"), meta_shape(meta, "shape")
        expected = spec.shapes[branch][start]
        if carries_picture(check_codec(codec)):
            expected = (expected[1], expected[2], expected[0]) if start == 0 else ()
        if shape != expected:
            raise UsageError(f"tensor shape: found {shape}, expected {expected} as {codec}")
        x = self.executor.decode(codec, branch, start, meta, data)
        y = self.executor.run(branch, start, stop, x)
        if stop == length:
            label, confidence = softmax_answer(y, self.model.temperatures[branch])
            return {"bytes": 0, "class": label, "confidence": confidence}, b""
        out = np.ascontiguousarray(y[0], dtype="<f4").tobytes()
        return {"bytes": len(out), "shape": list(y.shape[1:])}, out


class _Peer:
    """One device's connection."""

    def __init__(self, server: EdgeServer, sock: socket.socket, name: str) -> None:
        self.name = name
        self._server, self._socket = server, sock
        self._connection = Connection(Role.EDGE)
        self._inbox = Inbox()
        self._timings: dict[int, _Timing] = {}
        self._send_lock = threading.Lock()
        self._greeted = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(SEND_TIMEOUT_S)

    def abort(self) -> None:
        """Drop the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, message: Message) -> None:
        """Send one message whole; a connection that fails to take it is dropped."""
        with self._send_lock:
            try:
                self._socket.sendall(self._connection.send(message))
            except LocalProtocolError:
                # its reader has just dropped this connection for an error; nobody is there
                return
            except OSError as error:
                self._server.forget(self, f"send failed ({error})")
                self._socket.close()

    def read(self) -> None:
        """Read until the peer ends or errs."""
        error: str | None = None
        try:
            while data := self._receive():
                now = self._server.clock()
                for message in self._connection.receive(data):
                    self._handle(message, now)
                request, partial = self._connection.partial_payload
                if request in self._timings and partial:
                    self._timings[request].note(now, partial)
            self._connection.end_of_stream()
        except RemoteProtocolError as problem:
            error = str(problem)
            self._say_why(error)
        except OSError as problem:
            error = f"connection lost ({problem})"
        finally:
            self._server.forget(self, error)
            self.abort()

    def _receive(self) -> bytes:
        while True:
            soonest = self._expire()
            # silence is no error here: an idle device costs nothing but its socket
            try:
                ready = select.select([self._socket], [], [], soonest)[0]
            except ValueError:
                raise ConnectionError("closed here") from None
            if ready:
                return self._socket.recv(READ_BYTES)

    def _expire(self) -> float | None:
        """Free what cannot be answered in time any more, and say how much of it had come.

        A CANCEL queues behind the very bytes it is to stop; the edge knows the deadline itself.
        Gives the seconds until the next request's time is over (None: none is coming in).
        """
        now = self._server.clock()
        for request in [r for r, t in self._timings.items() if t.until_s <= now]:
            self._timings[request].last_s = now
            self._cancelled(request, now)
        soonest = min((t.until_s for t in self._timings.values()), default=math.inf)
        return None if soonest == math.inf else max(soonest - now, 0.0)

    def _say_why(self, error: str) -> None:
        """Tell a device that had greeted us why it is dropped; a stranger is told nothing."""
        if not self._greeted:
            return
        with self._send_lock, contextlib.suppress(OSError):
            self._socket.sendall(serialise(_refusal(0, error)))

    def _handle(self, message: Message, now: float) -> None:
        kind, request = message.type, message.request_id
        if kind is MessageType.HELLO:
            self._greet(message.meta)
        elif kind is MessageType.PING:
            self.send(Message(MessageType.PONG, request))
        elif kind is MessageType.REQUEST:
            remaining = meta_number(message.meta, "remaining_s", 0.0)
            until = now + remaining if remaining > 0 else math.inf
            self._timings[request] = _Timing(now, now, until)
            self._whole(self._inbox.begin(message), now)
        elif kind is MessageType.CHUNK:
            timing = self._timings.get(request)
            if timing is not None:
                timing.whole_chunks_bytes += len(message.payload)
                timing.note(now, 0)
            self._whole(self._inbox.add(message), now)
        elif kind is MessageType.CANCEL:
            self._cancelled(request, now)

    def _whole(self, arrived: Arrived | None, now: float) -> None:
        if arrived is None:
            return
        timing = self._timings.pop(arrived.request_id, _Timing(now, now))
        if not self._server.submit(_Job(self, arrived, timing)):
            self.send(_refusal(arrived.request_id, f"{MAX_QUEUE} requests are waiting"))

    def _cancelled(self, request: int, now: float) -> None:
        timing = self._timings.pop(request, None)
        if timing is None:
            return  # answered, or its time was over: the device knows already
        received = max(self._inbox.cancel(request), timing.received_bytes)
        meta = timing.meta() | {"received_bytes": received}
        self.send(Message(MessageType.CANCELLED, request, meta=meta))

    def _announced(self, value: Any) -> tuple[tuple[int, int, int], ...]:
        """The intervals in a greeting; those this network does not have are passed over."""
        branches, found = self._server.model.spec.branches, []
        for item in value[:MAX_WARM] if isinstance(value, list) else []:
            fits = isinstance(item, list) and len(item) == 3 and all(type(k) is int for k in item)
            if fits and 0 <= item[0] < len(branches):
                exit_, start, stop = item
                if 0 <= start < stop <= len(branches[exit_]):
                    found.append((exit_, start, stop))
        return tuple(found)

    def _greet(self, meta: Mapping[str, Any]) -> None:
        wanted, served = meta_text(meta, "model"), self._server.model.digest
        if wanted == served:
            self._greeted = True
            self.send(Message(MessageType.WELCOME, meta={"models": [served]}))
            self._server.submit(_Warm(self._announced(meta.get("intervals", []))))
            return
        reason = f"model digest: found {wanted[:12]}…, expected {served[:12]}…"
        self.send(Message(MessageType.REFUSE, meta={"reason": reason}))
        raise RemoteProtocolError(reason)


def _refusal(request: int, reason: str, more: Mapping[str, Any] | None = None) -> Message:
    return Message(MessageType.REFUSE, request, meta={"reason": reason[:1000], **(more or {})})
