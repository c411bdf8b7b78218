"""Run any command behind a link; nothing of either is left when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from artefacts import CoinferError, processes
from artefacts.endings import run_async, shielded
from controller.link.addresses import LINK_HOST
from experiments.replay.cell import enter
from experiments.replay.cell.carried import Carried, CellLink
from experiments.replay.cell.gateway import Gateway
from experiments.replay.cell.kernel import CellError
from experiments.replay.cell.orders import Report

HOST_VARIABLES = ("COINFER_LINK_HOST", "MAHIMAHI_BASE")
"""Hold the host's address for the command; the second is what mm-link's users look for."""
INTERRUPT_S, KEPT_S = 2.0, 10.0
"""After an interrupt the command has so long to end by itself; its keeper then ends it."""


class NoCommand(CoinferError):
    """The command cannot be run; the exit code is what shells say then."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def check_command(command: Sequence[str]) -> None:
    """Refuse a command that is not there, before anything is made for it."""
    name = command[0]
    if shutil.which(name) is None:
        if "/" in name and os.path.exists(name):
            raise NoCommand(f"COMMAND: found '{name}', expected a file that may be run", 126)
        raise NoCommand(f"COMMAND: found '{name}', expected a program on PATH, or its path", 127)


def run_behind(
    link: CellLink, command: Sequence[str], say: Callable[[Carried], None]
) -> tuple[int, Report | None]:
    """Run a command behind a link whose traces begin with it; its exit code (128 and the signal's
    number where one ended it) and what was carried. `say` is called once the link is there.
    """
    check_command(command)
    with Carried(link, host=True) as carried:
        say(carried)
        environment = dict(os.environ) | dict.fromkeys(HOST_VARIABLES, LINK_HOST)
        carried.begin(time.monotonic())
        enter.adopt()
        keeper = processes.start_in_terminal([*carried.inside(keep=True), *command], environment)
        try:
            run_async(_until_ended(carried, keeper))
        finally:
            _end(keeper)
            if keeper.returncode == -signal.SIGKILL:  # somebody has killed it: its orphans are ours
                enter.sweep(spared=carried.process.pid)
        code = int(keeper.returncode)
        code = 128 - code if code < 0 else code
        with contextlib.suppress(CellError):
            return code, carried.report()
        return code, None


async def _until_ended(carried: Carried, keeper: subprocess.Popen[Any]) -> None:
    """Serve until the command ends; an error where the carrier ends before it."""
    gateway = asyncio.create_task(Gateway(carried.said).run())
    ending = asyncio.create_task(_exited(keeper.pid))
    try:
        await asyncio.wait({gateway, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await gateway
            raise CellError("link: the process that carries its packets has ended")
    except asyncio.CancelledError:
        # keys at the terminal have reached the command too
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(ending), INTERRUPT_S)
        raise
    finally:
        gateway.cancel()
        ending.cancel()
        await asyncio.gather(gateway, ending, return_exceptions=True)


async def _exited(pid: int) -> None:
    """Wait for the end of a child, which is not asked for its code."""
    loop = asyncio.get_running_loop()
    handle = os.pidfd_open(pid)
    ended = loop.create_future()
    loop.add_reader(handle, ended.set_result, None)
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _end(keeper: subprocess.Popen[Any]) -> None:
    """End the keeper, which ends the command first."""
    with shielded():
        if keeper.poll() is None:
            keeper.send_signal(signal.SIGTERM)
        processes.end([keeper], grace_s=KEPT_S)
