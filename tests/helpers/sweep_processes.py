"""Sweeps as processes: started, ended, and what they leave."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = """
format_version = 1
scenarios = ["3g-alexnet"]
seeds = [0, 1]
frames = {frames}
[grid]
learning_rate = [1e-3, 1e-2]
# so near-sighted a planning leaves training something to learn
planning_sweeps = [1]
planning_backlogs = [4]
hidden = [8]
lanes = {lanes}
steps = [32]
batch = [512]
epochs = [1]
validations = [1]
validation_frames = [100]
blind_s = [0.5]
[evaluation]
max_frames = 50
"""


def definition(folder, frames=2048, lanes="[32]", extra=""):
    path = folder / "sweep.toml"
    path.write_text(DEFINITION.format(frames=frames, lanes=lanes) + extra)
    return path


def started(*argv, data, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "sweep", *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"COINFER_DATA": str(data), "OMP_NUM_THREADS": "2"},
        # a shell's background jobs, these tests perhaps among them, are deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True, **options,
    )  # fmt: skip


def ended(process, timeout_s=120):
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)


def swept(*argv, data):
    return ended(started(*argv, data=data))


def until(true, what, timeout_s=120.0):
    """Poll for what other processes do."""
    limit_s = time.monotonic() + timeout_s
    while time.monotonic() < limit_s:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {timeout_s:g} s")


def finished(out):
    return sorted((out / "cells").glob("*/result.json"))


def rows_of(out, name="results"):
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def rewards_of(out):
    return [row["validation_mean_reward"] for row in rows_of(out)]


def read_of(pid, name):
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def parents():
    """Every process that is no zombie, and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = read_of(entry.name, "stat").rpartition(b") ")[2].split()
            if len(stat) > 1 and stat[0] != b"Z":
                found[int(entry.name)] = int(stat[1])
    return found


def workers_of(driver):
    """Processes that run cells for a driver (its resource tracker runs none)."""
    ours = [pid for pid, parent in parents().items() if parent == driver]
    return [pid for pid in ours if b"spawn_main" in read_of(pid, "cmdline")]
