"""A cell link between two real processes: rate, round trip, both directions, its report."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.replay.cell.carried import Carried, CellLink, can_make_links
from experiments.replay.testbed.link import open_link
from traces.trace import BandwidthTrace

pytestmark = pytest.mark.skipif(
    not can_make_links() or os.geteuid() != 0, reason="needs root and /dev/net/tun"
)
SERVE = """
import socket, sys
s = socket.create_server((sys.argv[1], 0)); print(s.getsockname()[1], flush=True)
c, _ = s.accept()
size, answer = int(sys.argv[2]), int(sys.argv[3])
while True:
    n = 0
    while n < size:
        d = c.recv(65536)
        if not d: sys.exit()
        n += len(d)
    c.sendall(bytes(answer))
"""
ASK = """
import socket, sys, time
c = socket.create_connection((sys.argv[1], int(sys.argv[2]))); c.setsockopt(6, 1, 1)
size, answer, count = map(int, sys.argv[3:])
for _ in range(count):
    t = time.monotonic(); c.sendall(bytes(size)); n = 0
    while n < answer: n += len(c.recv(65536))
    print(time.monotonic() - t)
"""
SEGMENTS = 70  # of 100,000 bytes, 52 of headers each


def constant(rate_bps):
    return BandwidthTrace.from_intervals("t", [600.0], [rate_bps])


def asked(link, size, answer, count):
    """Seconds of requests of `size` bytes that are answered by `answer`."""
    server = subprocess.Popen(
        [*link.edge_prefix, sys.executable, "-c", SERVE, link.edge_host, str(size), str(answer)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        host, port = link.target(int(server.stdout.readline()))
        done = subprocess.run(
            [*link.device_prefix, sys.executable, "-c", ASK, host, str(port), str(size),
             str(answer), str(count)], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    finally:
        server.kill()
        server.communicate()
    return [float(line) for line in done.stdout.split()]


def test_a_transfer_takes_the_arithmetic_s_time_and_the_report_counts_it():
    with open_link(constant(2e6), 0.04, "cell") as link:
        link.start(time.monotonic())
        taken = asked(link, 100_000, 1, 5)
        report = link.report()
    ideal_s = 8 * (100_000 + 52 * SEGMENTS) / 2e6 + 0.04
    # never quicker; a busy machine may hold single ones up
    assert 0.97 * ideal_s <= min(taken[1:]) <= 1.1 * ideal_s
    assert report.method == "cell"
    assert "TCP by" in report.notes[0]
    assert report.worst_lateness_s > 0


def test_the_directions_have_traces_of_their_own():
    with open_link(constant(8e6), 0.0, "cell", down=constant(1e6)) as link:
        link.start(time.monotonic())
        up = min(asked(link, 100_000, 1, 4))
        down = min(asked(link, 1, 100_000, 2))
    assert 0.1 <= up <= 0.2
    assert 0.8 <= down <= 1.0


def test_before_it_begins_a_link_has_the_mean_rate_and_after_its_end_nothing_passes():
    trace = BandwidthTrace("t", np.array([0.0, 0.5]), np.array([1e5, 3.9e6]), 1.0)
    with open_link(trace, 0.06, "cell") as link:
        ideal_s = 8 * 20_000 * 1500 / 1448 / 2e6 + 0.06
        assert ideal_s <= min(asked(link, 20_000, 1, 3)) <= ideal_s + 0.1
        link.start(time.monotonic() - 1.0)
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(
                [*link.device_prefix, sys.executable, "-c",
                 "import socket; socket.create_connection(('100.64.0.1', 9), 60)"], timeout=1.5,
                check=False,
            )  # fmt: skip


def test_a_link_that_repeats_goes_on_and_a_full_queue_drops():
    trace = BandwidthTrace("t", np.array([0.0]), np.array([4e6]), 0.1)
    with Carried(CellLink(trace, rtt_s=0.0, queue_bytes=3000)) as carried:
        carried.begin(time.monotonic())
        flood = (
            "import socket; s = socket.socket(2, 2)\n"
            "for _ in range(400): s.sendto(bytes(1000), ('100.64.0.1', 9))"
        )
        subprocess.run([*carried.inside(), sys.executable, "-c", flood], check=True)
        time.sleep(0.3)
        counts = carried.report().up
    assert counts.packets == 400
    assert counts.dropped > 100
    assert counts.delivered == counts.packets - counts.dropped
