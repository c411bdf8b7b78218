"""Tensors put together from chunks: bounded in number and size, in order, cancellable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.wire.messages import Message, RemoteProtocolError, meta_int

MAX_TENSOR_BYTES = 8 * 1024 * 1024
MAX_TOTAL_BYTES = 16 * 1024 * 1024
MAX_OPEN = 32


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole tensor: its opening message's metadata and its bytes."""

    request_id: int
    meta: Mapping[str, Any]
    data: bytes


@dataclass(slots=True)
class _Open:
    meta: Mapping[str, Any]
    expected_bytes: int
    data: bytearray = field(default_factory=bytearray)


class Inbox:
    """Transfers that are under way, by request id. The opening message says `bytes`.

    At most `max_open` of them, each of at most `max_bytes`, together of `max_total_bytes`.
    """

    def __init__(
        self,
        max_open: int = MAX_OPEN,
        max_bytes: int = MAX_TENSOR_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
    ) -> None:
        self._open: dict[int, _Open] = {}
        self._max_open, self._max_bytes = max_open, max_bytes
        self._max_total_bytes = max_total_bytes

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: object) -> bool:
        """Whether a transfer is under way."""
        return request_id in self._open

    def begin(self, message: Message) -> Arrived | None:
        """An opening message (REQUEST, REPLY); whole at once where it announces 0 bytes."""
        expected = meta_int(message.meta, "bytes", 0, self._max_bytes)
        if message.request_id in self._open:
            raise RemoteProtocolError(f"request {message.request_id}: found it twice")
        if expected == 0:
            return Arrived(message.request_id, message.meta, b"")
        if len(self._open) >= self._max_open:
            raise RemoteProtocolError(
                f"requests under way: found {len(self._open) + 1}, expected at most "
                f"{self._max_open}"
            )
        announced = expected + sum(t.expected_bytes for t in self._open.values())
        if announced > self._max_total_bytes:
            raise RemoteProtocolError(
                f"bytes under way: found {announced} announced, expected at most "
                f"{self._max_total_bytes}"
            )
        self._open[message.request_id] = _Open(message.meta, expected)
        return None

    def add(self, message: Message) -> Arrived | None:
        """A chunk; the tensor where it is the last. Chunks of a closed request are ignored."""
        transfer = self._open.get(message.request_id)
        if transfer is None:
            return None
        at = len(transfer.data)
        if message.offset != at:
            raise RemoteProtocolError(
                f"chunk of request {message.request_id}: found offset {message.offset}, "
                f"expected {at}"
            )
        if not message.payload or at + len(message.payload) > transfer.expected_bytes:
            raise RemoteProtocolError(
                f"chunk of request {message.request_id}: found {len(message.payload)} bytes at "
                f"{at}, expected 1 to {transfer.expected_bytes - at}"
            )
        transfer.data += message.payload
        if len(transfer.data) < transfer.expected_bytes:
            return None
        del self._open[message.request_id]
        return Arrived(message.request_id, transfer.meta, bytes(transfer.data))

    def cancel(self, request_id: int) -> int:
        """Drop a transfer; gives the bytes that had arrived (0 where it is not under way)."""
        transfer = self._open.pop(request_id, None)
        return 0 if transfer is None else len(transfer.data)
