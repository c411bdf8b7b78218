"""What the carrier is asked for, and what it says: one JSON document each."""

from __future__ import annotations

from typing import Literal

import msgspec


class TraceOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trace as `BandwidthTrace` has it; numbers are doubles, little-endian.

    A list of two million numbers would be a hundred megabytes of objects at each end.
    """

    name: str
    times_s: bytes
    rates_bps: bytes
    duration_s: float


class DirectionOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One direction: its trace and the bytes that its queue holds."""

    trace: TraceOrder
    queue_bytes: int


class CarrierOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link; `past_end` is what follows the traces' ends. Without `down` both ways are alike.

    `delay_s` is each way's, `loss` a share, `seed` draws what is lost. `outside` is where the
    process that asks lives, on a machine or itself behind a link: services that packets ask for get
    a socket, which is handed over to it. With 'nothing' the outer namespace is the other end.
    `resolvers` are loopback addresses that are meant outside.
    """

    up: DirectionOrder
    down: DirectionOrder | None
    past_end: Literal["wrap", "stop"]
    delay_s: float
    loss: float
    seed: int
    outside: Literal["nothing", "machine", "link"]
    resolvers: tuple[str, ...]


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Both ends exist. Paths of namespaces to enter; `user` is empty where none was needed."""

    user: str
    inner: str
    outer: str
    congestion_control: str
    """TCP's, in both."""


class Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """The link could not be made, and why."""

    why: str


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """A packet asks for a port outside; the socket of the link's outer end comes with this."""

    kind: Literal["tcp", "udp"]
    port: int


class DirectionCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a direction's packets; `worst_lateness_s` is of handing one over."""

    packets: int
    dropped: int
    lost: int
    delivered: int
    delivered_bytes: int
    worst_lateness_s: float


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Counts so far, and the seconds of processor time that the carrier took."""

    up: DirectionCounts
    down: DirectionCounts
    cpu_s: float


Said = Ready | Failed | Service | Report
_SAID: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def read_said(message: bytes) -> Said:
    """What the carrier said."""
    return _SAID.decode(message)
