"""Three nodes in a row over TCP: a device that asks, an edge that hands on, a node behind it."""

import contextlib
import queue
import socket
import threading
import time

from controller.edge.server import EdgeServer
from controller.link.edge_link import EdgeLink
from controller.plans import Hop
from controller.wire import Connection, Message, MessageType, Role, serialise
from models.facts.meaning import meaning_digest

T = MessageType
EXIT = 4
START, STOP = 3, 6
PATIENT_S = 5.0


class Asker:
    """A device that asks an edge by the product's own link."""

    def __init__(self, model, executor, port):
        self.model, self.executor, self.replies = model, executor, queue.Queue()
        self.link = EdgeLink(
            "127.0.0.1", port, model.digest, self.replies.put, meaning=meaning_digest(model.card)
        )
        assert self.link.wait_connected(PATIENT_S)

    def send(self, sample, way, until_s=PATIENT_S, own=START, **change):
        """Ask for a plan whose prefix has been computed; the first hop is the edge's."""
        x = self.executor.run(EXIT, 0, own, sample) if own else sample
        first, *rest = way
        encoded = self.executor.encode(first.codec, EXIT, first.start, x)
        if first.node != "edge":
            first, rest = Hop("edge", first.start, first.start, first.codec), way
        meta = {
            "model": self.model.digest, "exit": EXIT, "start": first.start, "stop": first.stop,
            "codec": first.codec, "shape": list(x.shape[1:]),
            "hops": [[h.node, h.start, h.stop, h.codec] for h in rest],
        } | encoded.meta | change  # fmt: skip
        return self.link.upload(meta, encoded.data, time.monotonic() + until_s)

    def answer(self):
        return self.replies.get(timeout=PATIENT_S)

    def ask(self, *given, **options):
        assert self.send(*given, **options) is not None
        return self.answer()


@contextlib.contextmanager
def edge_before(model, executor, **cloud):
    """An edge that hands work on to nodes of those names, at ports of this machine."""
    server = EdgeServer(model, executor)

    def made(port):
        def make(report):
            return EdgeLink(
                "127.0.0.1", port, model.digest, report, meaning=meaning_digest(model.card),
                cancels_whole=True,
            )  # fmt: skip

        return make

    for name, port in cloud.items():
        server.hand_on(name, model.digest, made(port))
    server.start()
    try:
        until = time.monotonic() + PATIENT_S
        while any(server.requests.next.states.values()) and time.monotonic() < until:
            threading.Event().wait(0.005)
        yield server
    finally:
        server.close()


def chain(model, one="int8", two="int8"):
    length = len(model.spec.branches[EXIT])
    return Hop("edge", START, STOP, one), Hop("cloud", STOP, length, two)


def by_hand(model, executor, sample, hops, own=START):
    """The row that a plan's codecs and layers give, on one machine."""
    x = executor.run(EXIT, 0, own, sample) if own else sample
    for hop in hops:
        crossed = executor.encode(hop.codec, EXIT, hop.start, x)
        x = executor.decode(hop.codec, EXIT, hop.start, crossed.meta, crossed.data)
        x = executor.run(EXIT, hop.start, hop.stop, x)
    return x[0]


@contextlib.contextmanager
def scripted_node(model, answers):
    """A node that greets, and says to each request what `answers` makes of its number, or nothing.

    Gives its port, and the types of all messages that came.
    """
    came = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENT_S)

        def serve():
            sock, _ = listener.accept()
            connection = Connection(Role.EDGE)
            with sock, contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    for message in connection.receive(data):
                        came.append(message.type)
                        if message.type is T.HELLO:
                            said = Message(T.WELCOME, meta={"models": [model.digest]})
                            sock.sendall(connection.send(said))
                        elif message.type is T.PING:
                            sock.sendall(connection.send(Message(T.PONG, message.request_id)))
                        elif message.type is T.REQUEST and answers is not None:
                            sock.sendall(serialise(answers(message.request_id)))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], came
