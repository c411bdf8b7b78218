"""A connection at the edge until its TLS handshake is done."""

from __future__ import annotations

import asyncio
import ssl

from controller.edge.peer import Peer, PeerContext, far_end


class Handshake(asyncio.Protocol):
    """Becomes a `Peer` when the handshake is done, and is counted before it costs anything."""

    def __init__(self, context: PeerContext, tls: ssl.SSLContext) -> None:
        self.address, self.name = "?", "?"
        self._context, self._tls = context, tls
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse it, or begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.address, self.name = far_end(transport)
        connections = self._context.connections
        refused = connections.refusal(self.address)
        if refused is not None:
            connections.note(self.name, refused)
            transport.abort()
            return
        connections.enter(self)
        transport.pause_reading()  # what comes next is the handshake's
        self._handshake = asyncio.get_running_loop().create_task(self._open(transport))

    async def _open(self, transport: asyncio.Transport) -> None:
        peer, loop = Peer(self._context), asyncio.get_running_loop()
        connections = self._context.connections
        try:
            secure = await loop.start_tls(
                transport, peer, self._tls, server_side=True,
                ssl_handshake_timeout=connections.limits.greeting_s,
            )  # fmt: skip
        except OSError as error:  # ssl's errors and time-outs are some too
            why = f"{self.name}: no TLS with it: {str(error) or type(error).__name__}"
            connections.errors.append(why[:300])
            transport.abort()
            return
        finally:
            connections.settled(self)
        if secure is None:
            return  # gone meanwhile
        peer.connection_made(secure)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
