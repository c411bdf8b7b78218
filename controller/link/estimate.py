"""What a device knows of its link's rate and round trip, and how much it therefore hands over.

No socket, thread or clock: times and measurements are passed in. The reasons are TCP's. Bytes that
were handed to the kernel cannot be taken back, so that a cancelled upload delays the next frame by
what it left there; and a window that is too small makes a fast link look slow.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from controller.interface import Measurement

UPLOAD_CHUNK_BYTES = 2048
"""Small chunks end a cancelled upload soon on a slow link; a header is 1.4 % of one."""
CHUNK_S = 0.002
"""On a link known to be fast as much is handed over at once as it carries in so long."""
BURST_BYTES = 262144
"""But no more than this."""
NOT_SENT_BYTES = 4096
SEND_BUFFER_BYTES = 16384
BLIND_BUFFER_BYTES = 65536
"""While nothing is known of the link: TCP itself sends no more than its first window and as much
again as has come through, and a buffer below that would look like a slow link."""
BUFFER_S = 0.005
"""On a link known to be fast the send buffer holds what it carries in so long: what a cancelled
upload leaves there delays the next frame by no more."""
WINDOWS = 2.0
"""And so many bandwidth-delay products."""
LARGEST_BUFFER_BYTES = 1 << 20
RTT_WINDOW_S = 10.0
"""The round trip is the least of so long: a ping that waits behind an upload says nothing of it."""
QUEUE_GAIN = 1.25
"""An upload begins once no more than this many bandwidth-delay products are on the way."""
LEAST_IN_FLIGHT_BYTES = 1448
BLIND_IN_FLIGHT_BYTES = 14480
"""TCP's initial window (RFC 6928): what may be on the way before the link's rate is known."""


@dataclass
class LinkEstimate:
    """Rate and round trip of one link, and the sizes that follow from them."""

    rtt_s: float | None = None
    """Least of the last `RTT_WINDOW_S`; None before any."""
    rate_bps: float | None = None
    """As the newest upload tells it; None before any."""
    buffer_bytes: int = BLIND_BUFFER_BYTES
    """Of the send buffer that was asked for last."""
    _rtts: deque[tuple[float, float]] = field(default_factory=deque, init=False)

    def begin(self) -> None:
        """A new connection: its rate is not known, its send buffer is that of one not known."""
        self._rtts.clear()
        self.rate_bps, self.buffer_bytes = None, BLIND_BUFFER_BYTES

    def round_trip(self, now_s: float, seconds: float) -> None:
        """A ping has come back, `seconds` after it went."""
        self._rtts.append((now_s, seconds))
        while self._rtts[0][0] < now_s - RTT_WINDOW_S:
            self._rtts.popleft()
        self.rtt_s = min(rtt for _, rtt in self._rtts)

    def learn(self, measurement: Measurement | None) -> None:
        """Take the rate that an upload has shown (None: it has shown none)."""
        if measurement is not None:
            self.rate_bps = measurement.rate_bps

    @property
    def usual_rtt_s(self) -> float:
        """What a round trip usually takes (the median; 0 before any)."""
        return statistics.median(rtt for _, rtt in self._rtts) if self._rtts else 0.0

    @property
    def burst_bytes(self) -> int:
        """Bytes to hand to the kernel at once."""
        rate = self.rate_bps  # once: another thread learns meanwhile
        if rate is None:
            return UPLOAD_CHUNK_BYTES
        return min(max(UPLOAD_CHUNK_BYTES, int(rate * CHUNK_S / 8.0)), BURST_BYTES)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that may wait in the kernel unsent before it asks for more."""
        return max(NOT_SENT_BYTES, int((self.rate_bps or 0.0) * CHUNK_S / 8.0))

    def new_buffer_bytes(self) -> int | None:
        """The send buffer to ask for; None where the one that was asked for will do."""
        rate = self.rate_bps
        if rate is None:
            return None
        # twice what the link holds: a window that is too small would look like a slow link
        carried = rate * (BUFFER_S + WINDOWS * (self.rtt_s or 0.0)) / 8.0
        wanted = min(max(SEND_BUFFER_BYTES, int(carried)), LARGEST_BUFFER_BYTES)
        if 0.5 <= wanted / self.buffer_bytes <= 2.0:
            return None
        self.buffer_bytes = wanted
        return wanted

    @property
    def room_bytes(self) -> float:
        """What may be on the way when an upload begins."""
        rate = self.rate_bps
        if rate is None:
            return float(BLIND_IN_FLIGHT_BYTES)
        flying = QUEUE_GAIN * rate * (self.rtt_s or 0.0) / 8.0
        return max(float(LEAST_IN_FLIGHT_BYTES), flying)
