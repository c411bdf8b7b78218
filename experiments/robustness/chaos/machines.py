"""The processes: an edge, and device daemons behind their relays; what they are given to run on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from artefacts import processes
from artefacts.processes import module_command
from controller.policies import SHIPPED_GENERALIST
from controller.policies.generalist import load_generalist
from controller.policies.network import save_policy
from controller.scenarios import load_setting, read_scenario
from experiments.replay.testbed.link import wait_for_file
from experiments.robustness.chaos.frames import Truth
from experiments.robustness.chaos.relays import CLOSING_S, Relay

SCENARIO = """format_version = 1
name = "chaos"
kind = "frame-stream"
description = "what crosses is exact, so that every answer can be checked"
network = "alexnet"
device_profile = "edgent-pi3"
edge_profile = "edgent-pc"
[traces]
family = "norway"
[frames]
rate_fps = 10.0
deadline_s = 0.1
[link]
rtt_s = 0.01
[plans]
codecs = ["uint8", "float32"]
no_rescue = true
"""
CONFIG = """format_version = 1
scenario = "{scenario}"
controller = "{controller}"
policy = "policy"
edges = [{edges}]
state = "{state}"
[http]
port = 0
[log]
level = "warning"
"""
CONTROLLERS = ("robust", "edge-only", "learned", "algorithm1-online")
"""Of the devices in turn: the daemon's own, one that sends whatever it may, and two more."""
COMMAND = tuple(module_command("coinfer.cli.entry"))
START_LIMIT_S, ENDED_WITHIN_S = 120.0, 30.0


class Edge:
    """The edge process (`prefix`: in a namespace), on a port that it keeps over its deaths."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.host, self._command = host, (*prefix, *command)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Begin (again)."""
        self.process = processes.start(
            [*self._command, "edge", "--model", "alexnet", "--host", self.host, "--port",
             str(self.port)], stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        processes.end([self.process], grace_s=0.0)


def _device(folder: Path, number: int, edges: str, coinfer: Sequence[str]) -> subprocess.Popen[Any]:
    """A daemon, beginning."""
    config = folder / f"device{number}.toml"
    config.write_text(
        CONFIG.format(
            scenario=folder / "chaos.toml",
            edges=edges,
            state=folder / f"state{number}.json",
            controller=CONTROLLERS[number % len(CONTROLLERS)],
        )
    )
    ready = str(folder / f"ready{number}")
    command = [*coinfer, "device", "--config", str(config), "--ready-file", ready]
    process = processes.start(command, stderr=subprocess.PIPE)

    def keep() -> None:
        # the device that can write no file cannot write its log into one either
        assert process.stderr is not None
        log = process.stderr.read()
        with contextlib.suppress(FileNotFoundError):  # the run was ended, its folder is gone
            (folder / f"log{number}").write_bytes(log)

    threading.Thread(target=keep, daemon=True).start()
    return process


async def log_of(path: Path) -> str:
    """What a daemon that has ended wrote; its keeper may still be at it."""
    until = time.monotonic() + CLOSING_S
    while not path.exists() and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return path.read_text() if path.exists() else ""


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    relays: list[Relay],
    edge: Edge,
    *,
    control: bool,
    command: Sequence[str] = COMMAND,
) -> AsyncIterator[list[tuple[subprocess.Popen[Any], str]]]:
    """A daemon behind every relay (with `control` one more that has no edge): process, address.

    The first can write no file. All of them, the relays and the edge end with the block.
    """
    edges = [f'"127.0.0.1:{relay.port}"' for relay in relays] + [""] * control
    devices: list[tuple[subprocess.Popen[Any], str]] = []
    started: list[subprocess.Popen[Any]] = []
    try:
        for number, named in enumerate(edges):
            started.append(_device(folder, number, named, command))
        for number, process in enumerate(started):
            ready = folder / f"ready{number}"
            address = await asyncio.to_thread(wait_for_file, ready, process, START_LIMIT_S)
            devices.append((process, address))
        # as on a full disk
        resource.prlimit(started[0].pid, resource.RLIMIT_FSIZE, (0, 0))
        yield devices
    finally:
        try:
            for relay in relays:
                await relay.close()
        finally:
            processes.end(started, ENDED_WITHIN_S)
            edge.kill()


def prepared(folder: Path) -> Truth:
    """The scenario and its policy (of the shipped generalist) in a folder; what is right there."""
    path = folder / "chaos.toml"
    path.write_text(SCENARIO)
    setting = load_setting(read_scenario(path))
    (folder / "policy").mkdir()
    save_policy(folder / "policy", load_generalist(SHIPPED_GENERALIST).adapted(setting))
    return Truth(path)
