"""The edge server: receives cut tensors, computes their interval, sends answers. Keeps no state
between requests, so that any number of edges may serve the same devices.

One thread reads, timestamps and writes for every connection (`peer`); one computes, earliest
deadline first and alike requests in one batch (`computing`). It listens beyond loopback (and the
test namespaces' addresses) only with TLS, or where it may take anybody's requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from artefacts.heartbeat import Heartbeat
from controller.edge.connections import Connections
from controller.edge.handshake import Handshake
from controller.edge.limits import EdgeLimits
from controller.edge.onward import Make
from controller.edge.peer import Peer, PeerContext
from controller.edge.requests import Requests
from controller.edge.scheduler import SchedulerArgs
from controller.link.accepting import Acceptor
from controller.link.addresses import check_address, join_address, resolve
from controller.link.dialling import listen
from controller.link.secure import Security
from models.executors import Executor
from models.facts.cards import Model

log = logging.getLogger("coinfer.edge")
START_TIMEOUT_S = 10.0
EXPIRE_S = 0.02
"""Between two looks at what further nodes owe an answer to."""

Clock = Callable[[], float]


class EdgeServer:
    """Serves models by their digests. `start` listens, `close` ends every connection and thread."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = time.monotonic,
        limits: EdgeLimits | None = None,
        schedule: SchedulerArgs | None = None,
        security: Security | None = None,
        *,
        insecure: bool = False,
        wall: Clock = time.time,
    ) -> None:
        """`insecure`: listen where anybody may ask, with neither TLS nor credentials. `wall`: the
        clock that certificates go by.
        """
        check_address(host, secure=security is not None or insecure)
        self.clock = clock
        self._connections = Connections(limits or EdgeLimits())
        self.peers, self.newcomers = self._connections.peers, self._connections.newcomers
        self.errors = self._connections.errors
        self.requests = Requests(self._connections, schedule or SchedulerArgs(), clock, self._later)
        self.computing = self.requests.computing
        self.add(model, executor)
        self._context = PeerContext(self.requests, self._connections, clock, wall, security)
        self._listeners = listen(resolve(host, port, listens=True))
        self.host, self.port = self._listeners[0].getsockname()[:2]
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.heartbeat = Heartbeat()
        """`round` is the owner's to call."""
        self.heartbeat.add("communicating", self._later)
        self.heartbeat.add("computing", self.computing.beat)
        self._threads: list[threading.Thread] = []

    def add(self, model: Model, executor: Executor) -> None:
        """Serve one more model."""
        self.requests.models.add(model, executor)

    def hand_on(self, name: str, digest: str, make: Make) -> None:
        """Hand work of the model of a `digest` on to a further node, called `name`.

        `make` makes the link to it from the callback that hears of replies. Before `start`.
        """
        self.requests.next.add(name, digest, make, self._later)

    @property
    def address(self) -> str:
        """HOST:PORT where it listens."""
        return join_address(self.host, self.port)

    @property
    def served(self) -> int:
        """Requests that were answered."""
        return self.computing.served

    @property
    def refused(self) -> int:
        """Requests that got no answer."""
        return self.requests.refusals

    @property
    def waiting(self) -> int:
        """Requests that wait to be computed."""
        return len(self.computing)

    @property
    def alive(self) -> bool:
        """Whether both threads run, and do what they are given (as the heartbeat's rounds tell)."""
        run = bool(self._threads) and all(t.is_alive() for t in self._threads)
        return run and not self.heartbeat.hung

    def reload(
        self, limits: EdgeLimits, schedule: SchedulerArgs, security: Security | None
    ) -> None:
        """Take over what changes while it serves; connections that are open go on as they began.

        `limits.intervals` and `limits.intervals_bytes` count at the start alone.
        """
        self._later(self._replace, limits, schedule, security)

    def _replace(
        self, limits: EdgeLimits, schedule: SchedulerArgs, security: Security | None
    ) -> None:
        self._connections.limits = limits
        self.computing.reschedule(schedule)
        self._context = replace(self._context, security=security)

    def start(self) -> None:
        """Accept and compute in the background."""
        for target in (self._communicate, self.computing.run):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._listening.wait(START_TIMEOUT_S)

    def close(self) -> None:
        """Stop listening, drop every connection, end the threads."""
        self.computing.close()
        self.requests.next.close()
        if self._threads:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
            for thread in self._threads:  # an interpreter must not end under a computation
                thread.join(START_TIMEOUT_S)
        for listener in self._listeners:
            listener.close()

    # -- the thread that reads and writes --------------------------------------------------------

    def _communicate(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        acceptor = Acceptor(self._accepted, self._connections, log)
        acceptor.listen(self._listeners)
        self._listening.set()
        if self.requests.next.names:
            expiring = asyncio.ensure_future(self._expire())
        await self._stop.wait()
        if self.requests.next.names:
            expiring.cancel()
        acceptor.close()
        self._connections.abort_all()
        # the transports' last callbacks
        await asyncio.sleep(0)

    async def _expire(self) -> None:
        """Give up in time what further nodes do not answer."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            try:
                self.requests.next.expire()
            except Exception as error:  # the next look may do better
                self.errors.append(f"further nodes: {type(error).__name__}: {error}")

    def _accepted(self) -> asyncio.Protocol:
        security = self._context.security
        return (
            Peer(self._context) if security is None else Handshake(self._context, security.context)
        )

    def _later(self, call: Callable[..., None], *args: Any) -> None:
        """Call on the thread that writes."""
        with contextlib.suppress(RuntimeError):  # closed meanwhile: nobody is there to hear of it
            self._loop.call_soon_threadsafe(call, *args)
