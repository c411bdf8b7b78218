"""Ends of protocol version 1, frozen as the bytes they sent, against today's."""

import queue
import socket
import struct
import threading

import pytest

from controller.edge.server import EdgeServer
from controller.link.edge_link import EdgeLink
from experiments.benches.wire_peer import Nothing, wire_model

HEADER = struct.Struct(">4sBBHQIII")
OLD_DEVICE = {
    "HELLO": (
        "434e46520101000000000000000000000000000000000062000000007b226d6f64656c223a223030"
        "30303030303030303030303030303030303030303030303030303030303030303030303030303030"
        "30303030303030303030303030303030303030303238222c22696e74657276616c73223a5b5b302c"
        "302c315d5d7d"
    ),
    "PING": ("434e4652010900008000000000000000000000000000000000000000"),
    "REQUEST": (
        "434e465201030000000000000000000100000000000000a6000000007b226d6f64656c223a223030"
        "30303030303030303030303030303030303030303030303030303030303030303030303030303030"
        "30303030303030303030303030303030303030303238222c2265786974223a302c22737461727422"
        "3a302c2273746f70223a312c22636f646563223a22666c6f61743332222c227368617065223a5b31"
        "2c31305d2c226279746573223a34302c2272656d61696e696e675f73223a352e307d"
    ),
    "CHUNK": (
        "434e4652010400000000000000000001000000000000000000000018000102030405060708090a0b"
        "0c0d0e0f1011121314151617"
    ),
    "CHUNK2": (
        "434e465201040000000000000000000100000018000000000000001018191a1b1c1d1e1f2021222324252627"
    ),
    "REQUEST2": (
        "434e465201030000000000000000000200000000000000a6000000007b226d6f64656c223a223030"
        "30303030303030303030303030303030303030303030303030303030303030303030303030303030"
        "30303030303030303030303030303030303030303238222c2265786974223a302c22737461727422"
        "3a302c2273746f70223a312c22636f646563223a22666c6f61743332222c227368617065223a5b31"
        "2c31305d2c226279746573223a34302c2272656d61696e696e675f73223a352e307d"
    ),
    "CHUNK3": (
        "434e4652010400000000000000000002000000000000000000000018000000000000000000000000"
        "000000000000000000000000"
    ),
    "CANCEL": ("434e4652010500000000000000000002000000000000000000000000"),
}
OLD_EDGE = {
    "WELCOME": (
        "434e4652010200000000000000000000000000000000004f000000007b226d6f64656c73223a5b22"
        "30303030303030303030303030303030303030303030303030303030303030303030303030303030"
        "303030303030303030303030303030303030303030303238225d7d"
    ),
    "PONG": ("434e4652010a00008000000000000000000000000000000000000000"),
    "REPLY": (
        "434e46520107000000000000000000010000000000000083000000007b226279746573223a302c22"
        "636c617373223a332c22636f6e666964656e6365223a302e352c2266697273745f726561645f6279"
        "746573223a32342c2272656365697665645f6279746573223a34302c22726563656976655f73223a"
        "302e30312c2271756575655f73223a302e3030312c22636f6d707574655f73223a302e3030327d"
    ),
    "CANCELLED": (
        "434e4652010600000000000000000002000000000000003b000000007b2266697273745f72656164"
        "5f6279746573223a32342c2272656365697665645f6279746573223a32342c22726563656976655f"
        "73223a302e307d"
    ),
    "REFUSE": (
        "434e46520108000000000000000000030000000000000069000000007b22726561736f6e223a226c"
        "617465222c2266697273745f726561645f6279746573223a302c2272656365697665645f62797465"
        "73223a34302c22726563656976655f73223a302e30312c2271756575655f73223a302e302c22636f"
        "6d707574655f73223a302e307d"
    ),
}


def messages(sock, count):
    """(type, request id, metadata) of the next messages, read by the header's layout alone."""
    found = []
    for _ in range(count):
        magic, version, kind, _, request, _, meta, payload = HEADER.unpack(exactly(sock, 28))
        assert (magic, version) == (b"CNFR", 1)
        found.append((kind, request, exactly(sock, meta)))
        exactly(sock, payload)
    return found


def exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, f"closed after {len(data)} of {size} bytes"
        data += more
    return data


def test_an_old_device_is_served_by_today_s_edge():
    server = EdgeServer(wire_model(40), Nothing())
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), 10.0) as sock:
            sock.sendall(bytes.fromhex(OLD_DEVICE["HELLO"]))
            ((welcome, _, _),) = messages(sock, 1)
            assert welcome == 2
            rest = [v for k, v in OLD_DEVICE.items() if k != "HELLO"]
            sock.sendall(bytes.fromhex("".join(rest)))
            heard = {(kind, request): meta for kind, request, meta in messages(sock, 3)}
    finally:
        server.close()
    assert set(heard) == {(10, 1 << 63), (7, 1), (6, 2)}
    assert b'"class":0' in heard[7, 1]
    assert b'"received_bytes":24' in heard[6, 2]


@pytest.mark.parametrize("answer", ["REPLY", "REFUSE", "CANCELLED"])
def test_today_s_device_understands_an_old_edge(answer):
    model, replies, asked = wire_model(40), queue.Queue(), []

    def serve(listener):
        sock, _ = listener.accept()
        with sock:
            asked.extend(messages(sock, 1))
            sock.sendall(bytes.fromhex(OLD_EDGE["WELCOME"]))
            while sum(kind == 3 for kind, _, _ in asked) < 1:
                asked.extend(messages(sock, 1))
            asked.extend(messages(sock, 1))
            sock.sendall(bytes.fromhex(OLD_EDGE["PONG"]))
            sock.sendall(with_request(bytes.fromhex(OLD_EDGE[answer]), 1))
            done.wait(10.0)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        link = EdgeLink("127.0.0.1", listener.getsockname()[1], model.digest, replies.put)
        try:
            assert link.wait_connected(5.0), link.last_error
            meta = {
                "model": model.digest,
                "exit": 0,
                "start": 0,
                "stop": 1,
                "codec": "float32",
                "shape": [1, 10],
                "traceparent": "00-" + 32 * "1" + "-" + 16 * "2" + "-01",
            }
            assert link.upload(meta, bytes(40)) == 1
            reply = replies.get(timeout=10.0)
        finally:
            done.set()
            link.close()
            thread.join(5.0)
    assert reply.request_id == 1
    if answer == "REPLY":
        assert (reply.meta["class"], reply.meta["confidence"]) == (3, 0.5)
        assert reply.error is None
        assert link.rtt_s is not None
    elif answer == "REFUSE":
        assert reply.error == "late"
    else:
        assert reply.cancelled
        assert not reply.measurement.complete
    assert reply.measurement is not None


def with_request(raw, number):
    """The same message for another request."""
    return raw[:8] + number.to_bytes(8, "big") + raw[16:]
