"""What `edge.toml` names, made: the models with their executors, behind one server."""

from __future__ import annotations

from artefacts import UsageError
from controller.daemon.configuration.settings import EdgeSettings
from controller.edge.server import EdgeServer
from controller.link.addresses import join_address
from controller.link.secure import Security
from models.codecs.first_use import codecs_for, use_once
from models.executors import make_executor
from models.facts.cards import Model, load_model


def build_edge(settings: EdgeSettings, security: Security | None) -> tuple[EdgeServer, list[Model]]:
    """A server that listens and is not started, and what it serves."""
    models = [load_model(name) for name in settings.models]
    use_once(sorted({c for m in models for c in codecs_for(m.preprocessing.carried)}))
    limits, threads = settings.limits, settings.threads or None
    executors = [
        make_executor(
            settings.executor, m, threads, most=limits.intervals,
            most_bytes=limits.intervals_bytes,
        )
        for m in models
    ]  # fmt: skip
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
