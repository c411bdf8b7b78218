"""Requests by hand at a real edge: garbage, the time that they have, and its end."""

import contextlib
import socket
import threading

import pytest

from controller.link.measuring import Upload, measure
from controller.wire import Connection, Message, MessageType, Role, serialise
from models.executors import OnnxExecutor

T = MessageType


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


class Device:
    """A raw device: greets an edge, then says what a test wants."""

    def __init__(self, port, digest):
        self.connection = Connection(Role.DEVICE)
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard = []
        self.say(Message(T.HELLO, meta={"model": digest}))
        assert self.next().type is T.WELCOME

    def say(self, *messages):
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))

    def next(self):
        """The edge's next message; None where it closed."""
        while not self.heard:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.heard += self.connection.receive(data)
        return self.heard.pop(0)


@contextlib.contextmanager
def device(server, digest):
    raw = Device(server.port, digest)
    try:
        yield raw
    finally:
        raw.sock.close()


def request(model, number=1, **change):
    data = bytes(3072)
    meta = {
        "model": model.digest, "exit": 0, "start": 0, "stop": len(model.spec.branches[0]),
        "codec": "uint8", "shape": [32, 32, 3], "bytes": len(data), "remaining_s": 5.0,
    } | change  # fmt: skip
    return (
        Message(T.REQUEST, number, meta=meta),
        *(Message(T.CHUNK, number, at, payload=data[at : at + 1024]) for at in (0, 1024, 2048)),
    )


class Gated:
    """Computes when the gate opens."""

    def __init__(self, inner):
        self.inner = inner
        self.begun, self.gate = threading.Event(), threading.Event()

    def run(self, *interval):
        self.begun.set()
        assert self.gate.wait(10)
        return self.inner.run(*interval)

    def decode(self, *what):
        return self.inner.decode(*what)


def test_garbage_while_its_request_is_computed_does_not_end_the_worker(stream, executor, serving):
    gated = Gated(executor)
    with serving(stream.model, gated) as server:
        with device(server, stream.model.digest) as bad:
            bad.say(*request(stream.model))
            assert gated.begun.wait(5)
            bad.sock.sendall(b"garbage!" * 8)
            # the edge says why before it closes, so its end is failed by the time this returns
            said = bad.next()
            assert said.type is T.REFUSE
            assert "magic: found b'garb', expected b'CNFR'" in said.meta["reason"]
            gated.gate.set()
        with device(server, stream.model.digest) as good:
            good.say(*request(stream.model))
            assert good.next().type is T.REPLY


class Failing(Gated):
    """Computes nothing."""

    def run(self, *interval):
        raise ValueError("no such id")


def test_a_device_hears_that_its_own_sample_failed(stream, executor, serving):
    with serving(stream.model, Failing(executor)) as server:
        with device(server, stream.model.digest) as raw:
            raw.say(*request(stream.model))
            said = raw.next()
            raw.say(*request(stream.model, 2, codec="none"))
            other = raw.next()
    assert (said.type, said.meta["failed"]) == (T.REFUSE, True)
    assert "ValueError: no such id" in said.meta["reason"]
    assert (other.type, "failed" in other.meta) == (T.REFUSE, False)


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self):
        return self.now


def test_time_counts_down_from_the_first_byte(stream, executor, serving):
    clock = Clock()
    gated = Gated(executor)
    with serving(stream.model, gated, clock=clock) as server:
        with device(server, stream.model.digest) as first:
            first.say(*request(stream.model, 1))
            assert gated.begun.wait(5)
            first.say(*request(stream.model, 2, remaining_s=0.25), Message(T.PING, 9))
            assert first.next().type is T.PONG
            clock.now += 0.75
            gated.gate.set()
            assert first.next().type is T.REPLY
            late = first.next()
    assert (late.type, late.request_id) == (T.REFUSE, 2)
    assert late.meta["reason"] == "its time was over 0.500 s before the edge was free"
    assert late.meta["received_bytes"] == 3072
    assert late.meta["queue_s"] == pytest.approx(0.75)


def test_a_chunk_cut_by_the_first_read_counts_towards_it(stream, executor, serving):
    clock = Clock()
    with serving(stream.model, executor, clock=clock) as server:
        with device(server, stream.model.digest) as slow:
            opening, *chunks = (slow.connection.send(m) for m in request(stream.model))
            slow.sock.sendall(opening + chunks[0] + chunks[1][: 28 + 476])
            # as soon as these 1500 bytes are noted the edge waits in its next read
            peer = poll(lambda: next((p for p in server.peers if p._incoming.timings), None))
            poll(lambda: peer._incoming.timings[1].received_bytes == 1500)
            clock.now += 0.5
            slow.sock.sendall(chunks[1][28 + 476 :] + chunks[2])
            reply = slow.next()
    assert reply.meta["first_read_bytes"] == 1500
    assert reply.meta["received_bytes"] == 3072
    job = Upload(1, {}, bytes(3072), 0.0)
    seen = measure(job, reply.meta, 9.0, 0.03, False)
    assert (seen.payload_bytes, seen.duration_s) == (1572, pytest.approx(0.5))


def poll(condition):
    """What `condition` gives once it is true; fails after five seconds."""
    waiting = threading.Event()
    for _ in range(5000):
        if found := condition():
            return found
        waiting.wait(0.001)
    raise AssertionError("nothing happened within 5 s")


def test_a_closed_edge_takes_no_connection(stream, executor, serving):
    with serving(stream.model, executor) as server:
        Device(server.port, stream.model.digest).sock.close()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel's timing has it
        Device(server.port, stream.model.digest)


def reply(meta, payload=b""):
    def answer(request_id):
        parts = [serialise(Message(T.REPLY, request_id, meta=meta | {"bytes": len(payload)}))]
        if payload:
            parts.append(serialise(Message(T.CHUNK, request_id, 0, payload=payload)))
        return b"".join(parts)

    return answer
