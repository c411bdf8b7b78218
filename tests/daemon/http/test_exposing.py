"""An edge's metrics: fetched while others connect and say nothing; bad addresses in one line."""

import contextlib
import http.client
import logging
import socket
import threading

import pytest
from prometheus_client import CollectorRegistry, Gauge

from artefacts import UsageError
from controller.daemon.http.exposing import LIMITS, MetricsServer

LOG = logging.getLogger("coinfer.test")


@pytest.fixture
def metrics():
    registry = CollectorRegistry()
    Gauge("answer", "The one", registry=registry).set(42)
    server = MetricsServer(registry, "127.0.0.1", 0, LOG)
    server.start()
    yield server
    server.close()


def fetch(server, method, path, **headers):
    address = server.where.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


def test_metrics_are_given_by_get_and_head(metrics):
    for path in ("/", "/metrics"):
        status, text = fetch(metrics, "GET", path)
        assert (status, b"answer 42.0" in text) == (200, True)
        assert fetch(metrics, "HEAD", path) == (200, b"")
    assert fetch(metrics, "GET", "/other")[0] == 404
    assert fetch(metrics, "POST", "/metrics")[0] == 405


def test_a_page_of_another_site_reads_no_metrics(metrics):
    for headers in (
        {"Host": "rebound.example"},
        {"Origin": "http://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        status, text = fetch(metrics, "GET", "/metrics", **headers)
        assert (status, b"answer" in text) == (403, False)
    assert fetch(metrics, "GET", "/metrics", Host="localhost:9")[0] == 200


def test_silent_connections_cost_neither_threads_nor_an_answer(metrics):
    host, port = metrics.where.removeprefix("http://").split(":")
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        for number in range(10 * LIMITS.connections):
            stack.enter_context(socket.create_connection((host, int(port)), 10))
            if number % 20 == 0:
                assert fetch(metrics, "GET", "/metrics")[0] == 200
        assert fetch(metrics, "GET", "/metrics")[0] == 200
        assert threading.active_count() <= threads


def test_an_address_that_cannot_be_listened_on_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = MetricsServer(CollectorRegistry(), "127.0.0.1", port, LOG)
        with pytest.raises(UsageError, match=f"metrics: cannot listen on 127.0.0.1:{port} "):
            server.start()
        server.close()
    beyond = MetricsServer(CollectorRegistry(), "0.0.0.0", 0, LOG)
    with pytest.raises(UsageError, match="expected loopback"):
        beyond.start()
