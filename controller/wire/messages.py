"""One message: a fixed header, a small JSON map, raw bytes. Sizes are checked before allocation.

Header, 28 bytes, big-endian: magic `CNFR`, version u8, type u8, reserved u16 (0), request id u64,
offset u32 (of a chunk in its tensor), metadata length u32, payload length u32.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from artefacts import CoinferError

MAGIC = b"CNFR"
VERSION = 1
HEADER = struct.Struct(">4sBBHQIII")
MAX_METADATA_BYTES = 4096
MOST_SHOWN = 200
"""Characters of the other end's that a message of ours repeats."""
CHUNK_BYTES = 16384
"""Most payload of one message: a cancelled upload ends between chunks."""


class LocalProtocolError(CoinferError):
    """Our own end tried to send what the protocol does not allow: our mistake."""


class RemoteProtocolError(CoinferError):
    """The other end sent what the protocol does not allow; the connection must be dropped."""


class MessageType(enum.IntEnum):
    """What a message is; the number is on the wire."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    CHUNK = 4
    CANCEL = 5
    CANCELLED = 6
    REPLY = 7
    REFUSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. `meta` is a flat map; unknown keys are ignored by whoever reads it."""

    type: MessageType
    request_id: int = 0
    offset: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: what follows it, and how long it is."""

    type: MessageType
    request_id: int
    offset: int
    meta_bytes: int
    payload_bytes: int


def serialise(message: Message) -> bytes:
    """A message as bytes; a `LocalProtocolError` where it is too large."""
    meta = msgspec.json.encode(message.meta) if message.meta else b""
    if len(meta) > MAX_METADATA_BYTES:
        raise LocalProtocolError(
            f"{message.type.name}: found {len(meta)} bytes of metadata, expected at most "
            f"{MAX_METADATA_BYTES}"
        )
    if len(message.payload) > CHUNK_BYTES:
        raise LocalProtocolError(
            f"{message.type.name}: found {len(message.payload)} bytes of payload, expected at "
            f"most {CHUNK_BYTES}"
        )
    header = HEADER.pack(
        MAGIC,
        VERSION,
        message.type,
        0,
        message.request_id,
        message.offset,
        len(meta),
        len(message.payload),
    )
    return header + meta + message.payload


def parse_header(data: bytes | bytearray | memoryview) -> Header:
    """The header at the start of `data` (28 bytes or more), every field checked."""
    magic, version, kind, _, request_id, offset, meta, payload = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise RemoteProtocolError(f"magic: found {bytes(magic)!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise RemoteProtocolError(f"protocol version: found {version}, expected {VERSION}")
    try:
        known = MessageType(kind)
    except ValueError:
        raise RemoteProtocolError(f"message type: found {kind}, expected 1 to 10") from None
    if meta > MAX_METADATA_BYTES:
        raise RemoteProtocolError(
            f"metadata length: found {meta}, expected at most {MAX_METADATA_BYTES}"
        )
    if payload > CHUNK_BYTES:
        raise RemoteProtocolError(
            f"payload length: found {payload}, expected at most {CHUNK_BYTES}"
        )
    return Header(known, request_id, offset, meta, payload)


def parse_metadata(data: bytes) -> dict[str, Any]:
    """The metadata map; anything but a JSON object is refused."""
    if not data:
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"metadata: found invalid JSON ({error})") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(
            f"metadata: found {type(value).__name__}, expected a map of fields"
        )
    return value


def shown(value: object) -> str:
    """Something of the other end's, fit for a line of a log: quoted, without controls, bounded."""
    try:
        return repr(value)[:MOST_SHOWN]
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def shown_text(value: object) -> str:
    """The same of what should be text, without the quotes."""
    return repr(value)[1:-1][:MOST_SHOWN] if isinstance(value, str) else shown(value)


def meta_int(meta: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """An integer field within [low, high]."""
    value = meta.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RemoteProtocolError(
            f"{key}: found {shown(value)}, expected an integer {low} to {high}"
        )
    return value


def meta_number(meta: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number field."""
    value = meta.get(key, default)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not -1e18 < value < 1e18:
        raise RemoteProtocolError(f"{key}: found {shown(value)}, expected a finite number")
    return float(value)


def meta_within(
    meta: Mapping[str, Any], key: str, low: float, high: float, default: float | None = None
) -> float:
    """A number field within [low, high]."""
    value = meta_number(meta, key, default)
    if not low <= value <= high:
        raise RemoteProtocolError(f"{key}: found {value:g}, expected {low:g} to {high:g}")
    return value


def meta_text(meta: Mapping[str, Any], key: str) -> str:
    """A text field."""
    value = meta.get(key)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{key}: found {shown(value)}, expected text")
    return value


def meta_shape(meta: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """A tensor shape: one to five extents of 1 to 65,536."""
    value = meta.get(key)
    plausible = isinstance(value, list) and 1 <= len(value) <= 5
    if not plausible or not all(
        isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= 65536 for v in value or ()
    ):
        raise RemoteProtocolError(f"{key}: found {shown(value)}, expected one to five sizes")
    return tuple(value or ())
