"""One run: everything started, every frame accounted for, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable

import msgspec

from artefacts.owners import temporary_folder
from experiments.robustness.chaos.faults import Ground, trouble
from experiments.robustness.chaos.frames import stream, unaccounted
from experiments.robustness.chaos.machines import Edge, log_of, prepared, running
from experiments.robustness.chaos.relays import Relay

DEVICES = 10
MOST_REASONS = 12


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
    full_disk_reported: bool
    """The device that can write no file has said so in its log."""
    left_out: dict[str, str]
    """Faults that this machine cannot make, and why."""
    seconds: float


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
        logged = "counters not saved" in await log_of(folder / "log0")
    asked = seen["asked"]
    return ChaosFigures(
        asked, seen["answered"], seen["late"], seen["refused"],
        seen["lost"] + seen["control lost"],
        doubled, seen["wrong"] + seen["control wrong"], seen["edge"],
        seen["late"] / max(asked, 1), seen["control late"] / max(seen["control asked"], 1),
        dict(faults), dict(why.most_common(MOST_REASONS)), set(ground.kinds) <= set(faults), logged,
        ground.left_out, seconds,
    )  # fmt: skip
