"""Many devices on one edge: batches, any order, several models, overload, slow and silent ones."""

import contextlib
import dataclasses
import socket
import threading
import time

import numpy as np
import pytest

from controller.edge.limits import EdgeLimits
from controller.edge.scheduler import SchedulerArgs
from controller.wire import Connection, LocalProtocolError, Message, MessageType, Role
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

T = MessageType
SLACK_S = 0.2
"""What a loaded machine may add to a time that is bounded."""


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def pictures(stream, executor):
    made = generated_pictures(16, np.random.default_rng(0))
    whole = executor.run(0, 0, len(stream.spec.branches[0]), stream.model.normalise(made))
    return made, whole.argmax(axis=1).tolist()


class Device:
    """A raw device that greets, sends whole requests and sorts what comes back."""

    def __init__(self, port, digest):
        self.connection = Connection(Role.DEVICE)
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        self.sock.settimeout(10)
        self.digest, self.heard = digest, []
        self.say(Message(T.HELLO, meta={"model": digest}))
        self.welcome = self.next()

    def say(self, *messages):
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))

    def ask(self, number, picture, model, **change):
        data = picture.tobytes()
        meta = {
            "model": model.digest, "exit": 0, "start": 0, "stop": len(model.spec.branches[0]),
            "codec": "uint8", "shape": list(picture.shape), "bytes": len(data), "remaining_s": 5.0,
        } | change  # fmt: skip
        self.say(Message(T.REQUEST, number, meta=meta), Message(T.CHUNK, number, 0, payload=data))

    def next(self):
        while not self.heard:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.heard += self.connection.receive(data)
        return self.heard.pop(0)


@pytest.fixture
def connect():
    """Makes devices that are closed at the end, whatever happened."""
    made = []

    def one(port, digest):
        device = Device.__new__(Device)
        made.append(device)
        device.__init__(port, digest)
        return device

    yield one
    for device in made:
        device.sock.close()


class Slow:
    """Every batch takes the same time, on top of its own; counts them."""

    def __init__(self, inner, seconds=0.0):
        self.inner, self.seconds, self.sizes = inner, seconds, []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()

    def run(self, branch, start, stop, x):
        self.sizes.append(len(x))
        self.begun.set()
        assert self.gate.wait(10)
        threading.Event().wait(self.seconds)
        return self.inner.run(branch, start, stop, x)

    def decode(self, *what):
        return self.inner.decode(*what)


def test_sixty_four_devices_get_their_own_answers(stream, executor, pictures, connect, serving):
    made, labels = pictures
    with serving(stream.model, executor) as server:
        devices = [connect(server.port, stream.model.digest) for _ in range(64)]
        for number in range(1, 4):
            for k, device in enumerate(devices):
                device.ask(number, made[(k + number) % 16], stream.model)
        for k, device in enumerate(devices):
            found = {}
            for _ in range(3):
                said = device.next()
                assert said.type is T.REPLY
                found[said.request_id] = said.meta["class"]
            assert found == {n: labels[(k + n) % 16] for n in (1, 2, 3)}
    assert server.served == 192


def test_alike_requests_share_a_batch_and_each_gets_its_own(
    stream, executor, pictures, connect, serving
):
    made, labels = pictures
    slow = Slow(executor)
    slow.gate.clear()
    with serving(stream.model, slow, schedule=SchedulerArgs(batch=8)) as server:
        device = connect(server.port, stream.model.digest)
        device.ask(100, made[0], stream.model)
        assert slow.begun.wait(5)
        for k in range(11):
            device.ask(k, made[k], stream.model)
        device.say(Message(T.PING, 7))
        assert device.next().type is T.PONG
        slow.gate.set()
        found = {m.request_id: m.meta["class"] for m in (device.next() for _ in range(12))}
    assert slow.sizes[:3] == [1, 8, 3]
    assert found == {100: labels[0]} | {k: labels[k] for k in range(11)}


def test_a_bad_tensor_in_a_batch_costs_only_itself(stream, executor, pictures, connect, serving):
    made, labels = pictures
    slow = Slow(executor)
    slow.gate.clear()
    with serving(stream.model, slow) as server:
        device = connect(server.port, stream.model.digest)
        device.ask(1, made[0], stream.model)
        assert slow.begun.wait(5)
        device.ask(2, made[1], stream.model)
        device.ask(3, made[2][:, :, :2].copy(), stream.model, shape=[32, 32, 3])
        device.ask(4, made[3], stream.model)
        device.say(Message(T.PING, 7))
        assert device.next().type is T.PONG
        slow.gate.set()
        found = {m.request_id: m for m in (device.next() for _ in range(4))}
    assert {n: found[n].meta["class"] for n in (1, 2, 4)} == {1: labels[0], 2: labels[1],
                                                              4: labels[3]}  # fmt: skip
    assert found[3].type is T.REFUSE


def test_two_models_differ_by_their_digests(stream, executor, pictures, connect, serving):
    made, labels = pictures
    other = dataclasses.replace(stream.model, digest="f" * 64)
    with serving(stream.model, executor) as server:
        server.add(other, Slow(executor))
        device = connect(server.port, other.digest)
        assert device.welcome.meta["models"] == [other.digest]
        device.ask(1, made[0], stream.model)
        device.ask(2, made[1], other)
        found = {m.request_id: m.meta["class"] for m in (device.next() for _ in range(2))}
        assert found == {1: labels[0], 2: labels[1]}
        device.ask(3, made[0], dataclasses.replace(other, digest="e" * 64))
        assert "model digest: found eeeeeeeeeeee" in device.next().meta["reason"]


def test_under_overload_the_admitted_are_on_time_and_the_others_hear_at_once(
    stream, executor, pictures, connect, serving
):
    """Ten milliseconds a batch, one a batch: a hundred asked for at once can never be in time."""
    made, _ = pictures
    slow = Slow(executor, 0.010)
    with serving(stream.model, slow, schedule=SchedulerArgs(batch=1)) as server:
        device = connect(server.port, stream.model.digest)
        for number in range(1, 9):  # what a request takes is learned
            device.ask(number, made[0], stream.model)
            assert device.next().type is T.REPLY
        began = time.monotonic()
        for number in range(100, 200):
            device.ask(number, made[0], stream.model, remaining_s=0.2)
        said = [(device.next(), time.monotonic() - began) for _ in range(100)]
    replies = [m for m, _ in said if m.type is T.REPLY]
    refused = [m for m, _ in said if m.type is T.REFUSE]
    assert len(replies) + len(refused) == 100
    assert 2 <= len(replies) <= 20
    reasons = {m.meta["reason"].split(" ms ")[-1] for m in refused}
    assert any("late behind what is waiting" in reason for reason in reasons)
    # every answer came within the time that was left, and most refusals before any answer
    assert max(at for m, at in said if m.type is T.REPLY) <= 0.2 + SLACK_S
    assert min(at for m, at in said if m.type is T.REFUSE) < 0.1
    # refused ones that were never queued have waited for nothing
    assert min(m.meta["queue_s"] for m in refused) == 0.0


def test_a_device_that_reads_nothing_holds_nobody_up(stream, executor, pictures, connect, serving):
    made, labels = pictures
    limits = EdgeLimits(write_buffer_bytes=65536, stalled_s=0.3, idle_messages=1_000_000)
    stop = len(stream.spec.branches[0]) - 1
    with serving(stream.model, executor, limits=limits) as server:
        deaf = connect(server.port, stream.model.digest)
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            for number in range(1, 20000):
                # answers that are tensors: they fill every buffer in between
                deaf.ask(number, made[0], stream.model, stop=min(2, stop))
        good = connect(server.port, stream.model.digest)
        good.ask(1, made[3], stream.model)
        assert good.next().meta["class"] == labels[3]
        deadline = time.monotonic() + 5
        while not any("dropped" in e for e in server.errors) and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        assert any("dropped, " in e for e in server.errors)


def test_silent_connections_and_idle_devices_are_let_go(stream, executor, connect, serving):
    with serving(stream.model, executor, limits=EdgeLimits(greeting_s=0.2, idle_s=0.3)) as server:
        newcomer = socket.create_connection(("127.0.0.1", server.port), 5)
        newcomer.sendall(b"CNFR")  # a slow-loris: never a whole message
        newcomer.settimeout(5)
        assert newcomer.recv(100) == b""
        idle = connect(server.port, stream.model.digest)
        assert idle.next().meta["reason"].startswith("found nothing for")
        assert idle.next() is None
        newcomer.close()
    assert any("found no greeting within 0.2 s" in e for e in server.errors)


def test_those_who_never_greet_cannot_shut_out_those_who_do(stream, executor, connect, serving):
    """Newcomers from one address, more than there is room for, and coming back when dropped."""
    with serving(stream.model, executor, limits=EdgeLimits(newcomers=8)) as server:
        before = connect(server.port, stream.model.digest)
        newcomers = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(40)]
        device = connect(server.port, stream.model.digest)
        assert device.welcome.type is T.WELCOME
        assert before.sock.fileno() >= 0
        newcomers += [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(20)]
        assert connect(server.port, stream.model.digest).welcome.type is T.WELCOME
        assert len(server.newcomers) <= 8
        for newcomer in newcomers:
            newcomer.close()
    assert any("it had not greeted and others came" in e for e in server.errors)


def test_no_more_connections_than_allowed(stream, executor, pictures, connect, serving):
    made, labels = pictures
    with serving(stream.model, executor, limits=EdgeLimits(per_address=2)) as server:
        first, _ = (connect(server.port, stream.model.digest) for _ in range(2))
        # closed before its greeting was read, or after
        with pytest.raises((OSError, AttributeError, LocalProtocolError)):
            connect(server.port, stream.model.digest).ask(1, made[0], stream.model)
        first.ask(1, made[0], stream.model)
        assert first.next().meta["class"] == labels[0]
    assert any("refused, 2 connections are open" in e for e in server.errors)


def test_more_bytes_than_allowed_are_refused_before_they_come(stream, executor, connect, serving):
    with serving(stream.model, executor, limits=EdgeLimits(inbox_bytes=10_000)) as server:
        device = connect(server.port, stream.model.digest)
        for number in (1, 2):
            device.say(Message(T.REQUEST, number, meta={"bytes": 6000, "remaining_s": 1.0}))
        said = device.next()
        assert (said.type, said.request_id) == (T.REFUSE, 0)
        assert "found 12000 announced, expected at most 10000" in said.meta["reason"]


def test_no_device_fills_the_queue_alone(stream, executor, pictures, connect, serving):
    made, labels = pictures
    slow = Slow(executor, 0.020)
    limits = EdgeLimits(admitted=4)
    with serving(stream.model, slow, limits=limits, schedule=SchedulerArgs(batch=1)) as server:
        greedy, other = (connect(server.port, stream.model.digest) for _ in range(2))
        for number in range(1, 31):
            greedy.ask(number, made[0], stream.model)
        other.ask(1, made[3], stream.model)
        assert other.next().meta["class"] == labels[3]
        said = [greedy.next() for _ in range(30)]
        refused = [m.meta["reason"] for m in said if m.type is T.REFUSE]
        assert len(refused) >= 20
        assert all("requests of this device are waiting" in reason for reason in refused)
        # what was answered makes room again
        greedy.ask(99, made[1], stream.model)
        assert greedy.next().meta["class"] == labels[1]


def test_what_a_lost_device_asked_is_not_computed(stream, executor, pictures, connect, serving):
    made, labels = pictures
    slow = Slow(executor, 0.050)
    with serving(stream.model, slow, schedule=SchedulerArgs(batch=1)) as server:
        gone, other = (connect(server.port, stream.model.digest) for _ in range(2))
        for number in range(1, 31):
            gone.ask(number, made[0], stream.model)
        gone.ask(31, made[0], stream.model, shape=[1, 1, 1])
        while gone.next().request_id != 31:  # all have come: the last is refused at once
            pass
        gone.sock.close()
        until = time.monotonic() + 10
        while len(server.peers) > 1 and time.monotonic() < until:
            threading.Event().wait(0.01)
        assert server.waiting <= 1
        other.ask(1, made[3], stream.model)
        assert other.next().meta["class"] == labels[3]
        assert server.served < 25


def test_more_bytes_than_a_tensor_can_have_are_refused(
    stream, executor, pictures, connect, serving
):
    made, labels = pictures
    with serving(stream.model, executor) as server:
        device = connect(server.port, stream.model.digest)
        data = bytes(16_000)
        asked = {"model": stream.model.digest, "exit": 0, "start": 0, "stop": 12,
                 "codec": "jpeg75", "shape": [32, 32, 3], "bytes": 65_000}  # fmt: skip
        device.say(Message(T.REQUEST, 1, meta=asked))
        for k in range(5):
            part = data if k < 4 else data[:1000]
            device.say(Message(T.CHUNK, 1, 16_000 * k, payload=part))
        assert "payload: found 65000 bytes" in device.next().meta["reason"]
        device.ask(2, made[0], stream.model)
        assert device.next().meta["class"] == labels[0]
