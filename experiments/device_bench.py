"""The device daemon as a process: time to its first answer, memory, what it burns when idle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError
from controller.daemon.client import Client
from controller.scenario import load_setting, read_scenario
from experiments.testbed.link import wait_for_file

START_LIMIT_S = 60.0
CONFIG = """format_version = 1
scenario = "{scenario}"
controller = "learned"
[http]
port = 0
"""


class DeviceFigures(msgspec.Struct, frozen=True):
    """One start: seconds from the process's beginning to its first answer, MiB, shares of a core.

    `python_s`: what a Python process that imports numpy and ONNX Runtime takes, in the same run.
    """

    scenario: str
    first_answer_s: float
    python_s: float
    resident_mib: float
    idle_cpu_share: float
    answers: int
    median_ms: float


def device_figures(scenario: str, idle_s: float, answers: int) -> DeviceFigures:
    """Start a daemon without an edge, ask it, let it idle, ask it on, stop it."""
    height, width = load_setting(read_scenario(scenario)).spec.input_shape[1:]
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "import numpy; from models.onnx_runtime import onnxruntime"],
        check=True,
    )
    python_s = time.monotonic() - begun
    with tempfile.TemporaryDirectory(prefix="coinfer-") as name:
        folder = Path(name)
        (folder / "device.toml").write_text(CONFIG.format(scenario=scenario))
        ready = folder / "ready"
        command = [sys.executable, "-m", "coinfer.cli.main", "device", "--config",
                   str(folder / "device.toml"), "--ready-file", str(ready)]  # fmt: skip
        begun = time.monotonic()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            address = wait_for_file(ready, process, START_LIMIT_S)
            with Client(address) as client:
                client.infer(picture, deadline_s=5.0)
                first_s = time.monotonic() - begun
                spent = _cpu_s(process.pid)
                time.sleep(idle_s)
                idle = (_cpu_s(process.pid) - spent) / idle_s
                times = []
                for _ in range(answers):
                    asked = time.monotonic()
                    client.infer(picture, deadline_s=1.0)
                    times.append(time.monotonic() - asked)
                resident = _resident_mib(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    return DeviceFigures(
        scenario, first_s, python_s, resident, idle, answers, 1e3 * float(np.median(times))
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise CoinferError(f"/proc/{pid}/status has no VmRSS")
