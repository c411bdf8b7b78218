"""An edge that is killed under load: every frame is answered all the same, by the device."""

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from coinfer import Client, DeviceError
from models.data.pictures import generated_pictures

pytestmark = pytest.mark.system
REQUESTS, RATE = 100, 20.0
DEADLINE_S = 2.0
"""Far more than a local answer takes, so that a busy machine fails no frame by itself."""


class Edge:
    """An edge as a process, always at the same address."""

    def __init__(self, folder):
        self._config, self._ready = folder / "edge.toml", folder / "edge.port"
        self._write(0)
        self.start()
        self.port = int(self._ready.read_text().rpartition(":")[2])
        self._write(self.port)

    def _write(self, port):
        self._config.write_text(f'format_version = 1\nmodels = ["alexnet"]\nport = {port}\n')

    def start(self):
        self._ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.main", "edge", "--config", self._config,
             "--port-file", self._ready],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 60.0
        while not self._ready.exists():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def edge(tmp_path):
    made = Edge(tmp_path)
    yield made
    made.kill()


def test_no_frame_fails_where_its_edge_is_killed_and_comes_back(edge, running):
    """At 20 frames/s the edge is killed twice, at moments that are drawn, and started again."""
    (picture,) = generated_pictures(1, np.random.default_rng(0))
    where, rng = [], random.Random(7)

    def kill():
        for _ in range(2):
            time.sleep(rng.uniform(0.5, 1.5))
            edge.kill()
            edge.start()

    def ask(address):
        try:
            with Client(address) as client:
                where.append(client.infer(picture, deadline_s=DEADLINE_S).where)
        except DeviceError as error:
            where.append(str(error))

    more = f'edges = ["127.0.0.1:{edge.port}"]\ncontroller = "edge-only"'
    with running(more) as daemon, ThreadPoolExecutor(32) as askers, ThreadPoolExecutor(1) as killer:
        daemon.until(lambda: "serves" in daemon.said())
        begun_s, sent, killed = time.monotonic(), 0, killer.submit(kill)
        while sent < REQUESTS or not killed.done():
            askers.submit(ask, daemon.address)
            sent += 1
            time.sleep(max(begun_s + sent / RATE - time.monotonic(), 0.0))
        killed.result()
        askers.shutdown()
        said = daemon.said()
    assert len(where) == sent
    assert set(where) == {"edge", "device"}, sorted(set(where))
    assert "no answer in time" not in said
