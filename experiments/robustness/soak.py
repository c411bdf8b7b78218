"""Hours of trace replay with random faults: does a device's or the edge's memory grow?

    python -m experiments.robustness.soak --minutes 60

Two device daemons ask at 10 frames/s over a link that follows a trace (a test log of Norway, or a
file), behind relays that fail as in `experiments.robustness.chaos`; the edge is stopped and
besieged too. Resident memory, descriptors and threads of every process are sampled; the slope is
fitted behind the first fifth.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from artefacts import CoinferError
from artefacts.endings import run_async
from artefacts.owners import temporary_folder
from experiments.arguments import LineParser, above_0
from experiments.replay.testbed.relay import Relay as TraceRelay
from experiments.robustness.chaos.faults import KINDS as ALL_KINDS
from experiments.robustness.chaos.faults import trouble
from experiments.robustness.chaos.frames import RATE_FPS, stream, unaccounted
from experiments.robustness.chaos.machines import Edge, prepared, running
from experiments.robustness.chaos.relays import Relay
from experiments.robustness.chaos.run import finish, stopped_by_user
from traces.formats import read_trace
from traces.library import load_split
from traces.trace import BandwidthTrace

DEVICES = 2
SAMPLE_S = 5.0
SAID_EVERY = 36
"""Samples between two lines of progress."""
WARMING = 0.2
MOST_MIB_PER_HOUR, MOST_GROWN_MIB = 8.0, 4.0
SPARE_DESCRIPTORS, SPARE_THREADS = 8, 3
"""A connection that is being made or ended when the last sample is taken."""
LEAST_BY_EDGE = 0.05
KINDS = tuple(k for k in ALL_KINDS if k != "edge killed")
"""An edge that is killed begins anew, and its memory with it."""
RTT_S = 0.03


class Growth(msgspec.Struct, frozen=True):
    """One process: first and last resident MiB, the slope, and descriptors and threads."""

    first_mib: float
    last_mib: float
    slope_mib_per_hour: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]


class SoakFigures(msgspec.Struct, frozen=True):
    """What came of all frames, and how the processes grew."""

    minutes: float
    frames: int
    answered: int
    late: int
    refused: int
    lost: int
    doubled: int
    wrong: int
    by_edge: int
    faults: dict[str, int]
    growth: dict[str, Growth]


def sample(pid: int) -> tuple[float, int, int] | None:
    """Resident MiB, open descriptors and threads of a process; None where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        resident = int(fields["VmRSS"].split()[0]) / 1024
        return resident, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(fields["Threads"])
    except (OSError, KeyError):
        return None


def growth(samples: list[tuple[float, float, int, int]]) -> Growth:
    """Of (seconds, MiB, descriptors, threads) in order."""
    kept = samples[int(WARMING * len(samples)) :] or samples
    at = np.array([s[0] for s in kept])
    resident = np.array([s[1] for s in kept])
    slope = 0.0
    if len(kept) > 2:
        off = at - at.mean()
        slope = float(off @ (resident - resident.mean()) / (off @ off)) * 3600.0
    return Growth(
        kept[0][1], kept[-1][1], slope, (kept[0][2], kept[-1][2]), (kept[0][3], kept[-1][3])
    )


async def run_soak(minutes: float, seed: int, trace: BandwidthTrace) -> SoakFigures:
    """All of it; the trace begins anew where it ends."""
    rng, faults = random.Random(seed), Counter[str]()
    seen, why, stop = Counter[str](), Counter[str](), stopped_by_user()
    frames = round(minutes * 60.0 * RATE_FPS)
    samples: dict[str, list[tuple[float, float, int, int]]] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("soak"))
        truth, edge = prepared(folder), Edge()
        stack.callback(edge.kill)
        shaped = [TraceRelay(("127.0.0.1", edge.port), trace, RTT_S) for _ in range(DEVICES)]
        relays = [Relay(s.port, random.Random(seed + k)) for k, s in enumerate(shaped)]
        for relay in relays:
            await relay.start()
        async with running(folder, relays, edge, control=False) as devices:
            begun = time.monotonic()
            for one in shaped:
                one.start_at(begun)
            pids = [process.pid for process, _ in devices]
            tasks = [
                asyncio.create_task(trouble(relays, edge, rng, faults, KINDS)),
                asyncio.create_task(_sample(begun, pids, edge, samples)),
                asyncio.create_task(_again(shaped, trace.duration_s)),
            ]
            await asyncio.gather(
                *(stream(address, truth, 7 * k, frames, seen, why, stop, True)
                  for k, (_, address) in enumerate(devices))
            )  # fmt: skip
            finish(tasks)
            minutes = (time.monotonic() - begun) / 60.0
            doubled = await unaccounted([address for _, address in devices])
        for one in shaped:
            one.close()
    return SoakFigures(
        minutes, seen["asked"], seen["answered"], seen["late"], seen["refused"], seen["lost"],
        doubled, seen["wrong"], seen["edge"], dict(faults),
        {name: growth(found) for name, found in sorted(samples.items()) if found},
    )  # fmt: skip


async def _sample(
    begun: float,
    pids: list[int],
    edge: Edge,
    samples: dict[str, list[tuple[float, float, int, int]]],
) -> None:
    named = [*((f"device {k}", pid) for k, pid in enumerate(pids)), ("edge", edge.process.pid)]
    while True:
        now = time.monotonic() - begun
        for name, pid in named:
            found = sample(pid)
            if found is not None:
                samples.setdefault(name, []).append((now, *found))
        count = max(map(len, samples.values()), default=0)
        if count and count % SAID_EVERY == 0:
            held = ", ".join(f"{name} {rows[-1][1]:.1f} MiB" for name, rows in samples.items())
            print(f"{now / 60:.0f} min: {held}", file=sys.stderr)
        await asyncio.sleep(SAMPLE_S)


async def _again(shaped: list[TraceRelay], duration_s: float) -> None:
    while True:
        await asyncio.sleep(duration_s)
        for one in shaped:
            one.start_at(time.monotonic())


def main(argv: list[str] | None = None) -> int:
    """The command; 0 where no frame was lost, doubled or answered with another's result."""
    parser = LineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=above_0, default=60.0)
    parser.add_argument("--trace", type=Path, help="a file of any known format")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        trace = read_trace(args.trace) if args.trace else load_split("norway", "test").traces[0]
        found = run_async(run_soak(args.minutes, args.seed, trace))
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    plain: dict[str, Any] = msgspec.to_builtins(found)
    print(json.dumps(plain, indent=1))
    return int(_failed(found))


def _failed(found: SoakFigures) -> bool:
    """Lost frames, a link that nobody used, or something that grew."""
    leaks = any(
        (g.slope_mib_per_hour > MOST_MIB_PER_HOUR and g.last_mib - g.first_mib > MOST_GROWN_MIB)
        or g.descriptors[1] > g.descriptors[0] + SPARE_DESCRIPTORS
        or g.threads[1] > g.threads[0] + SPARE_THREADS
        for g in found.growth.values()
    )
    unused = found.by_edge < LEAST_BY_EDGE * found.frames
    return bool(found.lost or found.doubled or found.wrong or leaks or unused)


if __name__ == "__main__":
    sys.exit(main())
