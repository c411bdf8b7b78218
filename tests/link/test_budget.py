"""Messages that no answer comes of: bounded at both ends, whatever their kind, for all of a
device's connections; what is asked and answered costs nothing.
"""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from controller.edge.limits import EdgeLimits
from controller.link.budget import Account, Accounts, Budget, chunk_cost, idle_cost
from controller.link.edge_link import EdgeLink
from controller.link.receiver import IDLE_MESSAGES
from controller.wire import Connection, Message, MessageType, Role
from experiments.robustness.attacks.hostile_edge import (
    HostileEdge,
    pong_only,
    unasked_chunk,
    unasked_pong,
    unasked_reply,
)
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

T = MessageType
FLOODS = {
    "ping": lambda model, k: [Message(T.PING, k)],
    "cancel": lambda model, k: [Message(T.CANCEL, k)],
    "orphan": lambda model, k: [Message(T.CHUNK, k, 0, payload=b"x")],
    "probe": lambda model, k: [Message(T.REQUEST, k, meta={"probe": True, "bytes": 0})],
    "refused": lambda model, k: [Message(T.REQUEST, k, meta={"model": "x", "bytes": 0})],
    "unfinished": lambda model, k: [
        Message(T.REQUEST, k, meta={"bytes": 9}), Message(T.CANCEL, k),
    ],
    "crumbs": lambda model, k: [
        *([Message(T.REQUEST, 1, meta={"bytes": 9000})] if k == 0 else []),
        Message(T.CHUNK, 1, k, payload=b"x"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


class Device:
    """A raw device that has greeted."""

    def __init__(self, port, digest):
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.connection, self.heard = Connection(Role.DEVICE), []
        self.say(Message(T.HELLO, meta={"model": digest}))
        assert self.next().type is T.WELCOME

    def say(self, *messages):
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))

    def next(self):
        while not self.heard:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.heard += self.connection.receive(data)
        return self.heard.pop(0)

    def ask(self, number, picture, model, size):
        data = picture.tobytes()
        meta = {
            "model": model.digest, "exit": 0, "start": 0, "stop": len(model.spec.branches[0]),
            "codec": "uint8", "shape": list(picture.shape), "bytes": len(data), "remaining_s": 5.0,
        }  # fmt: skip
        parts = (
            Message(T.CHUNK, number, at, payload=data[at : at + size])
            for at in range(0, len(data), size)
        )
        self.say(Message(T.REQUEST, number, meta=meta), *parts)
        return self.next()


def reported(server):
    """Wait until the edge has ended a connection for its messages."""
    end = time.monotonic() + 10.0
    while not any("messages that no answer comes of" in e for e in list(server.errors)):
        assert time.monotonic() < end, list(server.errors)
        threading.Event().wait(0.01)


def test_a_budget_fills_up_with_time_and_no_further():
    budget = Budget(10.0, 2.0)
    assert all(budget.spend(1.0, 5.0) for _ in range(10))
    assert not budget.spend(1.0, 5.0)
    assert budget.spend(1.0, 6.0)
    budget.give_back(100.0)
    assert budget.look(6.0) == 10.0
    assert budget.look(1e6) == 10.0
    assert "10 messages" in str(budget)


def test_what_a_message_costs():
    whole = Message(T.CHUNK, 1, payload=bytes(16384))
    assert chunk_cost(whole) == 0.0
    assert chunk_cost(Message(T.CHUNK, 1, payload=b"x")) > 0.99
    assert idle_cost(whole) == 5.0
    assert idle_cost(Message(T.PING)) == 1.0
    assert idle_cost(Message(T.PING, meta={"a": 1})) == 2.0


def test_who_comes_back_gains_nothing_and_a_neighbour_pays_nothing():
    account = Account(Budget(1000.0, 10.0), certified=False)
    greedy = account.opened(0.0)
    neighbour = account.opened(0.0)
    assert greedy.spend(1000.0, 0.0)
    assert neighbour.spend(150.0, 0.0), "it has a little, whatever others have used"
    account.closed(greedy)
    assert account.opened(0.0).stock == 200.0
    certified = Account(Budget(1000.0, 10.0), certified=True)
    assert certified.opened(0.0) is certified.opened(0.0), "one device, one budget"


def test_accounts_are_bounded_and_those_in_use_are_kept():
    accounts = Accounts(lambda: Budget(1.0, 1.0), most=3)
    used = accounts.of("used", certified=True)
    used.connections = 1
    for k in range(10):
        accounts.of(str(k), certified=True)
    assert len(accounts) <= 4
    assert accounts.of("used", certified=True) is used


@pytest.mark.parametrize("kind", FLOODS)
def test_the_edge_ends_a_connection_that_is_all_messages(stream, executor, serving, kind):
    limits = EdgeLimits(idle_messages=300, idle_messages_per_s=1.0)
    with serving(stream.model, executor, limits=limits) as server:
        device = Device(server.port, stream.model.digest)
        with contextlib.closing(device.sock), contextlib.suppress(ConnectionError):
            for k in range(1000):
                device.say(*FLOODS[kind](stream.model, k))
            # who closes on what it has not read resets the connection, and the rest with it
            device.sock.shutdown(socket.SHUT_WR)
            while device.sock.recv(65536):
                pass
        other = Device(server.port, stream.model.digest)
        with contextlib.closing(other.sock):
            picture = generated_pictures(1, np.random.default_rng(0))[0]
            assert other.ask(1, picture, stream.model, 1024).type is T.REPLY
        reported(server)


def test_a_peer_that_dribbles_is_hung_up_on(stream, executor, serving):
    """A byte a packet: every one wakes the edge."""
    limits = EdgeLimits(idle_messages=20, idle_messages_per_s=0.1)
    with serving(stream.model, executor, limits=limits) as server:
        device = Device(server.port, stream.model.digest)
        device.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.closing(device.sock), contextlib.suppress(ConnectionError):
            device.say(Message(T.REQUEST, 1, meta={"bytes": 16384, "remaining_s": 30.0}))
            chunk = device.connection.send(Message(T.CHUNK, 1, payload=bytes(16384)))
            for k in range(3000):
                device.sock.sendall(chunk[k : k + 1])
                threading.Event().wait(0.0005)  # or the system sends several together
        reported(server)


def test_what_is_asked_and_answered_costs_nothing(stream, executor, serving):
    """Twenty times the budget in small chunks, a keep-alive now and then."""
    limits = EdgeLimits(idle_messages=40, idle_messages_per_s=1.0)
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    with serving(stream.model, executor, limits=limits) as server:
        device = Device(server.port, stream.model.digest)
        with contextlib.closing(device.sock):
            for number in range(1, 41):
                assert device.ask(number, picture, stream.model, 256).type is T.REPLY
            device.say(Message(T.PING, 1))
            assert device.next().type is T.PONG
    assert not server.errors


def test_bytes_that_were_under_way_when_their_time_was_over_are_paid(stream, executor, serving):
    limits = EdgeLimits(idle_messages=20, idle_messages_per_s=0.1)
    with serving(stream.model, executor, limits=limits) as server:
        device = Device(server.port, stream.model.digest)
        with contextlib.closing(device.sock):
            meta = {"bytes": 800_000, "remaining_s": 0.05}
            device.say(Message(T.REQUEST, 1, meta=meta))
            assert device.next().type is T.CANCELLED
            parts = (Message(T.CHUNK, 1, k, payload=bytes(8000)) for k in range(0, 800_000, 8000))
            device.say(*parts, Message(T.PING, 7))
            assert device.next().type is T.PONG
    assert not server.errors


@pytest.mark.parametrize("flood", [unasked_pong, unasked_reply, unasked_chunk])
def test_a_device_hangs_up_on_an_edge_that_is_all_messages(flood):
    replies = []
    with HostileEdge(pong_only, flood) as edge:
        link = EdgeLink("127.0.0.1", edge.port, "0" * 64, replies.append)
        with contextlib.closing(link):
            for _ in range(500):
                if link.reconnects >= 2:
                    break
                link._closed.wait(0.02)
            assert link.reconnects >= 2
            assert f"found more than {IDLE_MESSAGES:g} messages" in link.last_error


def test_a_device_takes_no_tensor_that_no_plan_of_its_asks_for():
    def answers(edge, device, message):
        if message.type is T.REQUEST:
            device.say(Message(T.REPLY, message.request_id, meta={"bytes": 5000}))

    replies = []
    with HostileEdge(answers) as edge:
        link = EdgeLink("127.0.0.1", edge.port, "0" * 64, replies.append, reply_bytes=4000)
        with contextlib.closing(link):
            assert link.wait_connected(10.0)
            link.upload({}, bytes(10))
            for _ in range(500):
                if replies:
                    break
                link._closed.wait(0.02)
    assert replies[0].lost
    assert "found 5000, expected an integer 0 to 4000" in replies[0].error
