"""`coinfer device --config device.toml`: the device daemon, from start to its last frame."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from artefacts import usable_cpus
from artefacts.endings import hung_up, raise_if_ended
from controller.daemon.building import build_engine, load_served
from controller.daemon.configuration.device_reloading import PreparedDevice, prepare_device
from controller.daemon.configuration.reloading import ConfigFile, Preparing, TwinReloads
from controller.daemon.configuration.settings import (
    RELOADED,
    DeviceSettings,
    changed,
    naming,
    read_settings,
    readable_secrets,
)
from controller.daemon.http.stamps import stamping_loop
from controller.daemon.inference.served import ServedModel
from controller.daemon.lifetime import Lifetime
from controller.daemon.monitoring.frames import DeviceObserver
from controller.daemon.monitoring.log import set_up_log
from controller.daemon.monitoring.systemd import notify, notify_reloading
from controller.daemon.monitoring.watching import keep_watchdog, report_edges, report_policy
from controller.daemon.service import FrameService
from controller.daemon.serving import LocalService

log = logging.getLogger("coinfer.device")
DRAIN_S = 10.0
WATCH_S = 2.0
"""How often the configuration file is looked at."""
SAVE_S = 60.0
SPARE_THREADS = 4
"""Beside one a processor, for what only waits: for the disk, and for the last frames."""


class Daemon:
    """A device that answers until it is ended by a signal."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._file = ConfigFile(path)  # what changes from here on is taken over by the watch
        self.settings = read_settings(path)
        self._log = set_up_log(self.settings.log)
        for line in readable_secrets(self.settings.tls):
            log.warning("%s", line)
        with naming(path):
            self._make(version)

    def _make(self, version: str) -> None:
        """Everything that the settings name."""
        settings = self.settings
        self._setting = load_served(settings)
        self.engine = build_engine(settings, self._path, self._setting)
        self._observer = DeviceObserver(self.engine, settings.tracing, settings.tls, self._setting)
        self.service = FrameService(self.engine, settings.limits.live_frames)
        classes = self._setting.model.card.classes
        self.served = ServedModel(self.service, settings.limits, version, classes)
        self.served.warm()
        self._local = LocalService(
            self.served, self._observer.metrics, settings.http, settings.grpc
        )
        self._lifetime = Lifetime(settings.state)

    # -- running ---------------------------------------------------------------------------------

    def run(self, ready: Callable[[list[str]], None] = lambda where: None) -> None:
        """Serve until SIGTERM or SIGINT; `ready` hears where."""
        try:
            self._lifetime.sweep()
            self._save()  # a place that cannot be written is noticed at once
            self._observer.records.change(self.settings.records)
            with naming(self._path), asyncio.Runner(loop_factory=stamping_loop) as runner:
                runner.run(self._serve(ready))
        finally:
            self.service.close()
            self._observer.close()
            self._save()
            self._local.remove_socket()

    async def _serve(self, ready: Callable[[list[str]], None]) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        raise_if_ended()  # of one that came before, and was lost in a library
        self._twins = TwinReloads()
        self._preparing = Preparing(
            partial(prepare_device, self._path, self._setting),
            lambda found: loop.call_soon_threadsafe(self._take_over, found),
        )
        # asyncio's own choice follows the machine's processors, not those that we may use
        threads = ThreadPoolExecutor(usable_cpus() + SPARE_THREADS)
        loop.set_default_executor(threads)
        self.service.heartbeat.add("threads", lambda back: _begin(threads, back))
        self.service.start()
        async with self._local.serving() as where:
            await self._serve_until(stop, where, ready)

    async def _serve_until(
        self, stop: asyncio.Event, where: list[str], ready: Callable[[list[str]], None]
    ) -> None:
        for place in where:
            log.info("listening on %s", place)
        ready(where)
        notify("READY=1")
        loop = asyncio.get_running_loop()
        # not the loop's handler: it would leave the default behind, which ends the last savings
        signal.signal(signal.SIGHUP, lambda number, frame: self._hung_up(loop))
        if hung_up():
            self.reload()
        work = [self._watch(), self._keep(), keep_watchdog(self.engine, self._hung), self._tell()]
        handed_over, frames = self._observer.metrics.handed_over, lambda: self.service.counts.frames
        work.append(report_policy(self.engine, handed_over, frames))
        if self.settings.edges:
            work.append(report_edges(self.engine))
        tasks = [asyncio.create_task(t) for t in work]
        await stop.wait()
        log.info("stopping: %d frames under way", len(self.engine.live))
        notify("STOPPING=1")
        self.served.stopping = True
        await asyncio.to_thread(self.service.drain, DRAIN_S)
        self._save()
        for task in tasks:
            task.cancel()

    async def _tell(self) -> None:
        """Say how many lines were left out of the log."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._log.tell()

    def _hung(self) -> tuple[str, ...]:
        """The threads and pools that do not do what they are given."""
        return self.service.heartbeat.hung + (() if self.served.work.alive else ("decoding",))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await asyncio.to_thread(self._save)

    def _save(self) -> None:
        self._lifetime.save(self.service.counts.frames, self.service.counts.late)

    # -- reloading -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if self._file.changed:
                self.reload(by_signal=False)
            if (hung := self._preparing.hung()) is not None:
                self._take_over(hung)

    def _hung_up(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self.reload)

    def reload(self, *, by_signal: bool = True) -> None:
        """Take over what may change while frames are under way; a mistake changes nothing."""
        notify_reloading()
        self._twins.asked(by_signal=by_signal)
        self._file.seen()  # a signal and a change of the file are one reload
        self._preparing.ask()

    def _take_over(self, found: PreparedDevice | str) -> None:
        """On the loop's thread: what was prepared, or why it could not be."""
        if isinstance(found, PreparedDevice):
            self._replace(found)
        elif not self._twins.repeats((found,)):
            log.error("not reloaded: %s", found)
        notify("READY=1")

    def _replace(self, prepared: PreparedDevice) -> None:
        found, controller = prepared.settings, prepared.controller
        names = (name for name in DeviceSettings.__struct_fields__ if name not in RELOADED)
        fixed = changed(self.settings, found, names)
        quiet = self._twins.repeats((*fixed, controller.name))
        if fixed and not quiet:
            log.warning("a restart is needed for %s; the rest is taken over", ", ".join(fixed))
        self._log = set_up_log(found.log)
        self._observer.records.change(found.records)
        if self.engine.watch.monitor is not None:
            self.engine.watch.monitor.probes = found.probes
        self.service.live_frames = found.limits.live_frames
        self.served.limits = found.limits
        self.service.replace_controller(controller)
        self.settings = msgspec.structs.replace(
            self.settings, **{name: getattr(found, name) for name in RELOADED}
        )
        if not quiet:
            log.info("reloaded: controller %s", controller.name)


def _begin(threads: ThreadPoolExecutor, call: Callable[[], None]) -> None:
    threads.submit(call)
