"""A computation that hangs: `ready` says so, and systemd hears of no life until it is over."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from artefacts.heartbeat import Heartbeat
from controller.daemon.client import Client, DeviceError
from controller.wire import Connection, Message, MessageType, Role

T = MessageType
HANG_S = 0.3
PROGRAM = """
import pathlib, sys, threading, time
import artefacts.heartbeat as heartbeat
import controller.daemon.{module} as daemon
import controller.daemon.building as building
folder = pathlib.Path(sys.argv[1])
heartbeat.Heartbeat.__init__.__defaults__ = ({hang_s}, time.monotonic)
import controller.daemon.edge_building as edge_building
maker = building if "{module}" == "main" else edge_building
made = maker.make_executor

def hanging(*args, **options):
    executor = made(*args, **options)
    run = executor.run

    def stop(*interval):
        while (folder / "hang").exists():
            (folder / "hangs").touch()
            threading.Event().wait(0.02)
        return run(*interval)

    executor.run = stop
    return executor

maker.make_executor = hanging

def ready(where):
    (folder / "ready.new").write_text(where if isinstance(where, str) else where[0])
    (folder / "ready.new").rename(folder / "ready")

if "{module}" == "main":
    daemon.Daemon(folder / "device.toml", "0").run(ready)
else:
    daemon.run_edge(folder / "edge.toml", ready)
"""
DEVICE = 'format_version = 1\nscenario = "3g-alexnet"\ncontroller = "device-only"\n'
DEVICE += "[http]\nport = 0\n"
EDGE = 'format_version = 1\nmodels = ["alexnet"]\nport = 0\n'


def until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def watched(tmp_path):
    """`with watched(module) as (where, heard):` a daemon whose computations hang while a file
    named `hang` is there; `heard(seconds)`: whether it says that it is alive within so long.
    """

    @contextlib.contextmanager
    def start(module):
        (tmp_path / "device.toml").write_text(DEVICE)
        (tmp_path / "edge.toml").write_text(EDGE)
        code = PROGRAM.format(module=module, hang_s=HANG_S)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
            (tmp_path / "log").open("w") as log,
        ):
            sock.bind(str(tmp_path / "notify"))
            environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
            process = subprocess.Popen(
                [sys.executable, "-c", code, tmp_path], env=os.environ | environment, stderr=log
            )

            def heard(seconds):
                sock.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    while True:
                        sock.recv(100)  # what was said before
                sock.settimeout(seconds)
                with contextlib.suppress(TimeoutError):
                    return sock.recv(100) == b"WATCHDOG=1"
                return False

            try:
                until(lambda: (tmp_path / "ready").exists() or process.poll() is not None)
                assert (tmp_path / "ready").exists(), (tmp_path / "log").read_text()
                yield (tmp_path / "ready").read_text(), heard
            finally:
                process.kill()
                process.wait()

    return start


def is_ready(host, port):
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200


def test_a_device_whose_computation_hangs_is_neither_ready_nor_alive(watched, tmp_path):
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    with watched("main") as (where, heard):
        host, port = where.removeprefix("http://").split(":")
        until(lambda: is_ready(host, int(port)))
        assert heard(5.0)
        (tmp_path / "hang").touch()
        with Client(where) as client:
            with pytest.raises(DeviceError):
                client.infer(picture)
            until(lambda: not is_ready(host, int(port)))
            assert (tmp_path / "hangs").exists()
            assert not heard(1.0)
            (tmp_path / "hang").unlink()
            until(lambda: is_ready(host, int(port)))
            assert heard(5.0)
            # on a busy machine not every frame is in time
            with contextlib.suppress(DeviceError):
                client.infer(picture, deadline_s=1.0)


def test_an_edge_whose_computation_hangs_is_not_alive(watched, tmp_path):
    from controller.scenarios import load_setting, read_scenario

    digest = load_setting(read_scenario("3g-alexnet")).model.digest
    with watched("edge_main") as (where, heard):
        assert heard(5.0)
        host, port = where.split(":")
        (tmp_path / "hang").touch()
        with socket.create_connection((host, int(port)), 5) as sock:
            device = Connection(Role.DEVICE)
            hello = {"model": digest, "intervals": [[0, 0, 1]]}
            sock.sendall(device.send(Message(T.HELLO, meta=hello)))
            until((tmp_path / "hangs").exists)
            threshold = time.monotonic() + 2.0 * HANG_S + 1.0
            until(lambda: time.monotonic() > threshold)
            assert not heard(2.5)
            (tmp_path / "hang").unlink()
            assert heard(5.0)


def test_a_beat_that_does_not_come_back_is_named():
    now, given = [10.0], []
    heartbeat = Heartbeat(1.0, lambda: now[0])
    heartbeat.add("stuck", given.append)
    heartbeat.add("well", lambda back: back())
    heartbeat.round()
    now[0] += 0.9
    assert heartbeat.hung == ()
    heartbeat.round()
    assert len(given) == 1, "one beat is under way, no more"
    now[0] += 0.2
    assert heartbeat.hung == ("stuck",)
    given[0]()
    assert heartbeat.hung == ()
    heartbeat.round()
    assert len(given) == 2


def test_a_pool_that_is_closed_counts_as_one_that_hangs():
    now = [0.0]

    def refuse(back):
        raise RuntimeError("closed")

    heartbeat = Heartbeat(1.0, lambda: now[0])
    heartbeat.add("pool", refuse)
    heartbeat.round()
    now[0] = 1.5
    assert heartbeat.hung == ("pool",)
