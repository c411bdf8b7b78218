"""Ten devices, one edge, and everything that goes wrong between them: is any frame lost?

Real processes: `coinfer device --config` daemons, each behind a relay of its own that can fail, and
`coinfer edge`, which is killed, stopped and besieged. The wall clock of all of them jumps. As root
both ends live in namespaces, and the link between these goes down and loses its rate. Every frame
is asked over HTTP and must come back once, with the answer that its very picture has at the exit
it names. Run as

    python -m experiments.robustness.chaos --frames 10000

It prints one JSON object and ends with 1 where a frame was lost, doubled or answered with another's
result. How many were late is reported beside a device that has no edge, asked in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import CoinferError, processes
from artefacts.endings import run_async
from artefacts.owners import temporary_folder
from artefacts.processes import module_command
from controller.daemon.client import AsyncClient, DeviceError
from controller.policies import SHIPPED_GENERALIST
from controller.policies.generalist import load_generalist
from controller.policies.network import save_policy
from controller.scenarios import load_setting, read_scenario
from experiments.arguments import count
from experiments.replay.testbed.link import wait_for_file
from experiments.replay.testbed.namespaces import (
    NamespacePair,
    TestbedError,
    inside,
    missing_tools,
    remove_orphans,
    run,
)
from experiments.replay.testbed.shaping import TcShaper
from models.data.pictures import generated_pictures
from models.graphs.executors import OnnxExecutor

DEVICES = 10
RATE_FPS = 10.0
PICTURES = 200
CALM_S, FAULT_S = 3.0, 4.0
MOST_REASONS = 12
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
LINK_BPS = 50e6
JUMPS_S = (3600.0, -86400.0, 0.0)
"""Of the wall clock: an hour ahead, a day back, as it is."""
COMMAND = tuple(module_command("coinfer.cli.main"))
Mode = Literal["pass", "hole", "drop", "garbage", "trickle", "half-open"]
MODES: tuple[Mode, ...] = ("hole", "drop", "garbage", "trickle", "half-open")
KINDS = (*MODES, "edge killed", "edge stopped", "slow-loris", "some links down")
CLOCK_KIND = "clock jumps"
NAMESPACE_KINDS = ("link down", "no rate")
LEAST_ANSWERED = 0.95
ALL_KINDS_FRAMES = 10_000
"""From so many on every kind of fault must have occurred."""
START_LIMIT_S = 120.0
CLOSING_S, ENDED_WITHIN_S = 5.0, 30.0


class ChaosFigures(msgspec.Struct, frozen=True):
    """What came of all frames. `control_late_share`: of the device without an edge."""

    frames: int
    answered: int
    late: int
    refused: int
    lost: int
    doubled: int
    wrong: int
    by_edge: int
    late_share: float
    control_late_share: float
    faults: dict[str, int]
    reasons: dict[str, int]
    """Why frames had no answer, the most frequent first."""
    all_kinds: bool
    """Every fault that this machine can make has been made."""
    full_disk_told: bool
    """The device that can write no file has said so in its log."""
    left_out: dict[str, str]
    """Faults that this machine cannot make, and why."""
    seconds: float


class Relay:
    """Forwards one device's connections, until it is told to fail."""

    def __init__(self, target: int, rng: random.Random, host: str = "127.0.0.1") -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self._target, self._rng = (host, target), rng
        self._writers: set[asyncio.StreamWriter] = set()
        self._served: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, drop every connection and see them end."""
        self._server.close()
        self.set("drop")
        if self._served:
            await asyncio.wait(self._served, timeout=CLOSING_S)

    def set(self, mode: Mode) -> None:
        """Fail, or work again; a dropped connection is dropped at once."""
        self.mode = mode
        if mode == "drop":
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, near: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        if self.mode == "drop":
            up.transport.abort()
            return
        try:
            far, down = await asyncio.open_connection(*self._target)
        except OSError:
            up.transport.abort()
            return
        self._writers |= {up, down}
        try:
            await asyncio.gather(self._pump(near, down, False), self._pump(far, up, True))
        finally:
            for writer in (up, down):
                writer.transport.abort()
                self._writers.discard(writer)

    async def _pump(
        self, source: asyncio.StreamReader, into: asyncio.StreamWriter, replies: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                while self.mode == "hole" or (self.mode == "half-open" and replies):
                    await asyncio.sleep(0.05)
                if self.mode == "garbage" and replies:
                    data = self._rng.randbytes(len(data))
                if self.mode == "trickle":
                    await asyncio.sleep(len(data) / 2000.0)
                into.write(data)
                await into.drain()
        into.transport.abort()


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


class Truth:
    """What every picture's answer is at every exit, and what became of every frame."""

    def __init__(self, scenario: Path) -> None:
        setting = load_setting(read_scenario(str(scenario)))
        self.pictures = generated_pictures(PICTURES, np.random.default_rng(0))
        executor, x = OnnxExecutor(setting.model), setting.model.normalise(self.pictures)
        self._labels: list[npt.NDArray[np.int64]] = []
        self._sure: list[npt.NDArray[np.float64]] = []
        for exit_, layers in enumerate(setting.spec.branches):
            logits = executor.run(exit_, 0, len(layers), x).astype(np.float64)
            scaled = np.exp(
                (logits - logits.max(axis=1, keepdims=True)) / setting.model.temperatures[exit_]
            )
            self._labels.append(scaled.argmax(axis=1))
            self._sure.append(scaled.max(axis=1) / scaled.sum(axis=1))

    def fits(self, picture: int, exit_: int, label: int, confidence: float) -> bool:
        """Whether an answer is this picture's: its class, and its confidence to three digits."""
        known = self._labels[exit_ - 1][picture] == label
        return bool(known and abs(self._sure[exit_ - 1][picture] - confidence) < 1e-3)


async def _ask(
    client: AsyncClient,
    truth: Truth,
    picture: int,
    seen: Counter[str],
    why: Counter[str],
    edge_too: bool,
) -> None:
    """One frame: counted once, whatever comes of it."""
    who = "" if edge_too else "control "
    seen[who + "asked"] += 1
    try:
        found = await client.infer(truth.pictures[picture])
    except DeviceError as error:
        what = {504: "late", 503: "refused"}.get(error.status, "lost")
        seen[who + what] += 1
        why[f"{who}{what}: {error}"] += 1
        return
    except Exception as error:  # whatever happens to a request, its frame must be accounted for
        seen[who + "lost"] += 1
        print(f"lost: {type(error).__name__}: {error}", file=sys.stderr)
        return
    seen[who + "answered"] += 1
    seen[who + found.where] += 1
    if not truth.fits(picture, found.exit, found.label, found.confidence):
        seen[who + "wrong"] += 1
        print(f"wrong: picture {picture}: {found}", file=sys.stderr)


async def stream(
    address: str,
    truth: Truth,
    first: int,
    frames: int,
    seen: Counter[str],
    why: Counter[str],
    stop: asyncio.Event,
    edge_too: bool,
) -> None:
    """Frames at `RATE_FPS`, whether or not those before are answered, until `stop`."""
    async with AsyncClient(address) as client, asyncio.TaskGroup() as group:
        begun = time.monotonic()
        for frame in range(frames):
            if stop.is_set():
                break
            await asyncio.sleep(max(begun + frame / RATE_FPS - time.monotonic(), 0.0))
            picture = (first + frame) % PICTURES
            group.create_task(_ask(client, truth, picture, seen, why, edge_too))


class Ground:
    """What device and edge stand on: namespaces and a link between them, and a wall clock.

    As root the calling process is in the device's namespace while it is open.
    """

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.host, self.prefix = "127.0.0.1", tuple[str, ...]()
        self.kinds, self.left_out = (*KINDS, CLOCK_KIND), dict[str, str]()
        self._pair: NamespacePair | None = None
        try:
            self._lay_link(stack)
        except (TestbedError, OSError) as error:
            self.left_out |= dict.fromkeys(NAMESPACE_KINDS, str(error))
        self._clock = folder / "clock"
        self._clock.write_text("0")
        self.command = module_command("experiments.replay.testbed.wall_clock", str(self._clock))

    def _lay_link(self, stack: contextlib.ExitStack) -> None:
        lacking = missing_tools()
        if lacking:
            raise TestbedError(f"found no {' and no '.join(lacking)}")
        remove_orphans()
        pair = stack.enter_context(NamespacePair())
        self._shaper = TcShaper(pair.device, pair.device_interface)
        self._shaper.set_up(LINK_BPS, 0.0)
        stack.callback(self._shaper.close)
        stack.enter_context(inside(pair.device))
        self._pair = pair
        self.host, self.prefix = pair.edge_address, ("ip", "netns", "exec", pair.edge)
        self.kinds += NAMESPACE_KINDS

    async def fail(self, kind: str) -> None:
        """One of the faults that need the ground itself; over when it returns."""
        if kind == CLOCK_KIND:
            for jump_s in JUMPS_S:
                fresh = self._clock.with_suffix(".new")
                fresh.write_text(str(jump_s))
                fresh.rename(self._clock)
                await asyncio.sleep(FAULT_S / len(JUMPS_S))
            return
        assert self._pair is not None
        link = ["ip", "-n", self._pair.device, "link", "set", self._pair.device_interface]
        if kind == "link down":
            await asyncio.to_thread(run, [*link, "down"])
        else:
            self._shaper.change(0.0)
        await asyncio.sleep(FAULT_S)
        if kind == "link down":
            await asyncio.to_thread(run, [*link, "up"])
        else:
            self._shaper.change(LINK_BPS)


async def trouble(
    relays: list[Relay],
    edge: Edge,
    rng: random.Random,
    done: Counter[str],
    kinds: Sequence[str] = KINDS,
    ground: Ground | None = None,
) -> None:
    """One fault after the other, with calm between, until cancelled."""
    while True:
        for kind in rng.sample(kinds, len(kinds)):
            await asyncio.sleep(CALM_S * (0.5 + rng.random()))
            done[kind] += 1
            if ground is not None and kind in (*NAMESPACE_KINDS, CLOCK_KIND):
                await ground.fail(kind)
            else:
                await _fault(kind, relays, edge, rng)


async def _fault(kind: str, relays: list[Relay], edge: Edge, rng: random.Random) -> None:
    if kind == "edge killed":
        edge.kill()
        await asyncio.sleep(FAULT_S / 2)
        edge.start()
    elif kind == "edge stopped":
        edge.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(FAULT_S)
        edge.process.send_signal(signal.SIGCONT)
    elif kind == "slow-loris":
        async with _besieged(edge):
            await asyncio.sleep(FAULT_S)
    else:
        chosen = (
            rng.sample(relays, max(2 * len(relays) // 5, 1))
            if kind == "some links down"
            else relays
        )
        mode: Mode = "drop" if kind == "some links down" else kind  # type: ignore[assignment]
        for relay in chosen:
            relay.set(mode)
        # five seconds of black hole, as on a train
        await asyncio.sleep(FAULT_S + (1.0 if kind == "hole" else 0.0))
        for relay in chosen:
            relay.set("pass")


@contextlib.asynccontextmanager
async def _besieged(edge: Edge) -> AsyncIterator[None]:
    """Fifty connections that send a byte of a greeting every half second."""
    writers = []
    for _ in range(50):
        with contextlib.suppress(OSError):
            writers.append((await asyncio.open_connection(edge.host, edge.port))[1])

    async def drip() -> None:
        for byte in b"CNFR" * 8:
            for writer in writers:
                with contextlib.suppress(OSError):
                    writer.write(bytes([byte]))
            await asyncio.sleep(0.5)

    task = asyncio.create_task(drip())
    try:
        yield
    finally:
        task.cancel()
        for writer in writers:
            writer.transport.abort()


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


async def _log_of(path: Path) -> str:
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


def stopped_by_user() -> asyncio.Event:
    """Set at Ctrl-C: what was seen until then is still reported."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    return stop


def finish(tasks: list[asyncio.Task[None]]) -> None:
    """End what goes on for ever; one that has ended by itself has failed, and nothing was shown."""
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


async def unaccounted(addresses: list[str]) -> int:
    """Frames that the daemons took and did not end exactly once."""
    found = 0
    for address in addresses:
        async with AsyncClient(address) as client:
            state = await client.state()
        found += abs(state["answered"] + state["late"] - state["frames"])
    return found


def prepared(folder: Path) -> Truth:
    """The scenario and its policy (of the shipped generalist) in a folder; what is right there."""
    path = folder / "chaos.toml"
    path.write_text(SCENARIO)
    setting = load_setting(read_scenario(path))
    (folder / "policy").mkdir()
    save_policy(folder / "policy", load_generalist(SHIPPED_GENERALIST).adapted(setting))
    return Truth(path)


async def run_chaos(frames: int, seed: int) -> ChaosFigures:
    """All of it; `frames` over all devices, the one without an edge aside."""
    rng, faults = random.Random(seed), Counter[str]()
    seen, why, stop = Counter[str](), Counter[str](), stopped_by_user()
    each = -(-frames // DEVICES)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("chaos"))
        truth, ground = prepared(folder), Ground(stack, folder)
        edge = Edge(ground.host, ground.prefix, ground.command)
        stack.callback(edge.kill)
        relays = [Relay(edge.port, random.Random(seed + k), edge.host) for k in range(DEVICES)]
        for relay in relays:
            await relay.start()
        async with running(folder, relays, edge, control=True, command=ground.command) as devices:
            addresses = [address for _, address in devices]
            begun = time.monotonic()
            faulty = asyncio.create_task(trouble(relays, edge, rng, faults, ground.kinds, ground))
            streams: list[Awaitable[None]] = [
                stream(address, truth, 7 * k, each, seen, why, stop, k < DEVICES)
                for k, address in enumerate(addresses)
            ]
            await asyncio.gather(*streams)
            finish([faulty])
            doubled = await unaccounted(addresses)
            seconds = time.monotonic() - begun
        told = "counters not saved" in await _log_of(folder / "log0")
    asked = seen["asked"]
    return ChaosFigures(
        asked, seen["answered"], seen["late"], seen["refused"],
        seen["lost"] + seen["control lost"],
        doubled, seen["wrong"] + seen["control wrong"], seen["edge"],
        seen["late"] / max(asked, 1), seen["control late"] / max(seen["control asked"], 1),
        dict(faults), dict(why.most_common(MOST_REASONS)), set(ground.kinds) <= set(faults), told,
        ground.left_out, seconds,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """The command; 0 where no frame was lost, doubled or answered with another's result, and most
    were answered, some of them by the edge.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--frames",
        type=count,
        default=10_000,
        help=f"over all ten devices; from {ALL_KINDS_FRAMES:,} on every fault must have been made",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        found = run_async(run_chaos(args.frames, args.seed))
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    plain: dict[str, Any] = msgspec.to_builtins(found)
    print(json.dumps(plain, indent=1))
    few = found.answered < LEAST_ANSWERED * found.frames or not found.by_edge
    unmade = args.frames >= ALL_KINDS_FRAMES and not (found.all_kinds and found.full_disk_told)
    return int(bool(found.lost or found.doubled or found.wrong or few or unmade))


if __name__ == "__main__":
    sys.exit(main())
