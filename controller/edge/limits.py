"""What one edge allows its devices; every bound is checked before anything is allocated."""

from __future__ import annotations

import msgspec


class EdgeLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of connections, bytes and seconds."""

    connections: int = 256
    """Open at once, over all addresses."""
    per_address: int = 256
    """Open at once from one address, of IPv6 from one /64 (a carrier's may be many devices')."""
    per_certificate: int = 8
    """Open at once of one device's certificate."""
    newcomers: int = 64
    """Of them not greeted yet, beside those that are: of more the one that came first goes."""
    strangers: int | None = None
    """An earlier name of `newcomers`: files that have it are read."""
    greeting_s: float = 5.0
    """From the connection to a whole greeting."""
    idle_s: float = 60.0
    """Without a byte: a device sends a keep-alive every ten seconds while nothing else goes."""
    requests: int = 32
    """Coming in at once on one connection."""
    admitted: int = 32
    """Waiting to be computed, or being computed, of one certificate or (without) connection."""
    idle_messages: int = 1000
    """That no answer came of, at once: of one certificate or (without) connection."""
    idle_messages_per_s: float = 500.0
    """And in the long run, of one certificate or connection."""
    tensor_bytes: int = 8 * 1024 * 1024
    """Announced by one request."""
    inbox_bytes: int = 16 * 1024 * 1024
    """Announced at once on one connection."""
    write_buffer_bytes: int = 4 * 1024 * 1024
    """Answers that wait for a device that does not read; one more byte and it is dropped."""
    stalled_s: float = 5.0
    """How long a device may take nothing of what waits for it."""
    intervals: int = 96
    """Different intervals of a model that are held ready: of more the one used longest ago goes."""
    intervals_bytes: int = 2**29
    """Weights of a model's intervals that are held ready: each has its own, and takes up to twice
    as much memory for them."""
    longest_s: float = 60.0
    """How long a request may be waited for, whatever it says."""
    warm: int = 256
    """Intervals that a greeting may announce."""
