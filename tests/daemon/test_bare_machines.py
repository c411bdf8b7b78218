"""Both daemons where a container leaves nothing: no home, no user entry, a read-only disk."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from coinfer import Client
from controller.link.edge_link import EdgeLink
from models.data.pictures import generated_pictures
from models.facts.cards import load_model

READ_ONLY = """
set -e
mount --make-rprivate /
for place in /tmp /var/tmp /dev/shm "$1"; do
    if [ -d "$place" ]; then mount --bind "$place" "$place"; mount -o remount,bind,ro "$place"; fi
done
mount -o remount,bind,ro /
cd "$1"
shift
exec unshare --user --map-user=54321 --map-group=54321 -- env -i "$@"
"""
NAMESPACE = ["unshare", "--mount", "--"]
if os.geteuid() != 0:
    NAMESPACE.insert(1, "--map-root-user")


def bare_allowed(tmp):
    if shutil.which("unshare") is None:
        return False
    tried = [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", str(tmp), "/bin/true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.fixture
def bare(tmp_path):
    """`with bare(*argv) as said:` a command in a namespace; `said(pattern)` waits for it."""
    if not bare_allowed(tmp_path):
        pytest.skip("needs mount and user namespaces of its own")

    @contextlib.contextmanager
    def start(*argv):
        process = subprocess.Popen(
            [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", str(tmp_path), f"PYTHONPATH={os.getcwd()}",
             "PYTHONDONTWRITEBYTECODE=1", "ORT_DISABLE_TELEMETRY=1", sys.executable, "-m",
             "coinfer.cli.entry", *argv],
            stderr=subprocess.PIPE, text=True,
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
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=30)[0]
            assert process.returncode == 0, (lines, rest)
            assert "Traceback" not in "".join(lines)
        finally:
            stuck.cancel()
            process.kill()
            process.communicate()

    return start


def test_a_device_serves_with_nothing_but_its_configuration(bare, tmp_path):
    (tmp_path / "device.toml").write_text(
        'format_version = 1\nscenario = "3g-alexnet"\nstate = "state.json"\n[http]\nport = 0\n'
    )
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    with bare("device", "--config", "device.toml") as said:
        address = said(r"listening on (http://\S+)")
        assert "state.json: found read-only file system" in said(r"(counters not saved: .*)")
        with Client(address) as client:
            assert client.infer(picture, deadline_s=5.0).where == "device"
    assert os.listdir(tmp_path) == ["device.toml"]


def test_an_edge_serves_with_nothing_but_its_configuration(bare, tmp_path):
    (tmp_path / "edge.toml").write_text('format_version = 1\nmodels = ["alexnet"]\nport = 0\n')
    with bare("edge", "--config", "edge.toml") as said:
        port = int(said(r"listening on 127\.0\.0\.1:(\d+)"))
        link = EdgeLink("127.0.0.1", port, load_model("alexnet").digest, lambda reply: None)
        with contextlib.closing(link):
            assert link.wait_connected(10.0), link.last_error
    assert os.listdir(tmp_path) == ["edge.toml"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("device", "--config", "device.toml", "--ready-file", "ready"), "ready"),
        (("edge", "--config", "edge.toml", "--port-file", "port"), "port"),
        (("edge", "--model", "alexnet", "--port", "0", "--port-file", "port"), "port"),
        (("certs", "init"), "certs"),
        (("certs", "token", "--out", "token"), "token"),
        (("traces", "generate", "--seconds", "20", "--out", "t.csv"), "t.csv"),
        (("device", "--scenario", "edgent", "--records", "r.json"), "r.json"),
        (("map", "--scenario", "edgent", "--out", "map.json"), "map.json"),
        (("profile", "--model", "alexnet", "--out", "p.json"), "p.json"),
        (("evaluate", "--scenario", "edgent", "--out", "e"), "e"),
        (("figures", "edgent", "--out", "f"), "f"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_before_any_work(bare, tmp_path, argv, named):
    (tmp_path / "device.toml").write_text('format_version = 1\nscenario = "3g-alexnet"\n')
    (tmp_path / "edge.toml").write_text('format_version = 1\nmodels = ["alexnet"]\n')
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", str(tmp_path), f"PYTHONPATH={os.getcwd()}",
         "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m", "coinfer.cli.entry", *argv],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [x for x in done.stderr.splitlines() if not x.startswith("traces: ")]
    assert len(lines) == 1, done.stderr
    line = lines[0]
    assert re.match(rf"coinfer: {named}(/\S+)?: found read-only file system, expected a", line)
    assert sorted(os.listdir(tmp_path)) == ["device.toml", "edge.toml"]
