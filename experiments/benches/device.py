"""The device daemon as a process: time to its first answer, memory, what it burns when idle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError, processes
from artefacts.owners import temporary_folder
from artefacts.processes import Children, module_command
from controller.daemon.client import Client
from controller.scenarios import load_setting, read_scenario
from experiments.replay.testbed.link import wait_for_file

START_LIMIT_S, CLOSED_WITHIN_S = 60.0, 30.0
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
    imports = "import numpy; from models.graphs.onnx_runtime import onnxruntime"
    processes.run([sys.executable, "-P", "-c", imports]).check_returncode()
    python_s = time.monotonic() - begun
    with temporary_folder("bench") as folder, Children(CLOSED_WITHIN_S) as children:
        (folder / "device.toml").write_text(CONFIG.format(scenario=scenario))
        ready = folder / "ready"
        config = str(folder / "device.toml")
        command = module_command(
            "coinfer.cli.entry", "device", "--config", config, "--ready-file", str(ready)
        )
        begun = time.monotonic()
        process = children.start(command, stderr=subprocess.DEVNULL)
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
