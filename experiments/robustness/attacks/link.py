"""Attacks over the link: devices that flood an edge, edges that flood or fail a device."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from controller.scenarios import load_setting, read_scenario
from controller.wire import Connection, Message, MessageType, Role
from controller.wire.connection import State
from experiments.robustness.attacks.case import Case, Target
from experiments.robustness.attacks.hostile_edge import BEHAVIOURS, command
from experiments.robustness.attacks.runner import SCENARIO

T = MessageType
AT_ONCE = 2000
"""Messages of a flood that are handed over together."""
PAUSE_S = 0.02
"""Between two connections of a device that was hung up on."""
PLACES = 300
"""Connections that one device tries to hold."""
Flood = Callable[[int], Sequence[Message]]


def _digest() -> str:
    return load_setting(read_scenario(SCENARIO)).model.digest


@contextlib.contextmanager
def _greeted(target: Target, digest: str) -> Iterator[tuple[socket.socket, Connection]]:
    """A device that the edge has let in; what it hears is read and thrown away."""
    connection = Connection(Role.DEVICE)
    with socket.create_connection(target.edge, 2.0) as sock:
        sock.sendall(connection.send(Message(T.HELLO, meta={"model": digest})))
        while connection.state is not State.OPEN:
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("not let in")
            connection.receive(data)
        reading = threading.Thread(target=_read_all, args=(sock,), daemon=True)
        reading.start()
        try:
            yield sock, connection
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            reading.join(1.0)


def _read_all(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


def _floods(made: Flood) -> Callable[[Target], None]:
    """A device that says these messages as fast as it can, and comes back when it is hung up on."""

    def attack(target: Target) -> None:
        digest, until = _digest(), time.monotonic() + target.seconds
        while time.monotonic() < until:
            with contextlib.suppress(OSError), _greeted(target, digest) as (sock, connection):
                begun = b"".join(connection.send(m) for m in made(0))
                more = b"".join(connection.send(m) for k in range(1, AT_ONCE) for m in made(k))
                sock.sendall(begun)
                while time.monotonic() < until:
                    sock.sendall(more)
            time.sleep(PAUSE_S)

    return attack


def _behaves(behaviour: str) -> Callable[[Target], None]:
    """The device's other edge comes near and behaves so."""

    def attack(target: Target) -> None:
        with command(target.second_edge, behaviour):
            time.sleep(target.seconds)

    return attack


def many_places(target: Target) -> None:
    """One device takes as many connections as it gets, and keeps each alive."""
    digest, until = _digest(), time.monotonic() + target.seconds
    with contextlib.ExitStack() as held:
        for _ in range(PLACES):
            if time.monotonic() >= until:
                return
            with contextlib.suppress(OSError):
                held.enter_context(_greeted(target, digest))
        time.sleep(max(until - time.monotonic(), 0.0))


def greetings(target: Target) -> None:
    """Greetings without end, each of a connection of its own, as long as one may be."""
    until = time.monotonic() + target.seconds
    hello = {"model": "\x1b[2J" + "x" * 3000}
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(target.edge, 2.0) as sock:
            sock.sendall(Connection(Role.DEVICE).send(Message(T.HELLO, meta=hello)))
            sock.recv(1000)


def silent_connections(target: Target) -> None:
    """Connections that greet nobody, hundreds at a time."""
    until = time.monotonic() + target.seconds
    while time.monotonic() < until:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for _ in range(200):
                held.enter_context(socket.create_connection(target.edge, 2.0))
        time.sleep(PAUSE_S)


def _ping(number: int) -> Sequence[Message]:
    return [Message(T.PING, number)]


def _cancel(number: int) -> Sequence[Message]:
    return [Message(T.CANCEL, number)]


def _orphan(number: int) -> Sequence[Message]:
    return [Message(T.CHUNK, number, 0, payload=b"x")]


def _probe(number: int) -> Sequence[Message]:
    return [Message(T.REQUEST, number, meta={"probe": True, "bytes": 0})]


def _refused(number: int) -> Sequence[Message]:
    return [Message(T.REQUEST, number, meta={"model": "x" * 1000, "bytes": 0})]


def _unfinished(number: int) -> Sequence[Message]:
    return [Message(T.REQUEST, number, meta={"bytes": 9}), Message(T.CANCEL, number)]


FLOODS: dict[str, tuple[str, Flood]] = {
    "flood-ping": ("a device that says PING without end", _ping),
    "flood-cancel": ("a device that cancels what it never asked", _cancel),
    "flood-chunk": ("a device that sends bytes of no request", _orphan),
    "flood-probe": ("a device that probes without end", _probe),
    "flood-refused": ("a device whose every request is refused", _refused),
    "flood-unfinished": ("a device that begins requests and cancels them", _unfinished),
}
EDGES = {
    "pong_only": "a near edge that hangs beside a well one",
    "mute": "a near edge from which nothing comes any more",
    "cancels": "a near edge that cancels every request",
    "refuses": "a near edge that refuses every request, with controls in its reason",
    "answers_late": "a near edge whose answers come too late",
    "unasked_pong": "an edge that says PONG without end",
    "unasked_reply": "an edge that answers what nobody asked",
    "unasked_chunk": "an edge that sends bytes of no answer",
}
assert set(EDGES) == set(BEHAVIOURS)
CASES = (
    *(Case(name, what, _floods(made)) for name, (what, made) in FLOODS.items()),
    *(Case(f"edge-{k.replace('_', '-')}", what, _behaves(k)) for k, what in EDGES.items()),
    Case("many-places", "one device takes every connection that it gets", many_places),
    Case("greetings", "greetings without end", greetings),
    Case("silent-connections", "connections that greet nobody", silent_connections),
)
"""Every one holds the camera to the usual bound."""
