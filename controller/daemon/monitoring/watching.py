"""What a daemon says while it runs: which edge serves, who decides, that it is alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from controller.daemon.monitoring.guarding import HandedOver
from controller.daemon.monitoring.systemd import notify, watchdog_interval_s
from controller.device.engine import FrameEngine

log = logging.getLogger("coinfer.device")
REPORT_S = 0.5
LOOK_S = 5.0
"""How often the frames are counted that a policy left to the robust planner."""


async def report_edges(engine: FrameEngine) -> None:
    """Say which edge serves, when none does and why, and when frames are kept here; for ever."""
    said: tuple[bool, str | None] | None = None
    kept = False
    while True:
        link, admission = engine.link, engine.admission
        now = (link.connected, link.address if link.connected else link.last_error)
        if now[0] and now != said:
            log.info("edge %s serves", now[1])
        elif now != said and now[1] is not None:
            log.warning("no edge: %s", now[1])
        said = now
        if admission.open != kept:
            kept = admission.open
            what = "frames are kept on the device: nothing comes back" if kept else "it answers"
            log.log(logging.WARNING if kept else logging.INFO, "edge %s: %s", now[1], what)
        await asyncio.sleep(REPORT_S)


async def report_policy(
    engine: FrameEngine, handed_over: HandedOver, frames: Callable[[], int]
) -> None:
    """Say where a policy leaves most frames to the robust planner; for ever.

    `frames` gives how many came since the start.
    """
    seen, left = 0, 0.0
    while True:
        came, controller = frames(), engine.controller
        if came != seen:  # another package's controller is not asked for nothing
            seen, left = came, float(getattr(controller, "fallbacks", 0))
        line = handed_over.look(controller.name, engine.clock(), came, left)
        if line is not None:
            log.warning("%s", line)
        await asyncio.sleep(LOOK_S)


async def keep_watchdog(engine: FrameEngine, hung: Callable[[], tuple[str, ...]]) -> None:
    """Notify systemd's watchdog while everything works that answers depend on; for ever.

    `hung` names the threads and pools that do not do what they are given.
    """
    every, loop = watchdog_interval_s(), asyncio.get_running_loop()
    answered = asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(answered.set)

    while every is not None:
        answered.clear()
        engine.post(tell)
        await answered.wait()  # an engine that hangs lets systemd restart us
        said: tuple[str, ...] = ()
        while found := hung():  # so does whatever else answers depend on
            if found != said:
                log.error("%s: nothing comes back, no WATCHDOG=1 is sent", ", ".join(found))
            said = found
            await asyncio.sleep(REPORT_S)
        notify("WATCHDOG=1")
        await asyncio.sleep(every)
