"""An edge that greets every device and then means harm, for attacks and tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from controller.wire import Connection, Message, MessageType, Role

T = MessageType
FLOOD = 512
"""Messages of a flood that are handed over at once."""


class Device:
    """One device's connection, as its hostile edge sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.connection = sock, Connection(Role.EDGE)

    def say(self, *messages: Message) -> None:
        """Send messages."""
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))


Behaviour = Callable[["HostileEdge", Device, Message], None]


class HostileEdge:
    """Listens and greets; `behaviour` is what it does with each message that comes.

    `requests` counts what was asked; late answers come `late_s` after it. `flood`: what it says
    without end once it has greeted.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        flood: Callable[[int], Message] | None = None,
        port: int = 0,
        late_s: float = 0.15,
    ) -> None:
        self.late_s = late_s
        self._behaviour, self._flood = behaviour, flood
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.requests = self.greeted = 0
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and hang up."""
        self._ended.set()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> HostileEdge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        device = Device(sock)
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                for message in device.connection.receive(data):
                    if message.type is T.HELLO:
                        self.greeted += 1
                        device.say(Message(T.WELCOME))
                        if self._flood is not None:
                            threading.Thread(target=self._pour, args=(device,), daemon=True).start()
                        continue
                    self.requests += message.type is T.REQUEST
                    self._behaviour(self, device, message)

    def _pour(self, device: Device) -> None:
        assert self._flood is not None
        number = 0
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                parts = [self._flood(number + k) for k in range(FLOOD)]
                device.say(*parts)
                number += FLOOD


def pong_only(edge: HostileEdge, device: Device, message: Message) -> None:
    """Keep-alives are answered, requests never: a computation that hangs."""
    if message.type is T.PING:
        device.say(Message(T.PONG, message.request_id))


def mute(edge: HostileEdge, device: Device, message: Message) -> None:
    """Nothing comes back any more: a link that lets the greeting pass and loses the rest."""


def cancels(edge: HostileEdge, device: Device, message: Message) -> None:
    """Every request is called cancelled at once."""
    pong_only(edge, device, message)
    if message.type is T.REQUEST:
        device.say(Message(T.CANCELLED, message.request_id, meta={"received_bytes": 0}))


def answers_late(edge: HostileEdge, device: Device, message: Message) -> None:
    """Every answer comes after its deadline."""
    pong_only(edge, device, message)
    if message.type is T.REQUEST:
        meta = {"bytes": 0, "class": 0, "confidence": 1.0}
        reply = Message(T.REPLY, message.request_id, meta=meta)
        threading.Timer(edge.late_s, _say, (device, reply)).start()


def _say(device: Device, message: Message) -> None:
    with contextlib.suppress(OSError):
        device.say(message)


def unasked_pong(number: int) -> Message:
    """A PONG for a ping that nobody sent."""
    return Message(T.PONG, number)


def unasked_reply(number: int) -> Message:
    """An answer to a request that nobody made."""
    return Message(T.REPLY, (1 << 40) + number, meta={"bytes": 0})


def unasked_chunk(number: int) -> Message:
    """A byte of an answer that nobody awaits."""
    return Message(T.CHUNK, (1 << 40) + number, 0, payload=b"x")
