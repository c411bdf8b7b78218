"""The client against servers that are no daemon of ours: one error, in time, of bounded size."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

from controller.daemon.client import ANSWER_BYTES, AsyncClient, Client, DeviceError

RIGHT = {"label": 3, "confidence": 0.5, "exit": 1, "plan": "p", "where": "device", "latency_ms": 2}
SECOND = {"frames": 1, "p95_ms": 2.0, "bandwidth_mbps": None, "exits": {"1": 1}, "plans": {"p": 1}}
STATE = {
    "model": "alexnet", "controller": "robust", "edge": "", "connected": False,
    "breaker_open": False, "rtt_ms": None, "deadline_ms": 88.0, "frames": 1, "answered": 1,
    "late": 0, "refused": 0, "seconds": [SECOND],
}  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def whole(body):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def changed(plain, **fields):
    return json.dumps(plain | fields).encode()


@contextlib.contextmanager
def serving(answer, drip=b""):
    """A server that answers every request so, and then sends `drip` for as long as it may."""
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            with contextlib.suppress(OSError):
                taken = listener.accept()[0]
                with taken:
                    taken.recv(65536)
                    taken.sendall(answer)
                    while drip and not ended.wait(0.01):
                        taken.sendall(drip)
                    taken.shutdown(socket.SHUT_WR)
                    taken.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            with socket.create_connection(listener.getsockname()):
                pass
            thread.join()


def ask(address, kind, what, margin_s=5.0):
    if kind is Client:
        with Client(address, margin_s=margin_s) as client:
            return client.state() if what == "state" else client.infer(b"x")

    async def run():
        async with AsyncClient(address, margin_s=margin_s) as client:
            return await (client.state() if what == "state" else client.infer(b"x"))

    return asyncio.run(run())


BOTH = [(kind, what) for kind in (Client, AsyncClient) for what in ("infer", "state")]
NO_ANSWERS = [
    b"", b"[]", b"3", b"null", b"{}", b'{"outputs": []}', b'{"outputs": 3}', b'"x"',
    b"\xff\xfe\x00x",
    b"[" * 200_000, b"9" * 5000, changed(RIGHT, label="cat"), changed(RIGHT, label=True),
    changed(RIGHT, **{"class": 3}),
    changed(RIGHT, confidence=float("nan")), changed(RIGHT, latency_ms=float("inf")),
    changed(RIGHT).replace(b"0.5", b"1e999"), changed(RIGHT, plan=3), changed(STATE, seconds=3),
    changed(STATE, seconds=[[]]), changed(STATE, seconds=[SECOND | {"exits": {"1": "x"}}]),
    changed(STATE, seconds=[SECOND | {"p95_ms": float("inf")}]), changed(STATE, rtt_ms="soon"),
    changed(STATE, deadline_ms=10**400),
    *(
        changed({"parameters": RIGHT}, outputs=[{"name": "x", "datatype": "FP32"} | output])
        for output in (
            {}, {"shape": [1], "data": ["a"]}, {"shape": [1], "data": [{}]},
            {"shape": [0], "data": []}, {"shape": [], "data": [1]}, {"shape": [-1], "data": [1]},
            {"shape": [2**40, 2**40], "data": [1]}, {"shape": [1] * 40, "data": [1]},
            {"shape": [1], "data": [1], "datatype": "FP128"}, {"shape": [1], "data": [10**400]},
            {"shape": [0], "data": [], "datatype": "BYTES"},
            {"name": [], "shape": [1], "data": [1]},
            {"shape": [1], "data": [3], "datatype": "BYTES"},
            {"shape": [1], "data": [2**70], "datatype": "INT64"},
        )
    ),
    changed(RIGHT, detections=[{"box": [1, 2, 3], "label": 1, "score": 0.5}]),
    changed(RIGHT, detections=[{"box": "abcd", "label": 1, "score": 0.5}]),
    changed(RIGHT, detections=3), changed(RIGHT, labels=[{"label": "x", "score": 0.5}]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "what"), BOTH)
def test_what_the_daemon_says_is_believed(kind, what):
    with serving(whole(json.dumps(STATE if what == "state" else RIGHT).encode())) as address:
        found = ask(address, kind, what)
    assert found == STATE if what == "state" else (found.label, found.class_name) == (3, None)


@pytest.mark.parametrize("body", NO_ANSWERS, ids=lambda body: repr(body[:60]))
@pytest.mark.parametrize(("kind", "what"), BOTH)
def test_what_is_no_answer_is_one_error(kind, what, body):
    with serving(whole(body)) as address, pytest.raises(DeviceError) as error:
        ask(address, kind, what)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("answer", "drip"),
    [
        (HEAD + b"Content-Length: 9000\r\n\r\n", b" "),
        (HEAD, b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
)
@pytest.mark.parametrize(("kind", "what"), BOTH)
def test_a_request_is_over_in_time_however_its_answer_drips(kind, what, answer, drip):
    begun = time.monotonic()
    with serving(answer, drip) as address, pytest.raises(DeviceError):
        ask(address, kind, what, margin_s=0.3)
    assert time.monotonic() - begun < 3.0


@pytest.mark.parametrize(
    "answer",
    [
        whole(b" " * (ANSWER_BYTES + 1)),
        HEAD + b"\r\n" + b" " * (8 * ANSWER_BYTES),
        HEAD + b"Content-Length: 99999999999\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + b" " * (8 * ANSWER_BYTES),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + b" " * (8 * ANSWER_BYTES),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 300_000,
    ],
    ids=["length", "no length", "promise", "negative chunk", "chunk", "continue"],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_answer_has_a_bound(kind, answer):
    with serving(answer) as address:
        tracemalloc.start()
        try:
            with pytest.raises(DeviceError):
                ask(address, kind, "infer", margin_s=2.0)
            assert tracemalloc.get_traced_memory()[1] < 8 * ANSWER_BYTES
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("body", [b"[]", b"{}", b"[" * 200_000])
def test_top_of_another_server_is_one_line(body):
    with serving(whole(body)) as address:
        found = subprocess.run(
            [sys.executable, "-m", "coinfer.cli.entry", "top", address, "--once"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith(f"coinfer: {address}: no answer from a daemon (found ")
