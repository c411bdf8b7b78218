"""Programs and pages that mean harm, against a real daemon over its own sockets."""

import contextlib
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest

from coinfer import Client
from experiments.robustness.structures import many_scans
from models.data.pictures import generated_pictures

JPEG = {"Content-Type": "image/jpeg"}
MEMORY_MAX_KIB = 400 * 1024
"""`MemoryMax` of the unit."""


@pytest.fixture(scope="module")
def daemon(running_module):
    with running_module("[limits]\nlongest_deadline_s = 30.0\n") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(4, np.random.default_rng(0))


def place(daemon):
    host, port = daemon.address.removeprefix("http://").split(":")
    return host, int(port)


def ask(daemon, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*place(daemon), timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def raw(daemon, sent, unix=False):
    """What comes to the end of a connection on which these bytes were sent."""
    family = socket.AF_UNIX if unix else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(daemon.unix.removeprefix("unix:") if unix else place(daemon))
        client.sendall(sent)
        found = b""
        while part := client.recv(65536):
            found += part
        return found


def test_a_page_of_another_site_reads_and_sends_nothing(daemon):
    foreign = (
        {"Host": "rebound.example"},
        {"Host": "rebound.example:8700"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    )
    for headers in foreign:
        for path in ("/live/state", "/metrics", "/live", "/v2/health/ready", "/nowhere"):
            status, _, found = ask(daemon, "GET", path, headers=headers)
            assert (status, set(json.loads(found))) == (403, {"error"})
        for kind in ("image/jpeg", "application/json", "text/plain"):
            status, more, _ = ask(daemon, "POST", "/infer", b"x", headers | {"Content-Type": kind})
            assert status == 403
            assert not [name for name in more if name.lower().startswith("access-control")]
    before = json.loads(ask(daemon, "GET", "/live/state")[2])["frames"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _, found = ask(daemon, "POST", "/infer", b"{}", {"Content-Type": kind})
        assert (status, b"Content-Type: found" in found) == (415, True)
    assert json.loads(ask(daemon, "GET", "/live/state")[2])["frames"] == before


def test_programs_without_a_host_and_over_the_socket_are_served(daemon):
    assert raw(daemon, b"GET /live/state HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")
    for head in (b"HTTP/1.0\r\n\r\n", b"HTTP/1.1\r\nHost: any.name\r\nConnection: close\r\n\r\n"):
        assert b" 200 " in raw(daemon, b"GET /v2/health/ready " + head, unix=True)[:20]
    status, _, _ = ask(daemon, "GET", "/metrics", headers={"Host": "LOCALHOST:1"})
    assert status == 200


def test_hosts_of_the_configuration_are_served(running):
    with running(http='hosts = ["camera.lan"]') as daemon:
        for host, status in (("camera.lan", 200), ("camera.lan:80", 200), ("other.lan", 403)):
            assert ask(daemon, "GET", "/live/state", headers={"Host": host})[0] == status


def test_chunks_of_a_byte_are_refused_and_longer_ones_are_not(daemon, pictures):
    # with time enough: on a busy machine the scenario's own deadline would be over first
    head = (
        b"POST /infer?deadline_ms=5000 HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    found = raw(daemon, head + b"1\r\n0\r\n" * 40_000 + b"0\r\n\r\n")
    assert b" 400 " in found[:20]
    assert b"found chunks of a few bytes" in found
    long = b"".join(b"200\r\n" + bytes(512) + b"\r\n" for _ in range(4000))
    assert b"no JPEG that can be read" in raw(daemon, head + long + b"0\r\n\r\n")


@pytest.mark.parametrize("path", ["/v2/models/other/infer", "/nowhere", "/infer?x=1"])
def test_after_a_refusal_the_rest_of_a_body_is_dropped_and_the_connection_ends(daemon, path):
    head = (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n"
    )
    head += b"Content-Type: application/json\r\n\r\n"
    found = raw(daemon, head % (path.encode(), 2_000_000) + bytes(2_000_000))
    assert found.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert b"Connection: close" in found
    assert found.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_body_where_none_belongs_is_not_read_and_ends_the_connection(daemon, method):
    """It would be parsed for as long as a connection lingers, chunk by chunk, for nobody."""
    head = method + (
        b" /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    found = raw(daemon, head + b"1\r\n0\r\n" * 1000)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in found


def test_pictures_at_their_bounds_delay_no_camera_and_no_end(running, pictures):
    """Twelve of nine megapixels and 24 scans at once, a camera beside them, then SIGTERM."""
    slow = many_scans(3000, 24)
    with running() as daemon:
        stop = threading.Event()

        def attack():
            while not stop.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    ask(daemon, "POST", "/infer?deadline_ms=20000", slow, JPEG)

        threads = [threading.Thread(target=attack, daemon=True) for _ in range(12)]
        for thread in threads:
            thread.start()
        with Client(daemon.address) as client:
            for number in range(25):
                client.infer(pictures[number % 4], deadline_s=5.0)
                assert ask(daemon, "GET", "/v2/health/ready")[0] == 200
        status = (daemon.folder / f"/proc/{daemon.process.pid}/status").read_text()
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 8.0
        stop.set()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < MEMORY_MAX_KIB
