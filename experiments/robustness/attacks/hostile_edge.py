"""An edge that greets every device and then means harm, for attacks and tests.

    python -m experiments.robustness.attacks.hostile_edge FILE

listens on two ports, which it writes into FILE: for devices, and for one that `command`s it. While
nobody does it is far away and answers keep-alives alone.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from artefacts import atomic_write
from controller.wire import Connection, Message, MessageType, Role

T = MessageType
FLOOD = 512
"""Messages of a flood that are handed over at once."""
FAR_S = 0.03


class Device:
    """One device's connection, as its hostile edge sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.connection = sock, Connection(Role.EDGE)

    def say(self, *messages: Message) -> None:
        """Send messages."""
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))

    def say_later(self, seconds: float, message: Message) -> None:
        """Send a message after a while, if it can still be sent."""
        threading.Timer(seconds, self._say_quietly, (message,)).start()

    def _say_quietly(self, message: Message) -> None:
        with contextlib.suppress(OSError):
            self.say(message)


Behaviour = Callable[["HostileEdge", Device, Message], None]
Flood = Callable[[int], Message]


class HostileEdge:
    """Listens and greets; `behaviour` is what it does with each message that comes.

    `requests` counts what was asked; late answers come `late_s` after it. `flood`: what it says
    without end to every device that has greeted.
    """

    def __init__(
        self, behaviour: Behaviour, flood: Flood | None = None, late_s: float = 0.15
    ) -> None:
        self.behaviour, self.flood, self.late_s = behaviour, flood, late_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.requests = self.greeted = 0
        self._ended = threading.Event()
        self._devices: list[Device] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and hang up."""
        self._ended.set()
        for sock in (self._listener, *(device.sock for device in self._devices)):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> HostileEdge:
        """Nothing more: it listens."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def behave(self, behaviour: Behaviour, flood: Flood | None) -> None:
        """Behave so from here on."""
        self.behaviour, self.flood = behaviour, flood
        if flood is not None:
            for device in list(self._devices):
                self._begin_flood(device)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(Device(sock),), daemon=True).start()

    def _serve(self, device: Device) -> None:
        self._devices.append(device)
        with contextlib.suppress(OSError):
            while data := device.sock.recv(65536):
                for message in device.connection.receive(data):
                    if message.type is T.HELLO:
                        self._greet(device)
                        continue
                    self.requests += message.type is T.REQUEST
                    self.behaviour(self, device, message)
        device.sock.close()
        self._devices.remove(device)

    def _greet(self, device: Device) -> None:
        self.greeted += 1
        device.say(Message(T.WELCOME))
        if self.flood is not None:
            self._begin_flood(device)

    def _begin_flood(self, device: Device) -> None:
        threading.Thread(target=self._pour, args=(device, self.flood), daemon=True).start()

    def _pour(self, device: Device, flood: Flood) -> None:
        number = 0
        with contextlib.suppress(OSError, ValueError):
            while not self._ended.is_set() and self.flood is flood:
                device.say(*(flood(number + k) for k in range(FLOOD)))
                number += FLOOD


def far(edge: HostileEdge, device: Device, message: Message) -> None:
    """Keep-alives are answered, a good while later: another edge is nearer."""
    if message.type is T.PING:
        device.say_later(FAR_S, Message(T.PONG, message.request_id))


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


def refuses(edge: HostileEdge, device: Device, message: Message) -> None:
    """Every request is refused, in words that are no line of a log."""
    pong_only(edge, device, message)
    if message.type is T.REQUEST:
        reason = "\x1b[2J[bold]\n" + "x" * 3000
        device.say(Message(T.REFUSE, message.request_id, meta={"reason": reason}))


def answers_late(edge: HostileEdge, device: Device, message: Message) -> None:
    """Every answer comes after its deadline."""
    pong_only(edge, device, message)
    if message.type is T.REQUEST:
        meta = {"bytes": 0, "class": 0, "confidence": 1.0}
        device.say_later(edge.late_s, Message(T.REPLY, message.request_id, meta=meta))


def unasked_pong(number: int) -> Message:
    """A PONG for a ping that nobody sent."""
    return Message(T.PONG, number)


def unasked_reply(number: int) -> Message:
    """An answer to a request that nobody made."""
    return Message(T.REPLY, (1 << 40) + number, meta={"bytes": 0})


def unasked_chunk(number: int) -> Message:
    """A byte of an answer that nobody awaits."""
    return Message(T.CHUNK, (1 << 40) + number, 0, payload=b"x")


BEHAVIOURS: dict[str, tuple[Behaviour, Flood | None]] = {
    **{made.__name__: (made, None) for made in (pong_only, mute, cancels, refuses, answers_late)},
    **{made.__name__: (pong_only, made) for made in (unasked_pong, unasked_reply, unasked_chunk)},
}


@contextlib.contextmanager
def command(control: tuple[str, int], behaviour: str) -> Iterator[None]:
    """Have the edge that reads `control` behave so within the block."""
    with socket.create_connection(control, 10.0) as sock:
        sock.sendall(behaviour.encode() + b"\n")
        yield


def main() -> None:
    """Obeys one command after the other, each until its sender hangs up."""
    with HostileEdge(far) as edge, socket.create_server(("127.0.0.1", 0)) as control:
        with atomic_write(Path(sys.argv[1]), "w") as stream:
            stream.write(f"{edge.port} {control.getsockname()[1]}\n")
        while True:
            sock, _ = control.accept()
            with sock, sock.makefile("r") as lines:
                named = lines.readline().strip()
                edge.behave(*BEHAVIOURS[named])
                lines.read()
            edge.behave(far, None)


if __name__ == "__main__":
    main()
