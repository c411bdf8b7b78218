"""The user-space relay: its arithmetic by an injected clock, its behaviour on real sockets."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from artefacts import UsageError
from experiments.replay.testbed.link import open_link
from experiments.replay.testbed.relay import Pace, Relay
from traces.trace import BandwidthTrace


def constant(rate_bps, duration_s=30.0):
    return BandwidthTrace("t", np.array([0.0]), np.array([rate_bps]), duration_s)


def test_bytes_pass_at_exact_virtual_times():
    pace = Pace(constant(8000.0), packet_bytes=0.0)
    assert pace.finish(1.0, 500) == pytest.approx(1.5)
    assert pace.finish(1.2, 500) == pytest.approx(2.0), "queued behind the first"
    assert pace.finish(5.0, 500) == pytest.approx(5.5), "an idle link starts at once"
    assert pace.passed_bytes == 1500


def test_headers_take_their_share_and_outages_hold():
    trace = BandwidthTrace("t", np.array([0.0, 1.0, 3.0]), np.array([8000.0, 0.0, 8000.0]), 9.0)
    assert Pace(trace, 66.0).finish(0.0, 934) == pytest.approx(1.0)
    assert Pace(trace, 0.0).finish(0.5, 1000) == pytest.approx(3.5)
    assert Pace(None, 66.0).finish(2.0, 10**6) == 2.0


def serve(listener):
    """Answer every 1,000 bytes with one byte, until the peer ends."""
    with contextlib.suppress(OSError):
        sock, _ = listener.accept()
        with sock:
            count = 0
            while data := sock.recv(65536):
                count += len(data)
                while count >= 1000:
                    count -= 1000
                    sock.sendall(b"k")


@contextlib.contextmanager
def through(trace, rtt_s):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        relay = Relay(listener.getsockname()[:2], trace, rtt_s, packet_bytes=0.0)
        relay.start_at(time.monotonic())
        try:
            with socket.create_connection((relay.host, relay.port), 5) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield sock
        finally:
            relay.close()


def exchange(sock):
    began = time.monotonic()
    sock.sendall(bytes(1000))
    assert sock.recv(1) == b"k"
    return time.monotonic() - began


def test_rate_and_round_trip_are_kept():
    with through(constant(400_000.0), 0.04) as sock:
        exchange(sock)
        times = [exchange(sock) for _ in range(7)]
    # 20 ms of transfer and 40 ms of round trip; this machine may stall, so the middle counts
    assert 0.058 <= sorted(times)[3] <= 0.085


def test_closing_either_side_reaches_the_other():
    with through(constant(1e7), 0.0) as sock:
        exchange(sock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener.getsockname()[:2], None, 0.0)
        with socket.create_connection((relay.host, relay.port), 5) as sock:
            far, _ = listener.accept()
            far.close()
            sock.settimeout(5)
            assert sock.recv(1) == b""
        relay.close()


@pytest.mark.parametrize("method", ["relay", "user-space"])
def test_the_relay_has_two_names_and_reports_one(method):
    with open_link(constant(1e6), 0.0, method) as link:
        assert link.report().method == "relay"


def test_the_method_must_be_known():
    with (
        pytest.raises(UsageError, match="found 'magic', expected one of auto, cell, tc, relay"),
        open_link(constant(1e6), 0.0, "magic"),
    ):
        pass
