"""What `edge.toml` names, made: the models with their executors, behind one server."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from artefacts import UsageError
from controller.daemon.configuration.settings import EdgeSettings
from controller.edge.server import EdgeServer
from controller.link.addresses import join_address, split_address
from controller.link.edge_link import EdgeLink
from controller.link.interface import Reply
from controller.link.secure import Security, client_security
from controller.wire.inbox import MAX_TENSOR_BYTES
from models.codecs.first_use import codecs_for, use_once
from models.executors import make_executor
from models.facts.cards import Model, load_model
from models.facts.meaning import meaning_digest


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
    for node in settings.next:
        credentials = client_security(node.tls) if node.tls.given else None
        for model in models:
            make = partial(_link_to, split_address(node.address), model, credentials)
            server.hand_on(node.name, model.digest, make)
    return server, models


def _link_to(
    address: tuple[str, int],
    model: Model,
    credentials: Security | None,
    on_reply: Callable[[Reply], None],
) -> EdgeLink:
    """The edge's link to a node that it hands work to: that of a device."""
    spec = model.spec
    most = max(math.prod(shape) for shapes in spec.shapes for shape in shapes[1:])
    return EdgeLink(
        *address, model.digest, on_reply, security=credentials, seed=None,
        reply_bytes=min(4 * most, MAX_TENSOR_BYTES), meaning=meaning_digest(model.card),
        cancels_whole=True,
    )  # fmt: skip
