"""One device's connection at the edge: reads, timestamps, expires; writes what is decided."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.edge.arrivals import Arrival, refusal
from controller.edge.connections import Connections
from controller.edge.incoming import Incoming
from controller.link.addresses import join_address, network_of, plain_host
from controller.link.budget import Account, Budget, read_cost
from controller.link.secure import Security, believed_until_s
from controller.wire import (
    Connection,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
    serialise,
)
from controller.wire.messages import meta_text

LOOK_S = 60.0
"""How often it is looked whether a certificate has ended."""


class RequestTaker(Protocol):
    """Who takes a connection's requests."""

    def arrived(self, peer: Peer, arrival: Arrival) -> None:
        """A whole request is here."""

    def forget(self, peer: Peer) -> None:
        """A device is gone: nobody waits for what it asked."""

    def cancelled(self, peer: Peer, request: int) -> Message | None:
        """Nobody waits for a whole request any more; the word for that, None where it is over."""

    def unknown(self, digest: str, meaning: str = "") -> str | None:
        """Why a model is not served, or not as a device means it; None where it is."""

    def announce(self, digest: str, intervals: Any) -> None:
        """A device of a model that is served says what it will ask for."""


@dataclass(frozen=True, slots=True)
class PeerContext:
    """What every connection of one edge shares. `clock` stamps arrivals, `wall` dates certificates.

    `security` None: no TLS, and anybody may ask.
    """

    requests: RequestTaker
    connections: Connections
    clock: Callable[[], float]
    wall: Callable[[], float]
    security: Security | None = None


def far_end(transport: asyncio.BaseTransport) -> tuple[str, str]:
    """(address, address and port) of the other end."""
    found = transport.get_extra_info("peername") or ("?", 0)
    host = plain_host(str(found[0]))
    return host, join_address(host, found[1])


class Peer(asyncio.Protocol):
    """Everything happens on the server's one communicating thread."""

    def __init__(self, context: PeerContext) -> None:
        self.name, self.address = "?", "?"
        self._context, self._limits = context, context.connections.limits
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(Role.EDGE)
        self._incoming = Incoming(self._limits)
        self._transport: asyncio.Transport | None = None
        self.greeted = False
        self.heard_s = 0.0
        """When something came last, on the loop's clock."""
        self._error: str | None = None
        self._early = b""
        self.admitted = 0
        """Requests that wait to be computed, or are."""
        self.network = "?"
        self.account = Account(Budget(0.0, 0.0), certified=False)
        self.budget = self.account.budget
        self._ends: asyncio.TimerHandle | None = None
        self._believed_until_s = math.inf
        self._expiry: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    # -- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and expect a greeting soon."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.address, self.name = far_end(transport)
        self._error = self._context.connections.refusal(self.address)
        if self._error is not None:
            transport.abort()
            return
        self._identify(transport)
        self._context.connections.peers.add(self)
        self._context.connections.enter(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes // 2)
        self.heard_s = self._loop.time()
        self._watch = self._loop.call_later(self._limits.greeting_s, self._watched)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free everything it held."""
        if self._transport is None:
            return  # its TLS handshake came to nothing, and `Handshake` has noted why
        self.account.closed(self.budget)
        if self.greeted:
            self.account.connections -= 1
        for timer in (self._expiry, self._patience, self._watch, self._ends):
            if timer is not None:
                timer.cancel()
        self._context.connections.peers.discard(self)
        self._context.connections.settled(self)
        self._context.requests.forget(self)
        if self._error is None and exc is not None:
            self._error = f"connection lost ({exc})"
        if self._error is not None:
            self._context.connections.note(self.name, self._error)
        self._incoming = Incoming(self._limits)

    def _identify(self, transport: asyncio.Transport) -> None:
        """Whose connection this is, and until when that is to be believed."""
        self.network = network_of(self.address)
        accounts, tls = self._context.connections.accounts, transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(True)
        if shown is None:
            self.account = accounts.of(self.network, certified=False)
            self.budget = self.account.opened(self._context.clock())
            return
        self.account = accounts.of(hashlib.sha256(shown).hexdigest(), certified=True)
        self.budget = self.account.budget
        self._believed_until_s = believed_until_s(tls.getpeercert(), tls.context)
        self._still_believed()

    def _still_believed(self) -> None:
        """End the connection with its device's certificate."""
        left_s = self._believed_until_s - self._context.wall()
        if left_s <= 0:
            self.drop("its certificate has ended")
        else:
            # the wall clock may be set meanwhile
            self._ends = self._loop.call_later(min(left_s, LOOK_S), self._still_believed)

    @property
    def waiting(self) -> int:
        """Requests of this device that wait to be computed, or are."""
        return self.account.admitted if self.account.certified else self.admitted

    def admit(self, count: int) -> None:
        """So many requests more (fewer) wait to be computed."""
        self.admitted += count
        self.account.admitted += count

    @property
    def ended(self) -> bool:
        """Whether it is being dropped."""
        return self._error is not None

    def abort(self) -> None:
        """Drop the connection; nothing more is read or written."""
        if self._transport is not None:
            self._transport.abort()

    def _watched(self) -> None:
        """The greeting's time is over, or the silence's."""
        limits = self._limits
        if not self.greeted:
            self.drop(f"found no greeting within {limits.greeting_s:g} s, expected HELLO")
            return
        silent = self._loop.time() - self.heard_s
        if silent >= limits.idle_s:
            self.drop(f"found nothing for {silent:.0f} s, expected a keep-alive")
            return
        self._watch = self._loop.call_later(limits.idle_s - silent, self._watched)

    def drop(self, error: str) -> None:
        """End the connection for an error; a device that greeted us hears why."""
        if self._error is not None or self._transport is None:
            return
        self._error = error
        if self.greeted:
            self._transport.write(serialise(refusal(0, error)))
        # what is written goes out first, but nobody waits for a device that does not read
        self._transport.close()
        self._loop.call_later(self._limits.stalled_s, self._transport.abort)

    # -- reading ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Messages, each with the time its read ended."""
        if self._error is not None:
            return
        if self._transport is None:
            self._early += data  # came with the end of a handshake, before `connection_made`
            return
        now = self._context.clock()
        self.heard_s = self._loop.time()
        try:
            count = 0
            for message in self._connection.messages(data):
                count += 1
                if message.type is not MessageType.HELLO:
                    self._spend(self._incoming.cost(message), now)
                self._handle(message, now)
            self._spend(read_cost(len(data), count), now)
        except RemoteProtocolError as error:
            self.drop(str(error))
            return
        request, partial = self._connection.partial_payload
        self._incoming.partial(request, partial, now)
        self._expect()

    def eof_received(self) -> bool:
        """The device has closed: nobody waits for what it asked."""
        try:
            self._connection.end_of_stream()
        except RemoteProtocolError as error:
            self.drop(str(error))
        return False

    def _spend(self, cost: float, now: float) -> None:
        if cost and not self.budget.spend(cost, now):
            raise RemoteProtocolError(f"found more than {self.budget}, expected fewer")

    def _handle(self, message: Message, now: float) -> None:
        kind = message.type
        if kind is MessageType.HELLO:
            self._greet(message.meta)
        elif kind is MessageType.PING:
            self.write(Message(MessageType.PONG, message.request_id))
        elif kind is MessageType.REQUEST:
            self._whole(self._incoming.begin(message, now))
        elif kind is MessageType.CHUNK:
            self._whole(self._incoming.add(message, now))
        elif kind is MessageType.CANCEL:
            request = message.request_id
            word = self._incoming.cancel(request)
            if word is None:
                word = self._context.requests.cancelled(self, request)
            if word is not None:
                self.write(word)

    def _whole(self, arrival: Arrival | None) -> None:
        if arrival is not None:
            self._context.requests.arrived(self, arrival)

    def _greet(self, meta: Mapping[str, Any]) -> None:
        security, connections = self._context.security, self._context.connections
        if security is not None and not security.knows(meta.get("token")):
            self._turn_away("token: found another than this edge's")
        wanted = meta_text(meta, "model")
        meaning = meta_text(meta, "meaning") if "meaning" in meta else ""
        why = (
            self._context.requests.unknown(wanted, meaning)
            or connections.refusal(self.address)
            or connections.one_of_few(self.account, self._loop.time())
        )
        if why is not None:
            self._turn_away(why)
        self.greeted = True
        self.account.connections += 1
        connections.settled(self)
        self.write(Message(MessageType.WELCOME, meta={"models": [wanted]}))
        self._context.requests.announce(wanted, meta.get("intervals"))

    def _turn_away(self, why: str) -> None:
        """Answer a greeting with why there is no welcome, and end the connection."""
        self.write(Message(MessageType.REFUSE, meta={"reason": why}))
        raise RemoteProtocolError(why)

    # -- requests whose time is over before they are whole ---------------------------------------

    def _expect(self) -> None:
        """Set the timer to the next request whose time will be over."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        soonest = self._incoming.expires_s
        if soonest < math.inf:
            left = max(soonest - self._context.clock(), 0.0)
            self._expiry = self._loop.call_later(left, self._expire)

    def _expire(self) -> None:
        for word in self._incoming.expire(self._context.clock()):
            self.write(word)
        self._expect()

    # -- writing ---------------------------------------------------------------------------------

    def write(self, *messages: Message) -> None:
        """Hand messages to the socket; a device that does not read them is dropped."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            transport.writelines([self._connection.send(m) for m in messages])
        except LocalProtocolError:
            return  # dropped for an error while its request was computed: nobody is there
        waiting = transport.get_write_buffer_size()
        if waiting > self._limits.write_buffer_bytes:
            self._error = f"dropped, {waiting} bytes of answers were not read"
            transport.abort()

    def pause_writing(self) -> None:
        """The device reads too slowly: it is not listened to until it has caught up."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._patience = self._loop.call_later(self._limits.stalled_s, self._stalled)

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._patience is not None:
            self._patience.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _stalled(self) -> None:
        self._error = f"dropped, it read nothing for {self._limits.stalled_s:g} s"
        self.abort()
