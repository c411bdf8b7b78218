"""`coinfer device --config device.toml`: the device daemon, from start to its last frame."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
from aiohttp import web

from artefacts import CoinferError, UsageError, read_json, usable_cpus, write_json
from artefacts.endings import raise_if_ended
from artefacts.leftovers import sweep_parts
from controller.daemon.choosing import make_controller
from controller.daemon.connections import ConnectionTable
from controller.daemon.http import LocalInterface
from controller.daemon.listening import HttpListener
from controller.daemon.log import set_up_log
from controller.daemon.metrics import DeviceMetrics
from controller.daemon.reloading import Prepared, Preparing, prepare
from controller.daemon.served import ServedModel
from controller.daemon.service import FrameService
from controller.daemon.settings import (
    RELOADED,
    DeviceSettings,
    GrpcSettings,
    naming,
    parse_edge,
    read_settings,
    readable_secrets,
)
from controller.daemon.stamps import stamping_loop
from controller.daemon.systemd import notify, notify_reloading, watchdog_interval_s
from controller.daemon.tracing import DeviceTracing, make_provider
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs, FrameRecord
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.device.warming import warm
from controller.link.accepting import raise_descriptor_limit
from controller.link.edge_link import EdgeLink
from controller.link.interface import Link, NoLink, Reply
from controller.link.pool import LinkPool
from controller.link.secure import client_security
from controller.scenarios import load_setting, read_scenario
from models.graphs.executors import make_executor

log = logging.getLogger("coinfer.device")
DRAIN_S = 10.0
HANG_UP_S = 2.0
"""What a client that has sent half a request may take, once all frames are answered."""
REPORT_S = 0.5
WATCH_S = 2.0
"""How often the configuration file is looked at."""
SAVE_S = 60.0
STATE_VERSION = 1
SPARE_THREADS = 4
"""Beside one a processor, for what only waits: for the disk, and for the last frames."""


class LifetimeCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state`: what was counted over all runs of a daemon."""

    format_version: int = STATE_VERSION
    starts: int = 0
    """Of the daemon."""
    frames: int = 0
    """That came."""
    late: int = 0
    """That were not answered in time."""


def _give_back() -> None:
    """Return to the system what loading has left behind (glibc keeps it otherwise)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _begin(threads: ThreadPoolExecutor, call: Callable[[], None]) -> None:
    threads.submit(call)


class Daemon:
    """A device that answers until it is told to stop."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._seen = self._stamp()  # what changes from here on is taken over by the watch
        self.settings = read_settings(path)
        self._log = set_up_log(self.settings.log)
        for line in readable_secrets(self.settings.tls):
            log.warning("%s", line)
        raise_descriptor_limit()
        with naming(path):
            self._make(version)

    def _make(self, version: str) -> None:
        """Everything that the settings name."""
        setting = load_setting(read_scenario(self.settings.scenario))
        if setting.closed_loop:
            raise UsageError(
                f"scenario '{setting.scenario.name}': found a closed loop, expected a frame stream"
            )
        if not setting.scenario.plans.anytime:
            raise UsageError(
                f"scenario '{setting.scenario.name}', plans.anytime: found false, expected true "
                "(a daemon always answers in time where it can)"
            )
        self._setting = setting
        controller = make_controller(self.settings, setting)
        cuts = {hop.start for p in setting.table.plans for hop in p.hops}
        seams = cuts | {e.after for e in setting.spec.exits}
        executor = make_executor(
            self.settings.executor, setting.model, setting.device.threads, seams
        )
        link = self._link()
        frames = setting.scenario.frames
        args = EngineArgs(
            frames.deadline_s,
            rescue_margin_s=setting.timing.rescue_margin_s,
            rtt_s=setting.scenario.link.rtt_s,
        )
        self.engine = FrameEngine(
            setting.model, executor, setting.device, setting.table, controller, link, args,
            on_record=self._told,
        )  # fmt: skip
        self.engine.guard(self.settings.probes, random.Random())
        self._tracing: DeviceTracing | None = None
        if self.settings.tracing.endpoint:
            provider = make_provider("coinfer-device", self.settings.tracing)
            self._tracing = DeviceTracing(provider, self.engine.clock)
            self.engine.on_begun = self._tracing.begun
        warm(setting, executor)
        setting.model.release()
        _give_back()
        self.service = FrameService(self.engine, self.settings.limits.live_frames)
        self.metrics = DeviceMetrics(self.engine, lambda: len(self.engine.live))
        self.served = ServedModel(
            self.service, self.settings.limits, version, setting.model.card.classes
        )
        http = self.settings.http
        self.interface = LocalInterface(self.served, self.metrics, (http.host, *http.hosts))
        table = ConnectionTable(lambda: self.served.limits, log)
        self.listener = HttpListener(self.settings.http, table)
        self._before = self._lifetime()
        self._saved: LifetimeCounts | None = None

    def _link(self) -> Link:
        edges = [
            parse_edge(text, self._path, f"edges[{k}]")
            for k, text in enumerate(self.settings.edges)
        ]
        if not edges:
            return NoLink()
        setting = self._setting
        security = client_security(self.settings.tls) if self.settings.tls.given else None
        intervals = asked_intervals(setting.table)

        def make(address: tuple[str, int], told: Callable[[Reply], None]) -> Link:
            return EdgeLink(
                *address,
                setting.model.digest,
                told,
                intervals=intervals,
                security=security,
                seed=None,
                reply_bytes=most_reply_bytes(setting.table),
            )

        return LinkPool([partial(make, address) for address in edges], self._on_reply)

    def _on_reply(self, reply: Reply) -> None:
        # a link may be heard before the engine that asked for it is made
        engine = getattr(self, "engine", None)
        if engine is not None:
            engine.on_reply(reply)

    def _told(self, record: FrameRecord) -> None:
        self.metrics.told(record)
        if self._tracing is not None:
            self._tracing.ended(record, self.engine.begin_s)
        if record.latency_s is None:
            log.info("frame %d: no answer in time (%s)", record.frame, record.error or "late")

    # -- running ---------------------------------------------------------------------------------

    def run(self, ready: Callable[[list[str]], None] = lambda where: None) -> None:
        """Serve until SIGTERM or SIGINT; `ready` hears where."""
        try:
            if self.settings.state:
                sweep_parts(Path(self.settings.state).parent)
            self._save()  # a place that cannot be written is told of now
            with naming(self._path), asyncio.Runner(loop_factory=stamping_loop) as runner:
                runner.run(self._serve(ready))
        finally:
            self.service.close()
            if self._tracing is not None:
                self._tracing.close()
            self._save()
            self.listener.remove_socket()

    async def _serve(self, ready: Callable[[list[str]], None]) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        raise_if_ended()  # of one that came before, and was lost in a library
        self._preparing = Preparing(
            partial(prepare, self._path, self._setting),
            lambda found: loop.call_soon_threadsafe(self._take_over, found),
        )
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        # asyncio's own choice follows the machine's processors, not those that we may use
        threads = ThreadPoolExecutor(usable_cpus() + SPARE_THREADS)
        loop.set_default_executor(threads)
        self.service.heartbeat.add("threads", lambda back: _begin(threads, back))
        self.service.start()
        runner = web.AppRunner(
            self.interface.application(), access_log=None, shutdown_timeout=HANG_UP_S,
            handler_cancellation=True,  # whoever has gone holds no place among the work
        )  # fmt: skip
        await runner.setup()
        try:
            async with contextlib.AsyncExitStack() as doors:
                where = await doors.enter_async_context(self.listener.serving(runner))
                if self.settings.grpc is not None:
                    where.append(await doors.enter_async_context(self._grpc(self.settings.grpc)))
                await self._serve_until(stop, where, ready)
        finally:
            await runner.cleanup()

    def _grpc(self, settings: GrpcSettings) -> contextlib.AbstractAsyncContextManager[str]:
        """The same over gRPC; a daemon without it never loads the library."""
        from controller.daemon.grpc_service import GrpcInterface

        return GrpcInterface(self.served, settings).serving()

    async def _serve_until(
        self, stop: asyncio.Event, where: list[str], ready: Callable[[list[str]], None]
    ) -> None:
        for place in where:
            log.info("listening on %s", place)
        ready(where)
        notify("READY=1")
        tasks = [
            asyncio.create_task(t)
            for t in (self._watch(), self._keep(), self._alive(), self._report(), self._tell())
        ]
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

    async def _report(self) -> None:
        """Say which edge serves, when none does and why, and when frames are kept here."""
        said: tuple[bool, str | None] | None = None
        kept = False
        while self.settings.edges:
            link, admission = self.engine.link, self.engine.admission
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

    async def _alive(self) -> None:
        every, loop = watchdog_interval_s(), asyncio.get_running_loop()
        answered = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(answered.set)

        while every is not None:
            answered.clear()
            self.engine.post(tell)
            await answered.wait()  # an engine that hangs lets systemd restart us
            said: tuple[str, ...] = ()
            while hung := self._hung():  # so does whatever else answers depend on
                if hung != said:
                    log.error("%s: nothing comes back, no WATCHDOG=1 is sent", ", ".join(hung))
                said = hung
                await asyncio.sleep(REPORT_S)
            notify("WATCHDOG=1")
            await asyncio.sleep(every)

    def _hung(self) -> tuple[str, ...]:
        """The threads and pools that do not do what they are given."""
        return self.service.heartbeat.hung + (() if self.served.work.alive else ("decoding",))

    # -- reloading -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now = self._stamp()
            if now != self._seen and now is not None:
                self.reload()
            if (hung := self._preparing.hung()) is not None:
                self._take_over(hung)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def reload(self) -> None:
        """Take over what may change while frames are under way; a mistake changes nothing."""
        notify_reloading()
        self._seen = self._stamp()  # a signal and a change of the file are one reload
        self._preparing.ask()

    def _take_over(self, found: Prepared | str) -> None:
        """On the loop's thread: what was prepared, or why it could not be."""
        if isinstance(found, Prepared):
            self._replace(found)
        else:
            log.error("not reloaded: %s", found)
        notify("READY=1")

    def _replace(self, prepared: Prepared) -> None:
        found, controller = prepared.settings, prepared.controller
        fixed = [
            name
            for name in DeviceSettings.__struct_fields__
            if name not in RELOADED and getattr(found, name) != getattr(self.settings, name)
        ]
        if fixed:
            log.warning("a restart is needed for %s; the rest is taken over", ", ".join(fixed))
        self._log = set_up_log(found.log)
        if self.engine.watch.monitor is not None:
            self.engine.watch.monitor.probes = found.probes
        self.service.live_frames = found.limits.live_frames
        self.served.limits = found.limits
        self.service.replace_controller(controller)
        self.settings = msgspec.structs.replace(
            self.settings, **{name: getattr(found, name) for name in RELOADED}
        )
        log.info("reloaded: controller %s", controller.name)

    # -- what outlives a restart -----------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await asyncio.to_thread(self._save)

    def _lifetime(self) -> LifetimeCounts:
        path = Path(self.settings.state)
        if not self.settings.state or not path.exists():
            return LifetimeCounts(starts=1)
        try:
            found = read_json(path, LifetimeCounts, version=STATE_VERSION)
        except CoinferError as error:
            # a daemon must start whatever a disk did to its counters
            log.warning("counters begin anew: %s", error)
            found = LifetimeCounts()
        return msgspec.structs.replace(found, starts=found.starts + 1)

    def _save(self) -> None:
        if not self.settings.state:
            return
        counts, before = self.service.counts, self._before
        now = msgspec.structs.replace(
            before, frames=before.frames + counts.frames, late=before.late + counts.late
        )
        if now == self._saved:
            return  # nothing has come since: no need to wear the card
        try:
            write_json(self.settings.state, now)
            self._saved = now
        except CoinferError as error:
            log.warning("counters not saved: %s", error)
