"""Device, edge, metrics and clients on IPv6 alone, as processes."""

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from coinfer import AsyncClient, Client
from models.data.pictures import generated_pictures


def free_port():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
            return sock.getsockname()[1]
    except OSError:
        return None


pytestmark = pytest.mark.skipif(free_port() is None, reason="needs IPv6 on loopback")


@contextlib.contextmanager
def serving(folder, *argv):
    """A daemon: `said(pattern)` reads its log until the pattern is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.entry", *argv], cwd=folder, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    stuck = threading.Timer(60.0, process.kill)
    stuck.start()
    lines = []

    def said(pattern):
        while not (found := re.search(pattern, "".join(lines))):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        return found[1]

    try:
        yield said
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        stuck.cancel()
        process.kill()
        process.communicate()


def test_device_edge_metrics_and_clients_speak_ipv6(tmp_path):
    metrics = free_port()
    (tmp_path / "edge.toml").write_text(
        'format_version = 1\nmodels = ["alexnet"]\nhost = "::1"\nport = 0\n'
        f'metrics = "[::1]:{metrics}"\n'
    )
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    with serving(tmp_path, "edge", "--config", "edge.toml", "--port-file", "port") as edge:
        port = edge(r"listening on \[::1\]:(\d+), without")
        end = time.monotonic() + 30.0
        while not (tmp_path / "port").exists():  # written once everything is open
            assert time.monotonic() < end
            time.sleep(0.01)
        exposed = urllib.request.urlopen(f"http://[::1]:{metrics}/metrics", timeout=10).read()
        assert b"coinfer_edge_served_total" in exposed
        assert (tmp_path / "port").read_text() == port
        (tmp_path / "device.toml").write_text(
            f'format_version = 1\nscenario = "3g-alexnet"\nedges = ["[::1]:{port}"]\n'
            '[http]\nhost = "::1"\nport = 0\n'
        )
        with serving(tmp_path, "device", "--config", "device.toml") as device:
            address = device(r"listening on (http://\[::1\]:\d+)")
            assert device(r"edge (\S+) serves") == f"[::1]:{port}"
            with Client(address) as client:
                assert client.infer(picture, deadline_s=5.0).where in ("device", "edge")
                assert client.state()["edge"] == f"[::1]:{port}"

            async def asked():
                async with AsyncClient(address) as other:
                    return await other.infer(picture, deadline_s=5.0)

            assert asyncio.run(asked()).label >= 0
            top = subprocess.run(
                [sys.executable, "-m", "coinfer.cli.entry", "top", address, "--once"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert f"edge [::1]:{port}" in top.stdout


def test_a_port_that_is_taken_is_named_with_brackets(tmp_path):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "edge.toml").write_text(
            f'format_version = 1\nmodels = ["alexnet"]\nhost = "::1"\nport = {port}\n'
        )
        (tmp_path / "device.toml").write_text(
            f'format_version = 1\nscenario = "3g-alexnet"\n[http]\nhost = "::1"\nport = {port}\n'
        )
        for argv in (
            ("edge", "--config", "edge.toml"),
            ("edge", "--model", "alexnet", "--host", "::1", "--port", str(port)),
            ("device", "--config", "device.toml"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "coinfer.cli.entry", *argv], cwd=tmp_path, text=True,
                capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 2
            assert f"cannot listen on [::1]:{port} (" in done.stderr
            assert len(done.stderr.splitlines()) == 1
