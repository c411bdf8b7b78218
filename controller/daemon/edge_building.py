"""What `edge.toml` names, made: the models with their executors, behind one server."""

from __future__ import annotations

from artefacts import UsageError
from controller.daemon.configuration.settings import EdgeSettings
from controller.edge.server import EdgeServer
from controller.link.addresses import join_address
from controller.link.secure import Security
from models.executors import make_executor
from models.facts.cards import Model, load_model


def build_edge(settings: EdgeSettings, security: Security | None) -> tuple[EdgeServer, list[Model]]:
    """A server that listens and is not started, and what it serves."""
    models = [load_model(name) for name in settings.models]
    limits, threads = settings.limits, settings.threads or None
    most, most_bytes = limits.intervals, limits.intervals_bytes
    executors = [
        make_executor(settings.executor, m, threads, most=most, most_bytes=most_bytes)
        for m in models
    ]
    try:
        server = EdgeServer(
            models[0], executors[0], settings.host, settings.port, limits=limits,
            schedule=settings.schedule, security=security, insecure=settings.insecure,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            "fields 'host' and 'port': cannot listen on "
            f"{join_address(settings.host, settings.port)} ({error.strerror})"
        ) from None
    for model, executor in zip(models[1:], executors[1:], strict=True):
        server.add(model, executor)
    return server, models
