"""Taking connections in: a few at a turn, room made before each, no spinning without descriptors.

asyncio's own accept loop has no bound, and where a process is out of descriptors it tries again for
every place in its backlog, each time with a further timer. Both daemons take connections in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Callable, Sequence
from functools import partial

AT_A_TURN = 16
"""Connections that are taken in before those that are there have their turn."""
WAIT_S = 0.2
"""How long nothing is taken in where the process is out of descriptors or memory."""
WITHOUT_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NOBODY_LEFT = (BlockingIOError, InterruptedError, ConnectionAbortedError)


def raise_descriptor_limit() -> int:
    """Let the process have as many descriptors as the system allows it; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # a system that allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return found


class AcceptRules:
    """Who may come in. This one lets everybody in; others bound them."""

    def crowded(self) -> bool:
        """Whether those that were let in have to arrive before anybody else is looked at."""
        return False

    def make_room(self) -> bool:
        """Let one more in; False turns it away."""
        return True

    def lost(self) -> None:
        """One that was let in was gone before it had a protocol."""

    def let_one_go(self) -> bool:
        """Hang somebody up, as there is no descriptor left; False where nobody can be spared."""
        return False


class Acceptor:
    """Takes connections from listening sockets and gives each a protocol. Owns the sockets."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        rules: AcceptRules,
        log: logging.Logger,
        refusal: bytes = b"",
    ) -> None:
        """`refusal`: what a connection hears that is turned away."""
        self._protocol, self._rules, self._log = protocol, rules, log
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._coming: set[asyncio.Task[None]] = set()
        self._waits: dict[socket.socket, asyncio.TimerHandle] = {}

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Take connections from these sockets too, which listen already."""
        for listener in listeners:
            listener.setblocking(False)
            self._listeners.append(listener)
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Take no more in; the connections that are there stay, those on their way in go."""
        for handle in self._waits.values():
            handle.cancel()
        for task in self._coming:
            task.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        self._waits.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_A_TURN):
            if self._rules.crowded():
                return
            try:
                taken, _ = listener.accept()
            except NOBODY_LEFT:
                return
            except OSError as error:
                self._log.warning("no connection is taken in for %g s: %s", WAIT_S, error)
                if error.errno in WITHOUT_MEANS:
                    self._rules.let_one_go()
                self._wait(listener)
                return
            if self._rules.make_room():
                task = self._loop.create_task(self._connect(taken))
                self._coming.add(task)
                task.add_done_callback(partial(self._is_in, taken))
            else:
                self._turn_away(taken)

    def _wait(self, listener: socket.socket) -> None:
        """Let the others have the loop: what cannot be taken in stays in the system's queue."""
        self._loop.remove_reader(listener)

        def again() -> None:
            del self._waits[listener]
            self._loop.add_reader(listener, self._accept, listener)

        self._waits[listener] = self._loop.call_later(WAIT_S, again)

    async def _connect(self, taken: socket.socket) -> None:
        try:
            taken.setblocking(False)
            await self._loop.connect_accepted_socket(self._protocol, taken)
        except OSError as error:  # gone meanwhile
            self._log.warning("a connection was lost as it was taken in: %s", error)
            self._rules.lost()
            taken.close()

    def _is_in(self, taken: socket.socket, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        if task.cancelled():  # it may never have begun
            taken.close()

    def _turn_away(self, taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            taken.setblocking(False)
            taken.send(self._refusal)
