"""`coinfer edge --config edge.toml`: the edge as a service."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from artefacts import UsageError
from artefacts.endings import raise_if_ended
from controller.daemon.configuration.settings import (
    EdgeSettings,
    naming,
    parse_edge,
    read_edge_settings,
    readable_secrets,
)
from controller.daemon.http.exposing import MetricsServer
from controller.daemon.monitoring.edge_metrics import edge_registry
from controller.daemon.monitoring.log import RepeatLimit, set_up_log
from controller.daemon.monitoring.repeats import RepeatedTroubles
from controller.daemon.monitoring.systemd import notify, watchdog_interval_s
from controller.daemon.monitoring.tracing import EdgeTracing, make_provider
from controller.edge.server import EdgeServer
from controller.link.accepting import raise_descriptor_limit
from controller.link.addresses import join_address
from controller.link.secure import server_security
from models.facts.cards import load_model
from models.graphs.executors import make_executor

log = logging.getLogger("coinfer.edge")
TICK_S = 1.0


def run_edge(path: Path, ready: Callable[[str], None] = lambda where: None) -> None:
    """Serve what `edge.toml` says until SIGTERM or SIGINT; `ready` hears HOST:PORT."""
    settings = read_edge_settings(path)
    lines = set_up_log(settings.log)
    for line in readable_secrets(settings.tls):
        log.warning("%s", line)
    raise_descriptor_limit()
    with naming(path):
        _serve(path, settings, ready, lines)


def _serve(
    path: Path, settings: EdgeSettings, ready: Callable[[str], None], lines: RepeatLimit
) -> None:
    security = server_security(settings.tls) if settings.tls.given else None
    models = [load_model(name) for name in settings.models]
    threads = settings.threads or None
    most = settings.limits.intervals
    executors = [make_executor(settings.executor, m, threads, most=most) for m in models]
    try:
        server = EdgeServer(
            models[0], executors[0], settings.host, settings.port, limits=settings.limits,
            schedule=settings.schedule, security=security, insecure=settings.insecure,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            "fields 'host' and 'port': cannot listen on "
            f"{join_address(settings.host, settings.port)} ({error.strerror})"
        ) from None
    for model, executor in zip(models[1:], executors[1:], strict=True):
        server.add(model, executor)
    tracing: EdgeTracing | None = None
    if settings.tracing.endpoint:
        tracing = EdgeTracing(make_provider("coinfer-edge", settings.tracing), server.clock)
        server.computing.on_answer = tracing.answered
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stopped.set())
    raise_if_ended()
    server.start()
    metrics: MetricsServer | None = None
    if settings.metrics:
        where = parse_edge(settings.metrics, path, "metrics")
        metrics = MetricsServer(edge_registry(server, settings.tls), *where, log)
        metrics.start()
    for model in models:
        log.info("serving %s %s", model.spec.name, model.digest[:12])
    secure = "TLS" if security is not None else "without encryption"
    log.info("listening on %s, %s", server.address, secure)
    ready(server.address)
    notify("READY=1")
    _tend(server, stopped, lines)
    notify("STOPPING=1")
    if metrics is not None:
        metrics.close()
    server.close()
    if tracing is not None:
        tracing.close()
    log.info("%d requests served, %d refused", server.served, server.refused)


def _tend(server: EdgeServer, stopped: threading.Event, lines: RepeatLimit) -> None:
    every, troubles = watchdog_interval_s() or TICK_S, RepeatedTroubles()
    said: tuple[str, ...] = ()
    while not stopped.wait(min(every, TICK_S)):
        server.heartbeat.round()
        hung = server.heartbeat.hung
        if hung and hung != said:
            log.error("%s: nothing comes back, no WATCHDOG=1 is sent", ", ".join(hung))
        said = hung
        _tell(server, troubles, lines)
        if server.alive:
            notify("WATCHDOG=1")
    _tell(server, troubles, lines)
    for line in troubles.rest():
        log.info("%s", line)


def _tell(server: EdgeServer, troubles: RepeatedTroubles, lines: RepeatLimit) -> None:
    """Write down what befell connections, and how many lines were left out."""
    while server.errors:
        for line in troubles.lines(server.errors.popleft()):
            log.info("%s", line)
    for line in troubles.due():
        log.info("%s", line)
    lines.tell()
