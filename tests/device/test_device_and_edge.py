"""Real sockets on loopback: the device's loop and the edge server, and what goes wrong between."""

import contextlib
import itertools
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from artefacts import UsageError
from controller.device.frame_loops import DeviceConfig, connect_loop, labels_agree
from controller.edge.server import EdgeServer
from controller.link.addresses import check_address
from controller.planners.fixed import FixedController
from controller.wire import Connection, Message, MessageType, Role, serialise
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def pictures(stream, executor):
    made = generated_pictures(40, np.random.default_rng(0))
    x = stream.model.normalise(made)
    labels = [
        executor.run(i, 0, len(b), x).argmax(axis=1) for i, b in enumerate(stream.spec.branches)
    ]
    return made, labels


@pytest.fixture
def edge(stream, executor):
    server = EdgeServer(stream.model, executor)
    server.start()
    yield server
    server.close()


class Alternating(FixedController):
    """Another plan at every frame."""

    def decide(self, situation):
        return situation.frame % self.plan


def run(setting, executor, controller, port, pictures, **options):
    config = {"mode": "stream", "deadline_s": 5.0, "interval_s": 0.01, "frames": 12} | options
    wait = config.pop("connect_timeout_s", 5.0)
    loop = connect_loop(
        setting.model, executor, setting.device, setting.table, controller,
        ("127.0.0.1", port), DeviceConfig(**config), connect_timeout_s=wait,
    )  # fmt: skip
    with contextlib.closing(loop.link):
        return loop, loop.run(pictures)


def test_as_daemon_is_with_its_breaker_its_probes_and_the_measured_round_trip(
    stream, executor, edge, pictures
):
    local = next(k for k, p in enumerate(stream.table.plans) if p.is_local)
    controller = FixedController("local", local)
    for as_daemon in (False, True):
        loop, records = run(
            stream, executor, controller, edge.port, pictures[0], frames=3, as_daemon=as_daemon
        )
        assert all(r.latency_s is not None for r in records)
        engine = loop.engine
        assert (engine.args.always_rescue, engine.args.measured_rtt) == (as_daemon, as_daemon)
        assert (engine.admission.breakers is not None) == as_daemon
        # nothing else measured the link
        assert (
            engine.watch.monitor.probed_bytes if engine.watch.monitor else 0
        ) == 2000 * as_daemon


def test_the_split_answers_as_the_whole_whatever_the_plan(stream, executor, edge, pictures):
    made, labels = pictures
    count = len(stream.table)
    _, records = run(stream, executor, Alternating("a", count), edge.port, made, frames=2 * count)
    assert [r.frame for r in records] == list(range(2 * count))
    for record in records:
        plan = stream.table.plans[record.plan]
        assert record.error is None
        assert record.by_plan, str(plan)
        assert record.exit == plan.exit
        assert (record.bytes_sent == 0) == plan.is_local
        if not plan.hops or plan.hops[0].codec != "int8":
            assert record.label == labels[plan.exit][record.frame % 40]


def test_the_closed_loop_waits_for_every_answer(closed, executor, edge, pictures):
    made, labels = pictures
    count = len(closed.table)
    _, records = run(
        closed, executor, Alternating("a", count), edge.port, made, mode="closed", frames=count
    )
    for one, two in itertools.pairwise(records):
        assert two.arrival_s >= one.arrival_s + one.latency_s - 1e-6
    agree = labels_agree(records, labels[0])
    assert agree[[r.exit == 0 for r in records]].all()


def offload(setting, rescue):
    return next(
        k for k, p in enumerate(setting.table.plans)
        if p.hops and p.hops[0].start == 0 and p.rescue == rescue
    )  # fmt: skip


def test_without_an_edge_every_frame_is_answered_locally(stream, executor, pictures):
    made, labels = pictures
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    plan = offload(stream, True)
    loop, records = run(
        stream, executor, FixedController("x", plan), port, made, connect_timeout_s=0.1
    )
    assert not loop.link.connected
    assert len(records) == 12
    assert all(r.exit == 0 and not r.by_plan for r in records)
    assert labels_agree(records, labels[0]).all()


def test_an_edge_killed_in_mid_stream_costs_no_frame(stream, executor, pictures):
    server = EdgeServer(stream.model, executor)
    server.start()

    class KillsAtFive(FixedController):
        def decide(self, situation):
            if situation.frame == 5:
                server.close()
            return self.plan

    plan = offload(stream, True)
    _, records = run(
        stream, executor, KillsAtFive("x", plan), server.port, pictures[0],
        frames=20, interval_s=0.03, deadline_s=0.4,
    )  # fmt: skip
    assert len(records) == 20
    assert all(r.latency_s is not None for r in records)
    assert {r.exit for r in records[12:]} == {0}
    assert records[0].by_plan


def test_a_black_holed_edge_is_rescued_by_the_deadline(stream, executor, pictures):
    """An edge that greets and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet_only():
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                connection = Connection(Role.EDGE)
                with sock:
                    while data := sock.recv(65536):
                        for message in connection.receive(data):
                            if message.type is MessageType.HELLO:
                                sock.sendall(connection.send(Message(MessageType.WELCOME)))

        threading.Thread(target=greet_only, daemon=True).start()
        plan = offload(stream, True)
        _, records = run(
            stream, executor, FixedController("x", plan), listener.getsockname()[1], pictures[0],
            frames=8, interval_s=0.2, deadline_s=0.4, rescue_margin_s=0.2,
        )  # fmt: skip
    assert len(records) == 8
    assert all(r.exit == 0 and not r.by_plan for r in records)
    assert all(r.latency_s == pytest.approx(0.4, abs=1e-6) for r in records)


def talk(port, raw):
    """Send bytes to an edge; everything it says until it closes."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(5)
        said = b""
        while data := sock.recv(65536):
            said += data
        return said


def after_greeting(port, digest, raw):
    """Greet, wait for the welcome, send `raw`; the next message the edge sends."""
    connection = Connection(Role.DEVICE)
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(connection.send(Message(MessageType.HELLO, meta={"model": digest})))
        found = []
        while len(found) < 2:
            data = sock.recv(65536)
            assert data, f"the edge closed after {found}"
            found += connection.receive(data)
            if len(found) == 1:
                sock.sendall(raw)
    return found[1]


def hello(digest):
    return serialise(Message(MessageType.HELLO, meta={"model": digest}))


def test_the_edge_outlives_malformed_and_wrong_devices(stream, edge, executor, pictures):
    assert talk(edge.port, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n") == b""
    assert b"expected" in talk(edge.port, hello("0" * 64))
    talk(edge.port, hello(stream.model.digest)[:20])
    assert any("magic: found b'GET '" in e for e in edge.errors)
    assert any("model digest: found 000000000000" in e for e in edge.errors)
    _, records = run(
        stream, executor, FixedController("x", offload(stream, True)), edge.port, pictures[0]
    )
    assert all(r.by_plan for r in records)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"exit": 9}, b"exit: found 9"),
        ({"stop": 99}, b"stop: found 99"),
        ({"codec": "zip"}, b"codec: found 'zip'"),
        ({"shape": [3, 3]}, b"tensor shape: found"),
        ({"model": "0" * 64}, b"model digest: found 000000000000"),
    ],
)
def test_a_wrong_request_is_refused_by_name(stream, edge, change, match):
    data = bytes(3072)
    meta = {
        "model": stream.model.digest, "exit": 0, "start": 0, "stop": 12, "codec": "uint8",
        "shape": [32, 32, 3], "bytes": len(data), "remaining_s": 1.0,
    } | change  # fmt: skip
    raw = serialise(Message(MessageType.REQUEST, 1, meta=meta))
    raw += serialise(Message(MessageType.CHUNK, 1, 0, payload=data))
    found = after_greeting(edge.port, stream.model.digest, raw)
    assert found.type is MessageType.REFUSE
    assert match in str(found.meta["reason"]).encode()


def test_cancel_frees_and_reports_what_arrived(stream, edge):
    meta = {"bytes": 3072, "remaining_s": 1.0}
    raw = serialise(Message(MessageType.REQUEST, 1, meta=meta))
    raw += serialise(Message(MessageType.CHUNK, 1, 0, payload=bytes(1000)))
    raw += serialise(Message(MessageType.CANCEL, 1))
    found = after_greeting(edge.port, stream.model.digest, raw)
    assert found.type is MessageType.CANCELLED
    assert found.meta["received_bytes"] == 1000


def test_addresses_beyond_loopback_are_refused():
    for good in ("127.0.0.1", "localhost", "::1"):
        check_address(good)
    for bad in ("10.200.3.1", "0.0.0.0", "192.168.1.2", "8.8.8.8", "example"):
        with pytest.raises(UsageError, match="address: found"):
            check_address(bad)


def test_the_device_imports_nothing_heavy():
    code = (
        "import sys, controller.device.frame_loops, models.executors, "
        "controller.policies.learned, controller.sensing, experiments.replay.device_run\n"
        "heavy = {'torch', 'gymnasium', 'stable_baselines3', 'pandas', 'matplotlib', 'river'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
