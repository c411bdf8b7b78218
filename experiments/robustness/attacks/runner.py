"""Makes every attack on a real device and a real edge, beside a camera, and holds it to its bound.

The camera films alone first: what it loses then, the machine loses. Where an attack costs more, it
films alone once more behind it, as others may use the machine too. Each attack is a process of
its own, which is ended when its time is over. A daemon that an attack has ended is started anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from artefacts import CoinferError, processes
from artefacts.owners import temporary_folder
from artefacts.processes import Children, module_command
from controller.link.addresses import join_address, split_address
from experiments.replay.testbed.link import wait_for_file
from experiments.robustness.attacks import camera
from experiments.robustness.attacks.case import Case, Target
from experiments.robustness.attacks.judging import (
    AttackReport,
    Outcome,
    confirmed,
    judged,
    with_more_losses,
)
from experiments.robustness.attacks.memory import PeakMemory

START_LIMIT_S = 60.0
OVERTIME_S = 1.0
"""After its time an attack is ended."""
SETTLING_S = 0.3
"""Between an attack and what the camera has of it: its last frames are answered or given up."""
LOOKED_AT_S = 0.8
RECOVERED_WITHIN_S = 3.0
"""What an attack has done is over then, or both daemons are started anew."""
STARTED_BEFORE = 1
"""Attackers that load while another one attacks."""
DEVICE = """format_version = 1
scenario = "{scenario}"
controller = "edge-only"
edges = ["{edge}", "{second}"]
state = "state.json"
[http]
port = 0
socket = "device.sock"
[grpc]
port = 0
[log]
level = "info"
"""
EDGE = """format_version = 1
models = ["alexnet"]
port = 0
metrics = "127.0.0.1:{metrics}"
[log]
level = "warning"
"""
READER = "reader"
"""File with the process id of what reads the device's log."""
PIPE_BYTES = 4096
SCENARIO = "3g-alexnet"


# -- processes -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Ground:
    """The daemons, the camera, and where they are."""

    edge: subprocess.Popen[Any]
    device: subprocess.Popen[Any]
    camera: subprocess.Popen[Any]
    http: tuple[str, int]
    edge_address: tuple[str, int]
    grpc: tuple[str, int]
    second: subprocess.Popen[Any]
    second_control: tuple[str, int]
    film: Path


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


class Range:
    """Starts what is attacked, inside `Children`, and starts anew what an attack has ended."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._folder, self._children, self._begun = folder, children, 0
        self.ground = self._begin()

    def _begin(self) -> Ground:
        self._begun += 1
        folder = self._folder / f"run{self._begun}"
        folder.mkdir()
        coinfer = module_command("coinfer.cli.entry")
        (folder / "edge.toml").write_text(EDGE.format(metrics=free_port()))
        edge = self._started(folder, [*coinfer, "edge", "--config", str(folder / "edge.toml"),
                                      "--port-file", str(folder / "port")], "edge")  # fmt: skip
        edge_address = ("127.0.0.1", int(wait_for_file(folder / "port", edge, START_LIMIT_S)))
        hostile = module_command("experiments.robustness.attacks.hostile_edge")
        second = self._started(folder, [*hostile, str(folder / "second")], "second")
        port, control = map(int, wait_for_file(folder / "second", second, START_LIMIT_S).split())
        text = DEVICE.format(
            scenario=SCENARIO,
            edge=join_address(*edge_address),
            second=join_address("127.0.0.1", port),
        )
        (folder / "device.toml").write_text(text)
        device = self._logging(
            folder,
            [*coinfer, "device", "--config", str(folder / "device.toml"),
             "--ready-file", str(folder / "ready")],
        )  # fmt: skip
        where = wait_for_file(folder / "ready", device, START_LIMIT_S).splitlines()
        http = split_address(where[0].removeprefix("http://"))
        grpc = split_address(where[-1].removeprefix("grpc://"))
        filming = module_command("experiments.robustness.attacks.camera")
        filmed = self._started(folder, [*filming, join_address(*http), str(folder / "film")], "c")
        return Ground(
            edge, device, filmed, http, edge_address, grpc, second, ("127.0.0.1", control),
            folder / "film",
        )  # fmt: skip

    def _started(self, folder: Path, command: list[str], name: str) -> subprocess.Popen[Any]:
        with open(folder / f"{name}.log", "wb") as log:
            return self._children.start(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )

    def _logging(self, folder: Path, command: list[str]) -> subprocess.Popen[Any]:
        """A daemon whose log another process reads, which an attack may stop (`READER`)."""
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with open(folder / "device.log", "wb") as log:
                reader = self._children.start(["cat"], stdin=reading, stdout=log)
            (folder / READER).write_text(str(reader.pid))
            return self._children.start(
                command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, cwd=folder
            )
        finally:
            os.close(reading)
            os.close(writing)

    def renew(self) -> None:
        """Start all of it anew where a daemon has ended, or does not recover."""
        ground = self.ground
        daemons = (ground.edge, ground.device)
        if all(d.poll() is None for d in daemons) and self._answers(RECOVERED_WITHIN_S):
            return
        processes.end([*daemons, ground.camera, ground.second], grace_s=1.0)
        self.ground = self._begin()
        self.wait_for_frames()

    def wait_for_frames(self) -> None:
        """Until the camera's frames are answered."""
        if not self._answers(START_LIMIT_S):
            raise CoinferError("attacks: the camera's frames are not answered with no attack")

    def recovers(self) -> bool:
        """Whether the camera's frames are answered again behind an attack, in time."""
        return self._answers(RECOVERED_WITHIN_S)

    def _answers(self, within_s: float) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            now = time.monotonic()
            if self.ground.film.exists():
                seen = camera.footage(self.ground.film, now - LOOKED_AT_S, now - SETTLING_S)
                if not seen.lost:
                    return True
            time.sleep(0.1)
        return False

    def target(self, seconds: float) -> Target:
        """What an attacker knows."""
        ground, folder = self.ground, self.ground.film.parent
        return Target(
            ground.http, ground.edge_address, ground.device.pid,
            ground.edge.pid, seconds, ground.second_control, ground.grpc,
            folder,
        )  # fmt: skip

    def film(self, begin_s: float) -> camera.Footage:
        """What the camera has from `begin_s` until now."""
        end_s = time.monotonic()
        time.sleep(SETTLING_S)
        return camera.footage(self.ground.film, begin_s, end_s)


class Attackers:
    """Processes that make an attack each, the next one loaded before the one before has ended."""

    def __init__(self, wanted: list[Case], folder: Path, children: Children) -> None:
        self._wanted, self._folder, self._children = list(wanted), folder, children
        self._loaded: dict[str, subprocess.Popen[Any]] = {}

    def of(self, case: Case) -> subprocess.Popen[Any]:
        """The attacker of a case, loaded: the next one, or one of a case that is made again."""
        while self._wanted and len(self._loaded) <= STARTED_BEFORE:
            ahead = self._wanted.pop(0)
            self._loaded[ahead.name] = self._load(ahead)
        process = self._loaded.pop(case.name, None) or self._load(case)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def _load(self, case: Case) -> subprocess.Popen[Any]:
        with open(self._folder / f"{case.name}.log", "wb") as log:
            return self._children.start(
                module_command("experiments.robustness.attacks.perform", case.name),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip


def attack(case: Case, attacker: subprocess.Popen[Any], ground: Range, target: Target) -> str:
    """Let a loaded attacker go; what went wrong with it or the daemons, or ''.

    `case` is made by the process `attacker` on `target`, whose daemons `ground` has.
    """
    assert attacker.stdin is not None
    with contextlib.suppress(OSError):  # it has ended already
        attacker.stdin.write(msgspec.json.encode(target, enc_hook=str) + b"\n")
        attacker.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        attacker.wait(target.seconds + OVERTIME_S)
    failed = attacker.returncode
    processes.end([attacker], grace_s=0.0)
    for who, process in (("device", ground.ground.device), ("edge", ground.ground.edge)):
        if process.poll() is not None:
            return f"the {who} has ended with {process.returncode}"
    return f"the attack could not be made (code {failed})" if failed else ""


def run_attacks(
    wanted: list[Case], seconds: float, alone_s: float, said: Callable[[Outcome], None]
) -> AttackReport:
    """All of `wanted`, for `seconds` each, behind `alone_s` of the camera alone.

    `said` is called with every outcome.
    """
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    with temporary_folder("attacks") as folder, Children() as children:
        ground = Range(folder, children)
        attackers = Attackers(wanted, folder, children)
        ground.wait_for_frames()
        since = time.monotonic()
        time.sleep(alone_s)
        alone = ground.film(since)
        for case in wanted:

            def made(lasting_s: float, case: Case = case) -> Outcome:
                attacker = attackers.of(case)
                ground.renew()
                return _one(case, attacker, ground, lasting_s, alone, folder)

            outcomes.append(confirmed(made, seconds, said))
            said(outcomes[-1])
    return AttackReport(len(alone.frames), alone.lost, tuple(outcomes), time.monotonic() - begun)


def _one(
    case: Case, attacker: subprocess.Popen[Any], ground: Range, seconds: float,
    alone: camera.Footage, folder: Path,
) -> Outcome:  # fmt: skip
    target = ground.target(seconds)
    with PeakMemory(target.device_pid) as device, PeakMemory(target.edge_pid) as edge:
        since = time.monotonic()
        ended = attack(case, attacker, ground, target)
        seen = ground.film(since)
    peaks = (device.bytes, edge.bytes)
    if ended.startswith("the attack"):
        last = (folder / f"{case.name}.log").read_text(errors="replace").strip().splitlines()
        ended += f": {last[-1][:200]}" if last else ""
    outcome = judged(case, seen, alone, peaks, ended)
    if seen.lost > outcome.allowed and ground.recovers():
        # the machine may have more to do than at the start: the camera alone once more
        since = time.monotonic()
        time.sleep(seconds)
        outcome = judged(case, seen, with_more_losses(alone, ground.film(since)), peaks, ended)
    return outcome
