"""The wire protocol, sans-IO: bytes in -> messages, messages -> bytes, transitions in a table.

No socket, thread or clock here; those are `controller.link`'s. Nothing is ever unpickled.
"""

from controller.wire.connection import Connection, Role
from controller.wire.inbox import Arrived, Inbox
from controller.wire.messages import (
    CHUNK_BYTES,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    parse_header,
    serialise,
)

__all__ = [
    "CHUNK_BYTES",
    "Arrived",
    "Connection",
    "Inbox",
    "LocalProtocolError",
    "Message",
    "MessageType",
    "RemoteProtocolError",
    "Role",
    "parse_header",
    "serialise",
]
