"""From the link's outer end on into the network of this machine: TCP and UDP, by plain sockets.

No interface, route or filter of the machine is touched. A connection that a command makes behind
the link ends at a socket of the outer namespace; from there this process makes one of its own, to
the address that was meant. `LINK_HOST` means this machine, its loopback included.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import Any

from controller.link.addresses import LINK_HOST, in_link_namespace
from experiments.replay.cell.kernel import IP_PKTINFO
from experiments.replay.cell.orders import Service, read_said

CHUNK_BYTES, DATAGRAM_BYTES, MESSAGE_BYTES = 65536, 65535, 65536
UNSENT_BYTES = 131_072
"""So many bytes of a connection the kernel holds at most beyond what the link has sent. A sender
sees the link's pace then, and not that of a buffer before it."""
MOST_FLOWS = 1024
"""Of UDP, which says no end: the oldest goes."""
CONNECTED_WITHIN_S, PAUSE_S = 30.0, 0.1
LOOPBACK = "127.0.0.1"
TCP_NOTSENT_LOWAT = 25
_PKTINFO = struct.Struct("i4s4s")


class Gateway:
    """Serves the sockets that come on `said`, until it is cancelled or the carrier ends."""

    def __init__(self, said: socket.socket) -> None:
        self._said = said
        said.setblocking(False)
        self._listeners: list[socket.socket] = []
        self._ports: list[UdpPort] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve; returns when the carrier has ended."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(self._said, self._heard, ended)
        try:
            await ended
        finally:
            loop.remove_reader(self._said)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for listener in self._listeners:
                listener.close()
            for port in self._ports:
                port.close()

    def _heard(self, ended: asyncio.Future[None]) -> None:
        message, handles = b"", list[int]()
        with contextlib.suppress(ConnectionError):
            try:
                message, handles, _, _ = socket.recv_fds(self._said, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
        if not message:
            asyncio.get_running_loop().remove_reader(self._said)
            ended.set_result(None)
            return
        what = read_said(message)
        if isinstance(what, Service) and handles:
            sock = socket.socket(fileno=handles[0])
            sock.setblocking(False)
            if what.kind == "udp":
                self._ports.append(UdpPort(sock, what.port))
            else:
                self._listeners.append(sock)
                self._begin(self._accept(sock))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # no more descriptors: those that come wait
                await asyncio.sleep(PAUSE_S)
                continue
            self._begin(_connection(near))


def outside_of(address: str) -> str:
    """Where an address that was meant behind the link lies outside.

    Around a link within a link the machine is again at the link's own address.
    """
    return LOOPBACK if address == LINK_HOST and not in_link_namespace() else address


async def _connection(near: socket.socket) -> None:
    """One connection from behind the link, on to where it was meant."""
    address, port = near.getsockname()[:2]
    near.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    inside = await asyncio.open_connection(sock=near)
    writers = [inside[1]]
    try:
        async with asyncio.timeout(CONNECTED_WITHIN_S):
            outside = await _connect(address, port)
        writers.append(outside[1])
        await asyncio.gather(_pump(inside[0], outside[1]), _pump(outside[0], inside[1]))
    except OSError:  # a time-out is one
        for writer in writers:
            _reset(writer)
    finally:
        for writer in writers:
            writer.close()


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To this machine by either of its loopback addresses, or to another."""
    outside = outside_of(address)
    if outside == LOOPBACK:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(LOOPBACK, port)
        outside = "::1"
    return await asyncio.open_connection(outside, port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as one that was refused or broken, not as one that is complete."""
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class UdpPort:
    """Datagrams to one port: for every sender and address that was meant a socket of our own."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._sock, self._port = sock, port
        self._flows: dict[tuple[str, int, str], socket.socket] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._from_inside)

    def close(self) -> None:
        """Let go of all sockets."""
        for sock in (self._sock, *self._flows.values()):
            self._loop.remove_reader(sock)
            sock.close()
        self._flows.clear()

    def _from_inside(self) -> None:
        with contextlib.suppress(OSError):
            data, ancillary, _, sender = self._sock.recvmsg(
                DATAGRAM_BYTES, socket.CMSG_SPACE(_PKTINFO.size)
            )
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                    meant = socket.inet_ntoa(_PKTINFO.unpack_from(value)[2])
                    self._flow(sender[0], sender[1], meant).send(data)

    def _flow(self, sender: str, port: int, meant: str) -> socket.socket:
        key = sender, port, meant
        sock = self._flows.pop(key, None)
        if sock is None:
            if len(self._flows) >= MOST_FLOWS:
                oldest = self._flows.pop(next(iter(self._flows)))
                self._loop.remove_reader(oldest)
                oldest.close()
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect((outside_of(meant), self._port))
            self._loop.add_reader(sock, self._from_outside, sock, key)
        self._flows[key] = sock
        return sock

    def _from_outside(self, sock: socket.socket, key: tuple[str, int, str]) -> None:
        sender, port, meant = key
        source = _PKTINFO.pack(0, socket.inet_aton(meant), bytes(4))
        with contextlib.suppress(OSError):
            data = sock.recv(DATAGRAM_BYTES)
            self._sock.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, (sender, port))
