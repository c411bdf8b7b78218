"""When a trace lets bytes pass: delivery opportunities on a grid.

Every step of the grid is an opportunity. It delivers what the trace's integral grew by in that
step. A trace of packets (Mahimahi) has steps of a millisecond, each with 1,500 bytes for every one
of its lines; a trace of rates has finer steps with a small, even share. Whole bytes are granted; a
fraction is carried to the next opportunity, so that the sum never leaves the integral by a byte.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

import numpy as np

from traces.trace import BandwidthTrace, PastEnd

PACKET_BYTES = 1500
"""The greatest packet, and what one line of a file of packets lets pass."""
PACKETS_A_SECOND, RATES_A_SECOND = 1000, 4000
"""Steps of the grid."""
STEPS = 4096
"""Opportunities that are worked out at a time."""
ROUNDING_BYTES = 1e-3
"""What sums of floating-point numbers may lack of a whole byte."""


def is_of_packets(trace: BandwidthTrace) -> bool:
    """Whether a trace lets whole packets pass in whole milliseconds, and nothing else."""
    packets = trace.rates_bps / (8.0 * PACKET_BYTES * PACKETS_A_SECOND)
    ms = np.append(trace.times_s, trace.duration_s) * PACKETS_A_SECOND
    return all(np.allclose(found, np.round(found), rtol=0.0, atol=1e-6) for found in (packets, ms))


def on_grid(trace: BandwidthTrace) -> BandwidthTrace:
    """A trace of pieces finer than the grid as one piece a step: it grants the same, to a step."""
    steps = math.ceil(trace.duration_s * RATES_A_SECOND)
    if len(trace.times_s) <= steps:
        return trace
    grid_s = np.arange(steps) / RATES_A_SECOND
    before = (grid_s == 0) | (grid_s < trace.duration_s - 1e-9)
    edges_s = np.append(grid_s[before], trace.duration_s)
    rates_bps = np.diff(trace.bits_before(edges_s, "stop")) / np.diff(edges_s)
    return BandwidthTrace(trace.name, edges_s[:-1], np.maximum(rates_bps, 0.0), trace.duration_s)


class Opportunities:
    """Bytes that a trace has granted by a moment, and the moment at which it has granted so many.

    `past_end` says what follows the trace's end: 'wrap' repeats it, 'stop' grants nothing more.
    """

    def __init__(self, trace: BandwidthTrace, past_end: PastEnd) -> None:
        self._trace, self._past_end = trace, past_end
        self._per_s = PACKETS_A_SECOND if is_of_packets(trace) else RATES_A_SECOND
        self._part = lru_cache(maxsize=4)(self._worked_out)
        self._newest = 0

    def granted_bytes(self, t_s: float) -> int:
        """Bytes of all opportunities up to `t_s`, that moment's own included."""
        if t_s < 0:
            return 0
        part, step = divmod(math.floor(t_s * self._per_s + 1e-6), STEPS)
        return self._part(part)[step]

    def time_of(self, total_bytes: int) -> float:
        """The first opportunity by which `total_bytes` are granted; inf where that never comes."""
        if total_bytes <= 0:
            return 0.0
        part = self._newest
        if not self._part(part)[0] < total_bytes <= self._part(part)[-1]:
            part = self._part_of(total_bytes)
            if part < 0:
                return math.inf
            self._newest = part
        return (part * STEPS + bisect_left(self._part(part), total_bytes)) / self._per_s

    def _part_of(self, total_bytes: int) -> int:
        """The part in which the sum reaches `total_bytes`; -1 where none does."""
        end_s = float(
            self._trace.transfer_end(0.0, total_bytes - ROUNDING_BYTES / 2, self._past_end)
        )
        if math.isinf(end_s):
            return -1
        part = int(end_s * self._per_s) // STEPS
        while part > 0 and self._part(part)[0] >= total_bytes:
            part -= 1
        while self._part(part)[-1] < total_bytes:
            part += 1
        return part

    def _worked_out(self, part: int) -> list[int]:
        """Sums by the part's opportunities, from the last one before it to its own last."""
        steps = np.arange(part * STEPS, (part + 1) * STEPS + 1)
        # a division: 3 * 0.001 lies above 3 ms, and would take in a line of the fourth
        bits = self._trace.bits_before(steps / self._per_s, self._past_end)
        granted: list[int] = np.floor(bits / 8.0 + ROUNDING_BYTES).astype(np.int64).tolist()
        return granted
