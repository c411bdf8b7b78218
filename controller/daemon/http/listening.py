"""The sockets of the local interface over HTTP: TCP on loopback, and one in the file system."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from artefacts import UsageError
from controller.daemon.configuration.settings import NO_PORT, HttpSettings
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.connections import LINGER_S, HttpConnection
from controller.daemon.http.errors import turned_away
from controller.link.accepting import Acceptor
from controller.link.addresses import check_address, join_address, resolve
from controller.link.dialling import listen

BACKLOG = 128
"""Connections that wait in the system's queue to be taken in."""
KEPT_DESCRIPTORS = 64
"""For files, links to edges and libraries: connections never take the last ones."""


class HttpListener:
    """Listens for an application until the end of `serving`."""

    def __init__(
        self, settings: HttpSettings, table: ConnectionTable, fields: str = "http.host, http.port"
    ) -> None:
        """`fields`: where a file says what `settings` say, for a refusal."""
        self._settings, self._table, self._fields = settings, table, fields
        self._made: tuple[Path, os.stat_result] | None = None
        """The socket in the file system and what it is, once it is there."""

    @contextlib.asynccontextmanager
    async def serving(self, runner: web.AppRunner) -> AsyncIterator[list[str]]:
        """Where it listens: `http://HOST:PORT`, and `unix:PATH` where there is a socket.

        Raises `UsageError` for an address that cannot be listened on.
        """
        self._leave_descriptors()
        server: web.Server | None = runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def connection() -> HttpConnection:
            return HttpConnection(
                self._table, server, loop=loop, access_log=None, auto_decompress=False,
                lingering_time=LINGER_S,
            )  # fmt: skip

        acceptor = Acceptor(connection, self._table, self._table.log, turned_away())
        tending = asyncio.create_task(self._table.tend())
        try:
            where = []
            if self._settings.port != NO_PORT:
                sockets = _listen_tcp(self._settings, self._fields)
                acceptor.listen(sockets)
                where.append(f"http://{join_address(*sockets[0].getsockname()[:2])}")
            if self._settings.socket:
                path = Path(self._settings.socket)
                acceptor.listen([_listen_unix(path)])
                self._made = path, path.lstat()
                where.append(f"unix:{path}")
            yield where
        finally:
            tending.cancel()
            acceptor.close()

    def remove_socket(self) -> None:
        """Remove the socket from the file system, unless another daemon's lies in its place."""
        if self._made is None:
            return
        path, made = self._made
        with contextlib.suppress(OSError):  # whoever comes next makes way for itself
            found = path.lstat()
            # a number that was freed is soon another file's: the time says which it is
            if os.path.samestat(found, made) and found.st_mtime_ns == made.st_mtime_ns:
                path.unlink()

    def _leave_descriptors(self) -> None:
        """Never so many connections that nothing is left for a file or a link."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._table.most = max(soft - KEPT_DESCRIPTORS, 1)


def _listen_tcp(settings: HttpSettings, fields: str) -> list[socket.socket]:
    check_address(settings.host)  # it knows no users
    try:
        return listen(resolve(settings.host, settings.port, listens=True))
    except OSError as error:
        where = join_address(settings.host, settings.port)
        raise UsageError(f"{fields}: cannot listen on {where} ({error.strerror})") from None


def _listen_unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_way(path)
        made.bind(str(path))
        made.listen(BACKLOG)
        os.chmod(path, 0o660)
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        made.close()
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"http.socket: '{path}': {why}") from None
    except UsageError:
        made.close()
        raise
    return made


def _make_way(path: Path) -> None:
    """Remove a socket that a killed run has left; refuse what is anything else, or answers."""
    if not path.exists():
        return
    if not path.is_socket():
        raise UsageError(f"http.socket: found '{path}', which is no socket, expected none or one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise UsageError(f"http.socket: somebody answers on '{path}', expected nobody")
