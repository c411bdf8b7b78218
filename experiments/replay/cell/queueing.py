"""One direction of the link, without sockets and clocks: packets in, deliveries out.

A packet waits in a queue of bounded bytes (drop-tail), is served by the trace's opportunities, and
arrives after the base delay. As in Mahimahi, several small packets share one opportunity, and a
packet that needs more than is left of one goes on with the next; what an opportunity could carry
while nothing waits is lost.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from experiments.replay.cell.opportunities import PACKET_BYTES, Opportunities

LEAST_QUEUE_BYTES = 10 * PACKET_BYTES
"""A queue given in time holds TCP's first window, however slow the trace."""


def queue_bytes(mean_bps: float, queue_s: float) -> int:
    """A queue of `queue_s` in bytes: what the trace's mean rate carries meanwhile."""
    return max(round(mean_bps * queue_s / 8.0), LEAST_QUEUE_BYTES)


@dataclass
class Counts:
    """What became of a direction's packets so far.

    `dropped` found the queue full, `lost` were lost on the air, `worst_lateness_s` is how long
    after its moment a packet was taken at worst.
    """

    packets: int = 0
    dropped: int = 0
    lost: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    worst_lateness_s: float = 0.0


class CellQueue:
    """Packets of one direction; times are those of any clock that never goes back.

    Until `begin` a steady `before_bps` carries them. `loss` is the share that is lost once served:
    a lost packet has used its opportunities, as on the air. `seed` draws which.
    """

    def __init__(
        self, opportunities: Opportunities, limit_bytes: int, delay_s: float,
        loss: float = 0.0, seed: int = 0, before_bps: float = math.inf,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self._opportunities, self._limit_bytes, self._delay_s = opportunities, limit_bytes, delay_s
        self._loss, self._draws = loss, random.Random(seed)
        self._before_bps, self._before_until_s = before_bps, -math.inf
        self._begin_s = math.inf
        self._served_bytes = 0
        self._free_s = -math.inf
        self._waiting: deque[tuple[float, int]] = deque()
        self._waiting_bytes = 0
        self._under_way: deque[tuple[float, bytes]] = deque()

    def begin(self, at_s: float) -> None:
        """Let the trace's time 0 be `at_s`, now or later."""
        self._begin_s, self._served_bytes = at_s, 0

    def offer(self, now_s: float, packet: bytes) -> bool:
        """Take a packet in; False where the queue has no room for it."""
        self.counts.packets += 1
        size = len(packet)
        if size > self._limit_bytes - self.waiting_bytes(now_s):
            self.counts.dropped += 1
            return False
        through_s = self._through(now_s, size)
        self._free_s = through_s
        self._waiting.append((through_s, size))
        self._waiting_bytes += size
        if self._loss and self._draws.random() < self._loss:
            self.counts.lost += 1
        else:
            self._under_way.append((through_s + self._delay_s, packet))
        return True

    def waiting_bytes(self, now_s: float) -> int:
        """Bytes in the queue, a packet that is being served with all of its own."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_s:
            self._waiting_bytes -= waiting.popleft()[1]
        return self._waiting_bytes

    def due_s(self) -> float:
        """When the next packet arrives; inf where none will."""
        return self._under_way[0][0] if self._under_way else math.inf

    def take(self, now_s: float) -> list[bytes]:
        """The packets that have arrived by now, in their order."""
        due = self._under_way
        found = []
        while due and due[0][0] <= now_s:
            at_s, packet = due.popleft()
            found.append(packet)
            self.counts.delivered_bytes += len(packet)
            self.counts.worst_lateness_s = max(self.counts.worst_lateness_s, now_s - at_s)
        self.counts.delivered += len(found)
        return found

    def _through(self, now_s: float, size: int) -> float:
        """When a packet's last byte is served."""
        if now_s < self._begin_s:
            self._before_until_s = max(now_s, self._free_s) + 8.0 * size / self._before_bps
            return self._before_until_s
        idle_s = max(now_s, self._before_until_s)
        gone = self._opportunities.granted_bytes(idle_s - self._begin_s)
        self._served_bytes = max(self._served_bytes, gone) + size
        return max(self._begin_s + self._opportunities.time_of(self._served_bytes), self._free_s)
