"""Devices and edges that misbehave: each costs itself its connection and nobody else anything."""

import contextlib
import queue
import socket
import struct
import threading
import time

import msgspec
import numpy as np
import pytest

from artefacts import UsageError
from controller.device.frame_loops import DeviceConfig, connect_loop
from controller.link import edge_link, sender
from controller.link.edge_link import EdgeLink
from controller.link.estimate import LinkEstimate
from controller.planners.fixed import FixedController
from controller.wire import Connection, Message, MessageType, RemoteProtocolError, Role, serialise
from controller.wire.messages import meta_number, meta_shape, meta_text
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor
from models.facts.meaning import meaning_digest
from models.facts.preprocessing import PictureInput

T = MessageType


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


def poll(condition):
    """What `condition` gives once it is true; fails after five seconds."""
    waiting = threading.Event()
    for _ in range(5000):
        if found := condition():
            return found
        waiting.wait(0.001)
    raise AssertionError("nothing happened within 5 s")


@contextlib.contextmanager
def scripted_edge(answer, heard=lambda message: None):
    """An edge that greets, then answers each whole request by `answer(request id)`'s bytes.

    `heard` gets every message first; an edge that it holds up reads no further.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(sock):
            connection, due = Connection(Role.EDGE), {}
            with contextlib.suppress(OSError), sock:
                while data := sock.recv(65536):
                    for message in connection.receive(data):
                        heard(message)
                        if message.type is T.HELLO:
                            sock.sendall(connection.send(Message(T.WELCOME)))
                        elif message.type is T.REQUEST:
                            due[message.request_id] = message.meta["bytes"]
                        elif message.type is T.CHUNK:
                            due[message.request_id] -= len(message.payload)
                            if due[message.request_id] == 0:
                                sock.sendall(answer(message.request_id))

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def reply(meta, payload=b""):
    def answer(request_id):
        parts = [serialise(Message(T.REPLY, request_id, meta=meta | {"bytes": len(payload)}))]
        if payload:
            parts.append(serialise(Message(T.CHUNK, request_id, 0, payload=payload)))
        return b"".join(parts)

    return answer


def offload(setting, stop_early=False):
    for k, plan in enumerate(setting.table.plans):
        length = len(setting.spec.branches[plan.exit])
        if plan.hops and plan.hops[0].start == 0 and (plan.hops[-1].stop < length) == stop_early:
            return k
    raise AssertionError("no such plan in the scenario")


def run(setting, executor, plan, port, **options):
    pictures = generated_pictures(8, np.random.default_rng(0))
    config = {"mode": "stream", "deadline_s": 2.0, "interval_s": 0.02, "frames": 6} | options
    loop = connect_loop(
        setting.model, executor, setting.device, setting.table, FixedController("x", plan),
        ("127.0.0.1", port), DeviceConfig(**config), connect_timeout_s=5.0,
    )  # fmt: skip
    with contextlib.closing(loop.link):
        return loop.run(pictures)


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        ({}, "class: found None"),
        ({"class": 10, "confidence": 0.5}, "class: found 10, expected an integer 0 to 9"),
        ({"class": "cat", "confidence": 0.5}, "class: found 'cat'"),
        ({"class": 1}, "confidence: found None"),
        ({"class": 1, "confidence": 1.5}, "confidence: found 1.5, expected 0 to 1"),
        ({"class": 1, "confidence": -0.5}, "confidence: found -0.5, expected 0 to 1"),
        ({"class": "x" * 3000, "confidence": 0.5}, "class: found 'xxx"),
    ],
)
def test_an_edge_that_answers_nonsense_costs_no_frame(stream, executor, meta, match):
    with scripted_edge(reply(meta)) as port:
        records = run(stream, executor, offload(stream), port)
    assert len(records) == 6
    for record in records:
        assert (record.exit, record.by_plan) == (0, False)
        assert match in record.error
        assert len(record.error) < 400


def test_a_refusal_of_the_whole_connection_is_reported_with_its_reason(stream):
    def drop(request_id):
        return serialise(Message(T.REFUSE, 0, meta={"reason": "too many devices"}))

    replies = queue.Queue()
    with scripted_edge(drop) as port:
        link = EdgeLink("127.0.0.1", port, stream.model.digest, replies.put)
        with contextlib.closing(link):
            assert link.wait_connected(5)
            number = link.upload({}, bytes(10))
            lost = replies.get(timeout=5)
    assert (lost.request_id, lost.error) == (number, "the edge dropped us: too many devices")


def test_an_edge_that_dribbles_its_greeting_is_given_up(stream):
    welcome = serialise(Message(T.WELCOME, meta={"models": ["x" * 3000]}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def dribble():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                for byte in welcome:
                    sock.sendall(bytes([byte]))
                    if ended.wait(0.01):
                        return

        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        link = EdgeLink("127.0.0.1", port, stream.model.digest, print, greeting_s=0.3)
        try:
            thread.join(10.0)
            assert not thread.is_alive(), "the device hung up"
            assert not link.connected
        finally:
            ended.set()
            link.close()


def test_a_connection_that_is_reset_in_the_greeting_is_one_that_was_closed(stream):
    """An edge that hangs up before it has read everything resets: it means the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset():
            sock, _ = listener.accept()
            sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        thread = threading.Thread(target=reset, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        link = EdgeLink("127.0.0.1", port, stream.model.digest, print)
        with contextlib.closing(link):
            said = poll(lambda: link.last_error)
    assert said.endswith("the edge closed the connection during the greeting")


def test_the_round_trip_is_the_least_of_the_last_seconds():
    """A ping behind an upload is slow; a route that has become slower is believed in time."""
    known = LinkEstimate()
    for at, rtt in ((1.0, 0.05), (2.0, 0.3), (3.0, 0.06)):
        known.round_trip(at, rtt)
    assert known.rtt_s == pytest.approx(0.05)
    for at in (12.0, 13.0, 14.0):
        known.round_trip(at, 0.1)
    assert known.rtt_s == pytest.approx(0.1)


def test_pings_go_out_while_answers_keep_coming(stream, executor, serving):
    """The receiving thread never falls silent, and the round trip is measured all the same."""
    replies = queue.Queue()
    with serving(stream.model, executor) as server:
        link = EdgeLink(
            "127.0.0.1", server.port, stream.model.digest, replies.put, keepalive_s=0.05
        )
        try:
            assert link.wait_connected(5.0)
            until, before = time.monotonic() + 10.0, link.keepalive.pings
            while link.keepalive.pings < before + 3 and time.monotonic() < until:
                link.upload({"model": stream.model.digest, "probe": True}, bytes(100))
                replies.get(timeout=5.0)
                threading.Event().wait(0.002)  # more often is more than an edge puts up with
            assert link.keepalive.pings >= before + 3
        finally:
            link.close()


def test_cancelling_an_upload_that_is_over_is_distinguished(stream, executor, serving):
    replies = queue.Queue()
    with serving(stream.model, executor) as server:
        link = EdgeLink("127.0.0.1", server.port, stream.model.digest, replies.put)
        with contextlib.closing(link):
            assert link.wait_connected(5)
            number = link.upload({"probe": True, "remaining_s": 0.0}, bytes(4000))
            done = replies.get(timeout=5)
            assert done.error is None
            assert done.request_id == number
            assert link.cancel(number) is None


def test_an_edge_that_reads_pictures_otherwise_serves_no_frame(stream, executor, serving):
    """Both would be sure, and one of them wrong: the device goes on alone and says why."""
    other = msgspec.structs.replace(stream.model.card, preprocessing=PictureInput(mean=(0.5,)))
    with serving(stream.model, executor) as server:
        for card, welcome in ((stream.model.card, True), (other, False)):
            link = EdgeLink(
                "127.0.0.1", server.port, stream.model.digest, lambda reply: None,
                meaning=meaning_digest(card),
            )  # fmt: skip
            with contextlib.closing(link):
                assert link.wait_connected(5.0 if welcome else 0.5) is welcome
        assert "found other preprocessing or answers on the device" in link.last_error


def test_an_upload_waits_while_older_bytes_fill_the_link(stream, executor, serving, monkeypatch):
    """Behind stale bytes every frame is late: the second upload is not even begun."""
    waiting = {"bytes": 0}
    for module in (edge_link, sender):  # how many wait is the kernel's to tell, and ever changes
        monkeypatch.setattr(module, "in_flight_bytes", lambda sock: waiting["bytes"])
    replies, probe = queue.Queue(), {"model": stream.model.digest, "probe": True}
    with serving(stream.model, executor) as server:
        link = EdgeLink("127.0.0.1", server.port, stream.model.digest, replies.put)
        with contextlib.closing(link):
            assert link.wait_connected(5)
            waiting["bytes"] = 1_000_000
            held = link.upload(probe, bytes(1000))
            assert link.backlog_bytes > 1_000_000
            assert link.cancel(held) == 0
            behind = link.upload(probe, bytes(1000))
            with pytest.raises(queue.Empty):
                replies.get(timeout=0.05)
            waiting["bytes"] = 0
            assert replies.get(timeout=5).request_id == behind


def test_the_scenario_counts_what_a_request_adds(stream):
    """The physics' message bytes are those of this protocol: request and chunk headers."""
    sent = []
    with scripted_edge(reply({}), sent.append) as port:
        link = EdgeLink("127.0.0.1", port, stream.model.digest, lambda reply: None)
        with contextlib.closing(link):
            assert link.wait_connected(5)
            plan = stream.table.plans[offload(stream)]
            meta = {
                "model": stream.model.digest, "exit": plan.exit, "start": 0,
                "stop": plan.hops[0].stop, "codec": "uint8", "shape": [32, 32, 3],
            }  # fmt: skip
            link.upload(meta, bytes(3072), until_s=time.monotonic() + 0.0877)
            poll(lambda: sum(len(m.payload) for m in sent) == 3072)
    added = sum(len(serialise(m)) for m in sent if m.type in (T.REQUEST, T.CHUNK)) - 3072
    assert added == pytest.approx(stream.scenario.link.message_bytes, rel=0.1)


def test_a_device_refuses_an_edge_beyond_loopback(stream):
    with pytest.raises(UsageError, match=r"address: found 192\.0\.2\.7"):
        EdgeLink("192.0.2.7", 7700, stream.model.digest, print)


def test_what_an_edge_says_is_shown_without_controls_and_not_at_any_length(stream):
    said = "\x1b[2J\n[bold]" + "x" * 3000

    def drop(request_id):
        return serialise(Message(T.REFUSE, request_id, meta={"reason": said}))

    replies = queue.Queue()
    with scripted_edge(drop) as port:
        link = EdgeLink("127.0.0.1", port, stream.model.digest, replies.put)
        with contextlib.closing(link):
            assert link.wait_connected(5)
            link.upload({}, bytes(10))
            refused = replies.get(timeout=5)
    assert refused.error.isprintable()
    assert len(refused.error) == 200


@pytest.mark.parametrize("value", ["\n" * 3000, list(range(900)), {"a": "\x1b" * 900}])
def test_fields_of_unknown_clients_are_shown_bounded(value):
    for read in (meta_number, meta_text, meta_shape):
        if read is meta_text and isinstance(value, str):
            continue
        with pytest.raises(RemoteProtocolError) as raised:
            read({"x": value}, "x")
        assert len(str(raised.value)) < 300
        assert str(raised.value).isprintable()
