"""One end of a connection as a state machine: which message may come and go when."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from controller.wire.messages import (
    HEADER,
    Header,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    parse_header,
    parse_metadata,
    serialise,
)


class Role(enum.Enum):
    """Which end this is."""

    DEVICE = "device"
    EDGE = "edge"


class State(enum.Enum):
    """Where the greeting stands."""

    NEW = "new"
    GREETED = "greeted"
    OPEN = "open"
    FAILED = "failed"


T = MessageType
_DEVICE_SENDS = (T.REQUEST, T.CHUNK, T.CANCEL, T.PING)
_EDGE_SENDS = (T.REPLY, T.CHUNK, T.CANCELLED, T.REFUSE, T.PONG)

TRANSITIONS: dict[tuple[Role, State, MessageType], State] = {
    (Role.DEVICE, State.NEW, T.HELLO): State.GREETED,
    (Role.EDGE, State.GREETED, T.WELCOME): State.OPEN,
    (Role.EDGE, State.GREETED, T.REFUSE): State.FAILED,
    **{(Role.DEVICE, State.OPEN, kind): State.OPEN for kind in _DEVICE_SENDS},
    **{(Role.EDGE, State.OPEN, kind): State.OPEN for kind in _EDGE_SENDS},
}
"""(who sends, state, message) -> the state after it; what is not here is not allowed."""


class Connection:
    """Bytes in -> messages, messages -> bytes. Both ends keep one; `role` is this end's.

    After any error the connection is failed for good: bytes are never resynchronised.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.NEW
        self._peer = Role.EDGE if role is Role.DEVICE else Role.DEVICE
        self._buffer = bytearray()
        self._header: Header | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that do not yet make a message; never more than one message."""
        return len(self._buffer)

    @property
    def partial_payload(self) -> tuple[int, int]:
        """Request id and payload bytes of a message that is still coming; (0, 0) for none."""
        if self._header is None:
            return 0, 0
        payload = len(self._buffer) - HEADER.size - self._header.meta_bytes
        return self._header.request_id, max(payload, 0)

    def send(self, message: Message) -> bytes:
        """The bytes of a message this end sends; a `LocalProtocolError` where it may not."""
        after = TRANSITIONS.get((self.role, self.state, message.type))
        if after is None:
            raise LocalProtocolError(
                f"{self.role.value} in state '{self.state.value}': found {message.type.name}, "
                f"expected {self._allowed(self.role)}"
            )
        data = serialise(message)
        self.state = after
        return data

    def receive(self, data: bytes | memoryview) -> list[Message]:
        """The messages that `data` completes; a `RemoteProtocolError` where they may not come."""
        return list(self.messages(data))

    def messages(self, data: bytes | memoryview) -> Iterator[Message]:
        """The same one by one: whoever has had enough of them need not read the rest.

        What is not read is lost, and the connection with it.
        """
        if self.state is State.FAILED:
            raise RemoteProtocolError("connection: found bytes after a failure, expected none")
        found: list[Message] = []
        view = memoryview(data)
        try:
            while (taken := self._take(view, found)) is not None:
                view = view[taken:]
                if found:
                    yield found.pop()
        except RemoteProtocolError:
            self.state = State.FAILED
            self._buffer = bytearray()  # what was raised may still look at the old one
            raise

    def end_of_stream(self) -> None:
        """The peer closed; an error where it did so inside a message."""
        if self._buffer:
            expected = HEADER.size
            if self._header is not None:
                expected += self._header.meta_bytes + self._header.payload_bytes
            raise RemoteProtocolError(
                f"stream ended after {len(self._buffer)} bytes of a message, "
                f"expected {expected} bytes"
            )

    def _take(self, view: memoryview, found: list[Message]) -> int | None:
        """Move bytes until one more header or message is complete; None when all are used."""
        if not self._buffer and len(view) >= HEADER.size:
            return self._take_header(view, found)
        wanted = HEADER.size
        if self._header is not None:
            wanted += self._header.meta_bytes + self._header.payload_bytes
        taken = min(wanted - len(self._buffer), len(view))
        self._buffer += view[:taken]
        if len(self._buffer) < wanted:
            return None
        if self._header is None:
            self._header = parse_header(self._buffer)
            self._check(self._header.type)
            if self._header.meta_bytes or self._header.payload_bytes:
                return taken
        found.append(self._complete(self._header, memoryview(self._buffer)))
        self._buffer, self._header = bytearray(), None
        return taken

    def _take_header(self, view: memoryview, found: list[Message]) -> int:
        """The same where a message begins in `view`: what is whole there is copied once."""
        header = parse_header(view)
        self._check(header.type)
        whole = HEADER.size + header.meta_bytes + header.payload_bytes
        if len(view) >= whole:
            found.append(self._complete(header, view[:whole]))
            return whole
        self._header = header
        self._buffer += view
        return len(view)

    def _check(self, kind: MessageType) -> None:
        if (self._peer, self.state, kind) not in TRANSITIONS:
            raise RemoteProtocolError(
                f"{self._peer.value} in state '{self.state.value}': found {kind.name}, "
                f"expected {self._allowed(self._peer)}"
            )

    def _complete(self, header: Header, raw: memoryview) -> Message:
        """The message of a header, from its bytes `raw`."""
        middle = HEADER.size + header.meta_bytes
        meta = parse_metadata(bytes(raw[HEADER.size : middle]))
        message = Message(header.type, header.request_id, header.offset, meta, bytes(raw[middle:]))
        self.state = TRANSITIONS[(self._peer, self.state, header.type)]
        return message

    def _allowed(self, role: Role) -> str:
        names = [k.name for (who, state, k) in TRANSITIONS if (who, state) == (role, self.state)]
        return " or ".join(names) or "nothing"
