"""When a trace lets bytes pass: delivery opportunities on a grid of milliseconds.

Every millisecond of the trace is an opportunity. It delivers what the trace's integral grew by in
that millisecond: of a file of packets (Mahimahi) 1,500 bytes for each of its lines, of a file of
rates a small, even share. Whole bytes are granted; a fraction is carried to the next opportunity,
so that the sum never leaves the integral by a byte.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

import numpy as np

from traces.trace import BandwidthTrace, PastEnd

STEP_S = 0.001
STEPS = 4096
"""Opportunities that are worked out at a time."""
ROUNDING_BYTES = 1e-3
"""What sums of floating-point numbers may lack of a whole byte."""


class Opportunities:
    """Bytes that a trace has granted by a moment, and the moment at which it has granted so many.

    `past_end` says what follows the trace's end: 'wrap' repeats it, 'stop' grants nothing more.
    """

    def __init__(self, trace: BandwidthTrace, past_end: PastEnd) -> None:
        self._trace, self._past_end = trace, past_end
        self._part = lru_cache(maxsize=4)(self._worked_out)
        self._newest = 0

    def granted_bytes(self, t_s: float) -> int:
        """Bytes of all opportunities up to `t_s`, that moment's own included."""
        if t_s < 0:
            return 0
        part, step = divmod(math.floor(t_s / STEP_S + 1e-6), STEPS)
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
        return (part * STEPS + bisect_left(self._part(part), total_bytes)) * STEP_S

    def _part_of(self, total_bytes: int) -> int:
        """The part in which the sum reaches `total_bytes`; -1 where none does."""
        end_s = float(self._trace.transfer_end(0.0, total_bytes - ROUNDING_BYTES / 2, self._past_end))
        if math.isinf(end_s):
            return -1
        part = int(end_s / STEP_S) // STEPS
        while part > 0 and self._part(part)[0] >= total_bytes:
            part -= 1
        while self._part(part)[-1] < total_bytes:
            part += 1
        return part

    def _worked_out(self, part: int) -> list[int]:
        """Sums by the part's opportunities, from the last one before it to its own last."""
        steps = np.arange(part * STEPS, (part + 1) * STEPS + 1)
        # a division: 3 * 0.001 lies above 3 ms, and would take in a line of the fourth
        bits = self._trace.bits_before(steps / round(1 / STEP_S), self._past_end)
        granted: list[int] = np.floor(bits / 8.0 + ROUNDING_BYTES).astype(np.int64).tolist()
        return granted
