"""`coinfer edge --config edge.toml`: the edge as a service."""

from __future__ import annotations

import logging
import queue
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artefacts.endings import hung_up, raise_if_ended
from controller.daemon.configuration.edge_reloading import (
    PreparedEdge,
    credentials_of,
    edge_changes,
    edge_security,
    has_own_authority,
    prepare_edge,
)
from controller.daemon.configuration.reloading import ConfigFile, Preparing, TwinReloads
from controller.daemon.configuration.settings import (
    EdgeSettings,
    naming,
    parse_edge,
    read_edge_settings,
    readable_secrets,
)
from controller.daemon.edge_building import build_edge
from controller.daemon.http.exposing import MetricsServer
from controller.daemon.monitoring.edge_metrics import EdgeMetrics
from controller.daemon.monitoring.log import RepeatedTroubles, RepeatLimit, set_up_log
from controller.daemon.monitoring.systemd import (
    notify,
    notify_reloading,
    watchdog_interval_s,
)
from controller.daemon.monitoring.tracing import EdgeTracing, make_provider
from controller.daemon.settling import settle
from controller.link.accepting import raise_descriptor_limit

log = logging.getLogger("coinfer.edge")
TICK_S = 1.0
ENDING = (signal.SIGTERM, signal.SIGINT)


def run_edge(path: Path, ready: Callable[[str], None] = lambda where: None) -> None:
    """Serve what `edge.toml` says until SIGTERM or SIGINT; `ready` hears HOST:PORT."""
    file = ConfigFile(path)  # what changes from here on is taken over by the watch
    settings = read_edge_settings(path)
    lines = set_up_log(settings.log)
    for line in readable_secrets(settings.tls):
        log.warning("%s", line)
    raise_descriptor_limit()
    with naming(path):
        EdgeDaemon(path, file, settings, lines).run(ready)


class EdgeDaemon:
    """An edge that serves until it is ended by a signal; SIGHUP lets it read its file again."""

    def __init__(
        self, path: Path, file: ConfigFile, settings: EdgeSettings, lines: RepeatLimit
    ) -> None:
        self._path, self._file, self.settings, self._lines = path, file, settings, lines
        self._security, self._credentials = edge_security(settings), credentials_of(settings.tls)
        self._twins = TwinReloads()
        self.server, self._models = build_edge(settings, self._security)
        self._metrics = EdgeMetrics(self.server)
        self._metrics.certificates.loaded(settings.tls)
        self._troubles = RepeatedTroubles()
        self._tracing: EdgeTracing | None = None
        if settings.tracing.endpoint:
            provider = make_provider("coinfer-edge", settings.tracing)
            self._tracing = EdgeTracing(provider, self.server.clock)
            self.server.computing.on_answer = self._tracing.answered
        self._events: queue.SimpleQueue[int | PreparedEdge | str] = queue.SimpleQueue()
        """Signals, and what was prepared. It may be put to in the middle of being asked."""
        prepare = partial(
            prepare_edge, path, own_authority=has_own_authority(settings, self._security)
        )
        self._preparing = Preparing(prepare, self._events.put)
        self._said: tuple[str, ...] = ()
        self._away: dict[str, str] = {}
        """Of every node that work is handed to why it is away, as it was written down."""

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT."""
        server = self.server
        for number in (*ENDING, signal.SIGHUP):
            signal.signal(number, lambda received, frame: self._events.put(received))
        raise_if_ended()
        server.start()
        metrics: MetricsServer | None = None
        if self.settings.metrics:
            where = parse_edge(self.settings.metrics, self._path, "metrics")
            metrics = MetricsServer(self._metrics.registry, *where, log)
            metrics.start()
        for model in self._models:
            log.info("serving %s %s", model.spec.name, model.digest[:12])
        secure = "TLS" if self._security is not None else "without encryption"
        log.info("listening on %s, %s", server.address, secure)
        settle()
        ready(server.address)
        notify("READY=1")
        if hung_up():
            self.reload()
        self._tend()
        notify("STOPPING=1")
        if metrics is not None:
            metrics.close()
        server.close()
        if self._tracing is not None:
            self._tracing.close()
        log.info("%d requests served, %d refused", server.served, server.refused)

    def _tend(self) -> None:
        every_s = min(watchdog_interval_s() or TICK_S, TICK_S)
        due_s, ended = time.monotonic() + every_s, False
        while not ended:
            left_s = due_s - time.monotonic()
            if left_s <= 0.0:
                self._look()
                due_s = time.monotonic() + every_s
                continue
            try:
                event = self._events.get(timeout=left_s)
            except queue.Empty:
                continue
            if isinstance(event, int):
                ended = event in ENDING
                if not ended:
                    self.reload()
            else:
                self._take_over(event)
        self._tell()
        for line in self._troubles.rest():
            log.info("%s", line)

    def _look(self) -> None:
        """What is to be done at every tick."""
        server = self.server
        server.heartbeat.round()
        hung = server.heartbeat.hung
        if hung and hung != self._said:
            log.error("%s: nothing comes back, no WATCHDOG=1 is sent", ", ".join(hung))
        self._said = hung
        self._tell()
        if server.alive:
            notify("WATCHDOG=1")
        if self._file.changed:
            self.reload(by_signal=False)
        if (given_up := self._preparing.hung()) is not None:
            self._take_over(given_up)

    def _tell(self) -> None:
        """Write down what befell connections, and how many lines were left out."""
        while self.server.errors:
            for line in self._troubles.lines(self.server.errors.popleft()):
                log.info("%s", line)
        for line in self._troubles.due():
            log.info("%s", line)
        for name, why in self.server.requests.next.states.items():
            if self._away.get(name) != why:
                self._away[name] = why
                log.warning("'%s' is away: %s", name, why) if why else log.info(
                    "'%s' serves: work is handed on to it", name
                )
        self._lines.tell()

    # -- reloading -------------------------------------------------------------------------------

    def reload(self, *, by_signal: bool = True) -> None:
        """Take over what may change while requests are served; a mistake changes nothing."""
        notify_reloading()
        self._twins.asked(by_signal=by_signal)
        self._file.seen()  # a signal and a change of the file are one reload
        self._preparing.ask()

    def _take_over(self, found: PreparedEdge | str) -> None:
        if isinstance(found, PreparedEdge):
            self._replace(found)
        elif not self._twins.repeats((found,)):
            log.error("not reloaded: %s", found)
        notify("READY=1")

    def _replace(self, found: PreparedEdge) -> None:
        renewed = found.credentials != self._credentials
        changes = edge_changes(self.settings, found.settings, renewed=renewed)
        self.settings = changes.settings
        if "tls" in changes.taken:
            self._security, self._credentials = found.security, found.credentials
            self._metrics.certificates.loaded(self.settings.tls)
        self._lines = set_up_log(self.settings.log)
        self.server.reload(self.settings.limits, self.settings.schedule, self._security)
        if self._twins.repeats((*changes.taken, *changes.fixed), differs=bool(changes.taken)):
            return
        for line in readable_secrets(self.settings.tls):
            log.warning("%s", line)
        taken, fixed = ", ".join(changes.taken), ", ".join(changes.fixed)
        left = f"; a restart is needed for {fixed}" if fixed else ""
        log.info("reloaded: %s%s", taken or "nothing that differs", left)
