"""Several edge processes behind a plain TCP balancer; one is killed under load."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from controller.device.frame_loops import DeviceConfig, connect_loop
from controller.planners.fixed import FixedController
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
DEVICES = 4

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def balanced(count, folder):
    """The shipped configuration over `count` edge processes; gives the port and the processes."""
    edges, ports = [], []
    with contextlib.ExitStack() as stack:
        for k in range(count):
            port_file = folder / f"port{k}"
            edge = subprocess.Popen(
                [sys.executable, "-m", "coinfer.cli.main", "edge", "--model", "alexnet",
                 "--port", "0", "--port-file", str(port_file)],
                stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            stack.callback(edge.wait)
            stack.callback(edge.kill)
            edges.append(edge)
        for k in range(count):
            until(lambda k=k: (folder / f"port{k}").exists())
            ports.append(int((folder / f"port{k}").read_text()))
        front = free_port()
        text = CONFIG.read_text().replace("bind 0.0.0.0:7700", f"bind 127.0.0.1:{front}")
        text = re.sub(r"\n    server edge\d .*", "", text)
        text += "".join(f"    server edge{k} 127.0.0.1:{p}\n" for k, p in enumerate(ports))
        (folder / "haproxy.cfg").write_text(text)
        proxy = subprocess.Popen([HAPROXY, "-db", "-f", folder / "haproxy.cfg"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        stack.callback(proxy.wait)
        stack.callback(proxy.terminate)
        until(lambda: answers(front))
        yield front, edges


def test_the_shipped_configuration_is_one():
    done = subprocess.run([HAPROXY, "-c", "-f", CONFIG], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [2, 4])
def test_an_edge_killed_under_load_costs_no_frame(stream, tmp_path, count):
    executor = OnnxExecutor(stream.model)
    pictures = generated_pictures(40, np.random.default_rng(0))
    x = stream.model.normalise(pictures)
    labels = [executor.run(i, 0, len(b), x).argmax(1) for i, b in enumerate(stream.spec.branches)]
    plan = next(
        k for k, p in enumerate(stream.table.plans)
        if p.hops and p.hops[0].start == 0 and p.rescue and p.hops[0].codec == "uint8"
    )  # fmt: skip
    found, killed = {}, threading.Event()
    with balanced(count, tmp_path) as (port, edges):

        class Kills(FixedController):
            def decide(self, situation):
                if situation.frame == 60 and not killed.is_set():
                    killed.set()
                    edges[0].send_signal(signal.SIGKILL)
                return self.plan

        def one(number):
            controller = (Kills if number == 0 else FixedController)("x", plan)
            loop = connect_loop(
                stream.model, executor, stream.device, stream.table, controller,
                ("127.0.0.1", port), DeviceConfig("stream", 0.6, 0.03, 200),
            )  # fmt: skip
            with contextlib.closing(loop.link):
                found[number] = (loop.run(pictures), loop.link.reconnects)

        threads = [threading.Thread(target=one, args=(k,)) for k in range(DEVICES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert killed.is_set()
    assert sorted(found) == list(range(DEVICES))
    lost = 0
    for records, reconnects in found.values():
        lost += reconnects
        assert [r.frame for r in records] == list(range(200)), "one answer a frame, in order"
        assert all(r.latency_s is not None for r in records)
        for record in records:
            assert record.label == labels[record.exit][record.frame % 40]
        assert {r.where for r in records[:20]} == {"edge"}
        assert {r.where for r in records[-20:]} == {"edge"}, "another edge has taken over"
    assert lost >= 1, "somebody was connected to the edge that was killed"
