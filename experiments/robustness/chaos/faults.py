"""What goes wrong: one fault after the other, and the ground on which both ends stand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from artefacts.processes import module_command
from experiments.replay.testbed.namespaces import (
    NamespacePair,
    TestbedError,
    inside,
    missing_tools,
    remove_orphans,
    run,
)
from experiments.replay.testbed.shaping import TcShaper
from experiments.robustness.chaos.machines import Edge
from experiments.robustness.chaos.relays import MODES, Mode, Relay

CALM_S, FAULT_S = 3.0, 4.0
LINK_BPS = 50e6
JUMPS_S = (3600.0, -86400.0, 0.0)
"""Of the wall clock: an hour ahead, a day back, as it is."""
KINDS = (*MODES, "edge killed", "edge stopped", "slow-loris", "some links down")
CLOCK_KIND = "clock jumps"
NAMESPACE_KINDS = ("link down", "no rate")


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
        self.command = module_command(
            "experiments.replay.testbed.wall_clock", str(self._clock), "coinfer.cli.entry"
        )

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
