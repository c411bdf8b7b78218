"""A user-space TCP relay: forwards at the trace's rate and with half the round trip each way.

For ordinary users it is the whole shaper; beside tc on kernels without netem it only delays. Bytes
leave at exact virtual finish times (`BandwidthTrace.transfer_end`), so that sleeping late does not
add up; a sender is held back by not being read from.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from traces.trace import BandwidthTrace

SEGMENT_BYTES = 1448
BUFFER_BYTES = 4096
"""Kernel buffer asked for on both sides: little more than a packet waits out of our sight."""

Clock = Callable[[], float]


class Pace:
    """When a direction's bytes have passed: one first-come resource of a trace's rate."""

    def __init__(self, trace: BandwidthTrace | None, packet_bytes: float) -> None:
        self._trace, self._packet_bytes = trace, packet_bytes
        self._free_s = 0.0
        self.passed_bytes = 0

    def restart(self) -> None:
        """The trace begins anew, and nothing is under way."""
        self._free_s = 0.0

    def finish(self, arrived_s: float, n_bytes: int) -> float:
        """Time (on the trace's clock) at which `n_bytes` that came at `arrived_s` are through."""
        self.passed_bytes += n_bytes
        if self._trace is None:
            return arrived_s
        packets = -(-n_bytes // SEGMENT_BYTES)
        start = max(arrived_s, self._free_s, 0.0)
        size = n_bytes + packets * self._packet_bytes
        self._free_s = float(self._trace.transfer_end(start, size, "stop"))
        return self._free_s


class Relay:
    """Listens, and forwards every connection to `target`. `start_at` begins the trace."""

    def __init__(
        self,
        target: tuple[str, int],
        trace: BandwidthTrace | None,
        rtt_s: float,
        *,
        down: BandwidthTrace | None = None,
        host: str = "127.0.0.1",
        packet_bytes: float = 66.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._target, self._delay_s, self._clock = target, rtt_s / 2.0, clock
        self._up = Pace(trace, packet_bytes)
        self._down = Pace(down or trace, packet_bytes)
        self._begin_s: float | None = None
        self._begun = threading.Event()
        self._closed = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, 0))
        # set before accept: a window once offered cannot be taken back
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.host, self.port = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def passed_bytes(self) -> tuple[int, int]:
        """Bytes forwarded up and down."""
        return self._up.passed_bytes, self._down.passed_bytes

    def start_at(self, begin_s: float) -> None:
        """Let the trace's time 0 be `begin_s` of the clock; before it bytes pass unshaped."""
        for pace in (self._up, self._down):
            pace.restart()
        self._begin_s = begin_s
        self._begun.set()

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._closed.set()
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            self._abort(sock)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, 5.0)
            except OSError:
                if self._closed.is_set():
                    return
                with suppress(UnboundLocalError, OSError):
                    near.close()
                continue
            far.settimeout(None)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._sockets.add(sock)
            self._pump(near, far, self._up)
            self._pump(far, near, self._down)

    def _pump(self, source: socket.socket, sink: socket.socket, pace: Pace) -> None:
        waiting: queue.Queue[tuple[float, bytes] | None] = queue.Queue(256)
        threading.Thread(target=self._read, args=(source, pace, waiting), daemon=True).start()
        threading.Thread(target=self._write, args=(source, sink, waiting), daemon=True).start()

    def _read(
        self,
        source: socket.socket,
        pace: Pace,
        waiting: queue.Queue[tuple[float, bytes] | None],
    ) -> None:
        with suppress(OSError):
            while data := source.recv(SEGMENT_BYTES):
                through = self._through(pace, len(data))
                waiting.put((through + self._delay_s, data))
                if not self._pause(through):
                    break
        waiting.put(None)

    def _through(self, pace: Pace, n_bytes: int) -> float:
        now = self._clock()
        if self._begin_s is None or now < self._begin_s:
            return now
        return self._begin_s + pace.finish(now - self._begin_s, n_bytes)

    def _write(
        self,
        source: socket.socket,
        sink: socket.socket,
        waiting: queue.Queue[tuple[float, bytes] | None],
    ) -> None:
        with suppress(OSError):
            while (item := waiting.get()) is not None:
                if not self._pause(item[0]):
                    break
                sink.sendall(item[1])
        self._abort(sink)
        self._abort(source)

    def _pause(self, until_s: float) -> bool:
        """Wait for a moment of the clock; False where the relay was closed meanwhile."""
        while (left := until_s - self._clock()) > 0:
            if self._closed.wait(min(left, 3600.0)):
                return False
        return True

    def _abort(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(sock)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
