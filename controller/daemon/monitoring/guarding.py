"""How many frames of the last minute a policy left to the robust planner, and when that is said.

A policy that meets a link unlike those of its training hands frames over, and frames are answered
all the same. Without a word nobody would notice that it is the planner that runs.
"""

from __future__ import annotations

import math
from collections import deque

from controller.daemon.monitoring.counters import CountOfMany

WINDOW_S = 60.0
MOST = 0.5
"""Said where a greater share of a whole window's frames was handed over."""
AGAIN_S = 3600.0
"""Said once in so long."""


class HandedOver:
    """The share of the last `WINDOW_S` seconds' frames; `look` once in a while, on one thread."""

    def __init__(self) -> None:
        self._fallbacks = CountOfMany()
        self._looks: deque[tuple[float, int, float]] = deque()
        self._said_s = -math.inf
        self.share: float | None = None
        """Of the last minute's frames; None where there were none."""

    def look(self, controller: str, now_s: float, frames: int, fallbacks: float) -> str | None:
        """Take in what was counted up to `now_s`; the line to be logged, if one is due.

        `frames` came since the start, of which the present controller, named `controller`, left
        `fallbacks` to the robust planner.
        """
        looks = self._looks
        looks.append((now_s, frames, self._fallbacks.total(fallbacks)))
        while len(looks) > 2 and now_s - looks[1][0] >= WINDOW_S:
            looks.popleft()
        since_s, earlier, left_earlier = looks[0]
        came, left = frames - earlier, looks[-1][2] - left_earlier
        self.share = min(left / came, 1.0) if came else None
        whole = now_s - since_s >= WINDOW_S
        if not whole or self.share is None or self.share <= MOST or now_s < self._said_s + AGAIN_S:
            return None
        self._said_s = now_s
        return (
            f"controller {controller}: the robust planner decided {100 * self.share:.0f} % of the "
            "last minute's frames; found a link outside the policy's training, expected one like it"
        )
