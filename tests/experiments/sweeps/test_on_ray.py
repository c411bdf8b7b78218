"""Sweeps on Ray: without it, without a cluster, and over the death of a node."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest
from sweep_processes import (
    ROOT,
    definition,
    ended,
    parents,
    read_of,
    rewards_of,
    rows_of,
    started,
    swept,
    until,
)

from artefacts import DependencyError
from experiments.sweeps.on_ray import run_on_ray

CELLS = 4


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install -e '\.\[ray\]'"):
        next(run_on_ray([], "127.0.0.1:1"))


def test_a_cluster_that_is_not_there_is_one_line(data, tmp_path):
    path = definition(tmp_path)
    for argv, said in (
        (("--ray", "nowhere"), "found 'nowhere', expected HOST:PORT or [IPV6]:PORT of a cluster's"),
        (("--ray", "127.0.0.1:1"), "found no cluster that answers at 127.0.0.1:1"),
        (("--ray", "127.0.0.1:1", "--jobs", 1), "found --jobs and --ray, expected one of them"),
    ):
        if said.startswith("found no cluster") and find_spec("ray") is None:
            continue
        done = swept(path, "--out", tmp_path / "out", *argv, data=data)
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


class Cluster:
    """Two Ray nodes on this machine, each known by a mark in its processes' environment."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self.marks = {}

    def start(self, name, *argv):
        mark = self.marks[name] = f"COINFER_TEST_NODE={uuid.uuid4()}"
        key, _, value = mark.partition("=")
        env = {k: v for k, v in os.environ.items() if k != "COINFER_DATA"} | {
            key: value,
            "PYTHONPATH": str(ROOT),
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        log = self._folder / f"{name}.log"
        with open(log, "w") as stream:
            subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *argv, "--num-cpus=1",
                 "--disable-usage-stats", "--min-worker-port=0",
                 "--max-worker-port=0", "--object-store-memory=80000000",
                 f"--temp-dir={self._folder}"],
                stdout=stream, stderr=stream, env=env, cwd=ROOT, timeout=60, check=False,
            )  # fmt: skip
        assert "Ray runtime started" in log.read_text(), log.read_text()

    def processes(self, name):
        mark, known = self.marks[name].encode(), parents()
        found = {pid for pid in known if mark in read_of(pid, "environ")}
        # who names itself anew overwrites the mark; its parent still has it
        while more := {pid for pid, parent in known.items() if parent in found} - found:
            found |= more
        return found

    def running(self, name):
        """Whether a task runs on that node now (Ray names its workers so)."""
        return any(b"ray::run_task" in read_of(pid, "cmdline") for pid in self.processes(name))

    def kill(self, name):
        while pids := self.processes(name):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


@pytest.fixture
def cluster():
    if find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install -e '.[ray]')")
    # a socket's path may have 107 letters; pytest's folders leave too few of them
    folder = Path(tempfile.mkdtemp(prefix="cr"))
    found = Cluster(folder)
    try:
        found.start(
            "head",
            "--head",
            "--include-dashboard=false",
            f"--port={found.address.rpartition(':')[2]}",
        )
        found.start("worker", f"--address={found.address}")
        yield found
    finally:
        for name in found.marks:
            found.kill(name)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_sweep_outlives_the_death_of_a_ray_node(cluster, whole, data, tmp_path):
    out = tmp_path / "out"
    driver = started(definition(tmp_path), "--out", out, "--ray", cluster.address, data=data)
    try:
        until(lambda: cluster.running("worker"), "that node at work")
        cluster.kill("worker")
    finally:
        done = ended(driver)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    assert {r["status"] for r in rows} == {"finished"}
    assert sorted(r["attempts"] for r in rows) == [1] * (CELLS - 1) + [2]
    # the nodes' own processes know no logs: these came with the cells
    (source,) = {r["validation_traces"] for r in rows}
    assert source.startswith("real norway logs (validation split) with sub-second variation")
    assert rewards_of(out) == rewards_of(whole.out)
    assert cluster.processes("head")
