"""Troubles that come again and again: said once, then counted.

A device that an edge refuses tries again for as long as it runs. Every try is the same line but for
its port. The first one is written; then, at growing intervals, how many there were.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FIRST_S, LONGEST_S = 60.0, 3600.0
"""A trouble that goes on is said again after so long; then after twice as long each time."""
MOST_KEPT = 256
"""Troubles that are remembered; of more the one not met for longest is forgotten."""


@dataclass(slots=True)
class _Trouble:
    since_s: float
    every_s: float
    times: int


class RepeatedTroubles:
    """Which lines `HOST:PORT: trouble` are to be written. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, _Trouble] = OrderedDict()

    def lines(self, line: str) -> Iterator[str]:
        """What is to be written of a new line: itself, a count of the last ones, or nothing."""
        key, now_s = without_port(line), self._clock()
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= MOST_KEPT:
                yield from _count(*self._kept.popitem(last=False), now_s)
            self._kept[key] = _Trouble(now_s, FIRST_S, 0)
            yield line
            return
        known.times += 1
        self._kept.move_to_end(key)

    def due(self) -> Iterator[str]:
        """Counts whose time has come. What has not come again since is forgotten."""
        now_s = self._clock()
        for key, known in list(self._kept.items()):
            if now_s - known.since_s < known.every_s:
                continue
            if not known.times:
                del self._kept[key]
                continue
            yield from _count(key, known, now_s)
            every_s = min(2.0 * known.every_s, LONGEST_S)
            self._kept[key] = _Trouble(now_s, every_s, 0)

    def rest(self) -> Iterator[str]:
        """At the end: what was counted and not said yet."""
        now_s = self._clock()
        while self._kept:
            yield from _count(*self._kept.popitem(last=False), now_s)


def without_port(line: str) -> str:
    """The line without the port of the address that it begins with: each try has another one."""
    address, colon, trouble = line.partition(": ")
    host, _, port = address.rpartition(":")
    return f"{host}{colon}{trouble}" if host and port.isdecimal() else line


def _count(key: str, known: _Trouble, now_s: float) -> Iterator[str]:
    if known.times:
        times = "once" if known.times == 1 else f"{known.times:,} times"
        yield f"{key} ({times} more in {max(now_s - known.since_s, 1.0):.0f} s)"
