"""One device's connection at the edge: reads, timestamps, expires; writes what is decided."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controller.edge.arrivals import Arrival, Timing, refusal
from controller.link.addresses import join_address, network_of, plain_host
from controller.link.budget import Account, Budget, chunk_cost, idle_cost, read_cost
from controller.link.secure import believed_until_s
from controller.wire import (
    Arrived,
    Connection,
    Inbox,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
    serialise,
)
from controller.wire.messages import meta_number, meta_text, shown_text

if TYPE_CHECKING:
    from controller.edge.server import EdgeServer


LOOK_S = 60.0
"""How often it is looked whether a certificate has ended."""
QUIET_S = 15.0
"""Devices that are there say something every ten seconds."""
OWED_REQUESTS = 64


def _who(transport: asyncio.BaseTransport) -> tuple[str, str]:
    """(address, address and port) of the other end."""
    found = transport.get_extra_info("peername") or ("?", 0)
    host = plain_host(str(found[0]))
    return host, join_address(host, found[1])


def _too_many(server: EdgeServer, address: str) -> str | None:
    """Why one more connection from a network is refused; None where it is not."""
    limits = server.limits
    there = [peer for peer in server.peers if peer.greeted]
    if len(there) >= limits.connections:
        return f"refused, {limits.connections} connections are open"
    network = network_of(address)
    if sum(one.network == network for one in there) >= limits.per_address:
        return f"refused, {limits.per_address} connections are open from {network}"
    return None


def _let_in(server: EdgeServer, newcomer: Peer | Handshake) -> None:
    """One more that has not greeted; where there are too many, the one that came first goes.

    Those who never greet thus cannot shut out those who do.
    """
    while len(server.strangers) >= server.limits.strangers:
        oldest = next(iter(server.strangers))
        del server.strangers[oldest]
        server.errors.append(f"{oldest.name}: dropped, it had not greeted and others came")
        oldest.abort()
    server.strangers[newcomer] = None


class Handshake(asyncio.Protocol):
    """A connection until its TLS handshake is done; then it is a peer's."""

    def __init__(self, server: EdgeServer, context: ssl.SSLContext) -> None:
        self.address, self.name = "?", "?"
        self._server, self._context = server, context
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it before a handshake costs anything."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.address, self.name = _who(transport)
        refused = _too_many(self._server, self.address)
        if refused is not None:
            self._server.errors.append(f"{self.name}: {refused}")
            transport.abort()
            return
        _let_in(self._server, self)
        transport.pause_reading()  # what comes now is the handshake's
        self._handshake = asyncio.get_running_loop().create_task(self._open(transport))

    async def _open(self, transport: asyncio.Transport) -> None:
        peer, loop = Peer(self._server), asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                transport, peer, self._context, server_side=True,
                ssl_handshake_timeout=self._server.limits.greeting_s,
            )  # fmt: skip
        except OSError as error:  # ssl's errors and time-outs are some too
            self._server.errors.append(
                f"{self.name}: no TLS with it: {str(error) or type(error).__name__}"[:300]
            )
            transport.abort()
            return
        finally:
            self._server.strangers.pop(self, None)
        if secure is None:
            return  # gone meanwhile
        peer.connection_made(secure)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


class Peer(asyncio.Protocol):
    """Everything happens on the server's one communicating thread."""

    def __init__(self, server: EdgeServer) -> None:
        self.name, self.address = "?", "?"
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(Role.EDGE)
        limits = server.limits
        self._inbox = Inbox(limits.requests, limits.tensor_bytes, limits.inbox_bytes)
        self.timings: dict[int, Timing] = {}
        self._transport: asyncio.Transport | None = None
        self.greeted = False
        self._heard_s = 0.0
        self._error: str | None = None
        self._early = b""
        self.admitted = 0
        """Requests that wait to be computed, or are."""
        self.network = "?"
        self.account = Account(Budget(0.0, 0.0), certified=False)
        self.budget = self.account.budget
        self._owed: dict[int, int] = {}
        """Bytes that are still to come of requests that are over."""
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
        limits = self._server.limits
        self.address, self.name = _who(transport)
        self._error = _too_many(self._server, self.address)
        if self._error is not None:
            transport.abort()
            return
        self._identify(transport)
        self._server.peers.add(self)
        _let_in(self._server, self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=limits.write_buffer_bytes // 2)
        self._heard_s = self._loop.time()
        self._watch = self._loop.call_later(limits.greeting_s, self._watched)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free everything it held."""
        if self._transport is None:
            return  # its handshake came to nothing, and the door has told of it
        self.account.closed(self.budget)
        if self.greeted:
            self.account.connections -= 1
        for timer in (self._expiry, self._patience, self._watch, self._ends):
            if timer is not None:
                timer.cancel()
        self._server.peers.discard(self)
        self._server.strangers.pop(self, None)
        self._server.forget(self)
        if self._error is None and exc is not None:
            self._error = f"connection lost ({exc})"
        if self._error is not None:
            self._server.errors.append(f"{self.name}: {self._error}")
        self._inbox = Inbox(0, 0, 0)
        self.timings.clear()

    def _identify(self, transport: asyncio.Transport) -> None:
        """Whose connection this is, and until when that is to be believed."""
        self.network = network_of(self.address)
        accounts, tls = self._server.accounts, transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(True)
        if shown is None:
            self.account = accounts.of(self.network, certified=False)
            self.budget = self.account.opened(self._server.clock())
            return
        self.account = accounts.of(hashlib.sha256(shown).hexdigest(), certified=True)
        self.budget = self.account.budget
        self._believed_until_s = believed_until_s(tls.getpeercert(), tls.context)
        self._still_believed()

    def _still_believed(self) -> None:
        """End the connection with its device's certificate."""
        left_s = self._believed_until_s - self._server.wall()
        if left_s <= 0:
            self._drop("its certificate has ended")
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

    def abort(self) -> None:
        """Drop the connection; nothing more is read or written."""
        if self._transport is not None:
            self._transport.abort()

    def _watched(self) -> None:
        """The greeting's time is over, or the silence's."""
        limits = self._server.limits
        if not self.greeted:
            self._drop(f"found no greeting within {limits.greeting_s:g} s, expected HELLO")
            return
        silent = self._loop.time() - self._heard_s
        if silent >= limits.idle_s:
            self._drop(f"found nothing for {silent:.0f} s, expected a keep-alive")
            return
        self._watch = self._loop.call_later(limits.idle_s - silent, self._watched)

    def _drop(self, error: str) -> None:
        """End the connection for an error; a device that greeted us is told why."""
        if self._error is not None or self._transport is None:
            return
        self._error = error
        if self.greeted:
            self._transport.write(serialise(refusal(0, error)))
        # what is written goes out first, but nobody waits for a device that does not read
        self._transport.close()
        self._loop.call_later(self._server.limits.stalled_s, self._transport.abort)

    # -- reading ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Messages, each with the time its read ended."""
        if self._error is not None:
            return
        if self._transport is None:
            self._early += data  # came with the end of a handshake, before we were told of that
            return
        now = self._server.clock()
        self._heard_s = self._loop.time()
        try:
            count = 0
            for message in self._connection.messages(data):
                count += 1
                self._charge(message, now)
                self._handle(message, now)
            self._spend(read_cost(len(data), count), now)
        except RemoteProtocolError as error:
            self._drop(str(error))
            return
        request, partial = self._connection.partial_payload
        if partial and request in self.timings:
            self.timings[request].note(now, partial)
        self._expect()

    def eof_received(self) -> bool:
        """The device has closed: nobody waits for what it asked."""
        try:
            self._connection.end_of_stream()
        except RemoteProtocolError as error:
            self._drop(str(error))
        return False

    def _charge(self, message: Message, now: float) -> None:
        """Take from the device's budget; a request's part comes back with its answer."""
        kind, request = message.type, message.request_id
        if kind is MessageType.HELLO:
            return
        timing, size = self.timings.get(request), len(message.payload)
        cost = idle_cost(message)
        if kind is MessageType.CHUNK and timing is not None:
            cost = chunk_cost(message)
            timing.charged += cost
        elif kind is MessageType.CHUNK and 0 < size <= self._owed.get(request, 0):
            # what was under way when the request's time was over
            cost = chunk_cost(message)
            self._owed[request] -= size
        self._spend(cost, now)

    def _spend(self, units: float, now: float) -> None:
        if units and not self.budget.spend(units, now):
            raise RemoteProtocolError(f"found more than {self.budget}, expected fewer")

    def _handle(self, message: Message, now: float) -> None:
        kind, request = message.type, message.request_id
        if kind is MessageType.HELLO:
            self._greet(message.meta)
        elif kind is MessageType.PING:
            self.write(Message(MessageType.PONG, request))
        elif kind is MessageType.REQUEST:
            remaining = meta_number(message.meta, "remaining_s", 0.0)
            longest = self._server.limits.longest_s
            until = now + (min(remaining, longest) if remaining > 0 else longest)
            self.timings[request] = Timing(now, now, until, charged=idle_cost(message))
            arrived = self._inbox.begin(message)
            if arrived is None:
                self.timings[request].expected_bytes = int(message.meta["bytes"])
            self._whole(arrived, now)
        elif kind is MessageType.CHUNK:
            timing = self.timings.get(request)
            if timing is not None:
                timing.whole_chunks_bytes += len(message.payload)
                timing.note(now, 0)
            self._whole(self._inbox.add(message), now)
        elif kind is MessageType.CANCEL:
            self._cancelled(request, now)

    def _whole(self, arrived: Arrived | None, now: float) -> None:
        if arrived is not None:
            timing = self.timings.pop(arrived.request_id, Timing(now, now))
            arrival = Arrival(arrived.request_id, arrived.meta, arrived.data, timing)
            self._server.arrived(self, arrival)

    def _greet(self, meta: Mapping[str, Any]) -> None:
        security = self._server.security
        if security is not None and not security.knows(meta.get("token")):
            reason = "token: found another than this edge's"
            self.write(Message(MessageType.REFUSE, meta={"reason": reason}))
            raise RemoteProtocolError(reason)
        served = self._server.served_models
        wanted = meta_text(meta, "model")
        if wanted not in served:
            known = ", ".join(f"{digest[:12]}…" for digest in served)
            reason = f"model digest: found {shown_text(wanted[:12])}…, expected {known}"
            self.write(Message(MessageType.REFUSE, meta={"reason": reason}))
            raise RemoteProtocolError(reason)
        refused = _too_many(self._server, self.address)
        if refused is not None:
            self.write(Message(MessageType.REFUSE, meta={"reason": refused}))
            raise RemoteProtocolError(refused)
        self._one_of_few()
        self.greeted = True
        self.account.connections += 1
        self._server.strangers.pop(self, None)
        self.write(Message(MessageType.WELCOME, meta={"models": [wanted]}))
        self._server.announce(wanted, meta.get("intervals"))

    def _one_of_few(self) -> None:
        """Refuse one more connection of a certificate that has as many as one may have.

        Of those that a device has lost without the edge's knowledge the quietest gives way.
        """
        account, most = self.account, self._server.limits.per_certificate
        peers = [one for one in self._server.peers if one.greeted and one._error is None]
        own = [one for one in peers if one.account is account]
        if not account.certified or len(own) < most:
            return
        quietest = min(own, key=lambda one: one._heard_s)
        if self._loop.time() - quietest._heard_s > QUIET_S:
            quietest._drop(f"more than {most} connections of this certificate, and it was silent")
            return
        reason = f"refused, {most} connections of this certificate are open"
        self.write(Message(MessageType.REFUSE, meta={"reason": reason}))
        raise RemoteProtocolError(reason)

    # -- requests whose time is over before they are whole ---------------------------------------

    def _expect(self) -> None:
        """Set the timer to the next request whose time will be over."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        soonest = min((t.until_s for t in self.timings.values()), default=math.inf)
        if soonest < math.inf:
            left = max(soonest - self._server.clock(), 0.0)
            self._expiry = self._loop.call_later(left, self._expire)

    def _expire(self) -> None:
        """Free what cannot be answered in time any more, and say how much of it had come.

        A CANCEL queues behind the very bytes it is to stop; the edge knows the deadline itself.
        """
        now = self._server.clock()
        for request in [r for r, t in self.timings.items() if t.until_s <= now]:
            self.timings[request].last_s = now
            self._cancelled(request, now)
        self._expect()

    def _cancelled(self, request: int, now: float) -> None:
        timing = self.timings.pop(request, None)
        if timing is None:
            return  # answered, or its time was over: the device knows already
        there = self._inbox.cancel(request)
        self._owe(request, timing.expected_bytes - there)
        received = max(there, timing.received_bytes)
        meta = timing.meta() | {"received_bytes": received}
        self.write(Message(MessageType.CANCELLED, request, meta=meta))

    def _owe(self, request: int, size: int) -> None:
        """So many bytes of a request that is over may be on their way still."""
        if size > 0:
            self._owed[request] = size
            if len(self._owed) > OWED_REQUESTS:
                del self._owed[next(iter(self._owed))]

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
        if waiting > self._server.limits.write_buffer_bytes:
            self._error = f"dropped, {waiting} bytes of answers were not read"
            transport.abort()

    def pause_writing(self) -> None:
        """The device reads too slowly: it is not listened to until it has caught up."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._patience = self._loop.call_later(self._server.limits.stalled_s, self._stalled)

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._patience is not None:
            self._patience.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _stalled(self) -> None:
        self._error = f"dropped, it read nothing for {self._server.limits.stalled_s:g} s"
        self.abort()
