"""What leaves a machine that runs the daemons: nothing. Seen in a network namespace of its own.

There the route to everywhere leads to the loopback device, on which every packet is looked at, so
that whatever a library sends to whomever (a name to be resolved, a connection) is seen.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from coinfer import Client

WATCH = """
import os, signal, socket, subprocess, sys
run = lambda *argv: subprocess.run(argv, check=True)
run("ip", "link", "set", "lo", "up")
run("ip", "route", "add", "default", "dev", "lo")
with open(sys.argv[1], "w") as stream:
    stream.write("nameserver 192.0.2.1\\n")  # TEST-NET-1: nobody's
run("mount", "--bind", sys.argv[1], "/etc/resolv.conf")
every = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
child = subprocess.Popen(sys.argv[2:], stdout=sys.stderr)
signal.signal(signal.SIGTERM, lambda *_: (child.terminate(), sys.exit(child.wait())))
every.settimeout(0.2)
while child.poll() is None:
    try:
        packet = every.recv(65536)
    except TimeoutError:
        continue
    version, to = packet[0] >> 4, packet[16:20]
    if version == 4 and to[0] != 127:
        print(".".join(map(str, to)), packet[20:80], flush=True)
"""
CONTROL = "import onnxruntime, time; time.sleep(60)"
LONGEST_S = 60.0


def namespaces_work():
    tools = all(shutil.which(tool) for tool in ("unshare", "ip", "mount"))
    return tools and subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, check=False
    ).returncode == 0  # fmt: skip


class Watched:
    """A command in a namespace of its own, with a home of its own; `said` names who was called."""

    def __init__(self, folder, *command):
        folder.mkdir()
        self.home = folder / "home"
        self.home.mkdir()
        self._said = folder / "said"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
        # the library is silent by itself where it believes that it runs in somebody's CI
        kept = {k: v for k, v in kept.items() if k not in ("CI", "GITHUB_ACTIONS", "TF_BUILD")}
        self._out = self._said.open("w")
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", sys.executable, "-c", WATCH, folder / "resolv.conf",
             *command], stdout=self._out, stderr=self._log, cwd=folder,
            env=kept | {"HOME": str(self.home)},
        )  # fmt: skip

    @property
    def said(self):
        return self._said.read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self._out.close()
        self._log.close()


def until(true, seconds, why):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


@pytest.mark.skipif(not namespaces_work(), reason="network namespaces need root and iproute2")
def test_both_daemons_tell_nobody_anything(tmp_path):
    config = tmp_path / "device.toml"
    config.write_text(
        'format_version = 1\nscenario = "3g-alexnet"\nedges = ["127.0.0.1:7700"]\n'
        f'[http]\nport = 0\nsocket = "{tmp_path}/device.sock"\n'
    )
    (tmp_path / "edge.toml").write_text('format_version = 1\nmodels = ["alexnet"]\nport = 7700\n')
    both = (
        f"{sys.executable} -m coinfer.cli.main edge --config {tmp_path}/edge.toml & edge=$!; "
        f"{sys.executable} -m coinfer.cli.main device --config {tmp_path}/device.toml "
        f"--ready-file {tmp_path}/ready & device=$!; "
        "trap 'kill $edge $device' TERM; wait $device; wait $device; wait $edge"
    )
    daemons = Watched(tmp_path / "daemons", "sh", "-c", both)
    try:
        log = tmp_path / "daemons" / "log"
        until((tmp_path / "ready").exists, LONGEST_S, log.read_text)
        # only now: when the other has spoken, the daemons have had as long
        control = Watched(tmp_path / "control", sys.executable, "-c", CONTROL)
        try:
            answered, end = 0, time.monotonic() + LONGEST_S
            with Client(f"unix:{tmp_path}/device.sock") as client:
                while not control.said and time.monotonic() < end:
                    client.infer(np.zeros((32, 32, 3), dtype=np.uint8))
                    answered += 1
                    time.sleep(0.1)
        finally:
            control.stop()
    finally:
        daemons.stop()
    assert answered
    assert "edge 127.0.0.1:7700 serves" in log.read_text()
    assert daemons.said == ""
    assert files(daemons.home) == []
    if not control.said:
        pytest.skip(f"ONNX Runtime left alone said nothing either in {LONGEST_S:g} s")


def files(folder: Path):
    return [p for p in folder.rglob("*") if p.is_file()]
