"""All connections to the local interface: how many are open, who gives way, whose time is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.http.giving_way import overdue, spareable
from controller.daemon.http.turns import Turns
from controller.link.accepting import AcceptRules

if TYPE_CHECKING:
    from controller.daemon.http.connections import HttpConnection

SWEEP_S = 0.5


class ConnectionTable(AcceptRules):
    """All that are open. `limits` is asked anew each time: it may be replaced while it serves."""

    def __init__(
        self,
        limits: Callable[[], LimitSettings],
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.log, self._limits = clock, log, limits
        self.most: int | None = None
        """What the system's limits leave, where that is less."""
        self.open: dict[HttpConnection, None] = {}
        """The one that came first is the first."""
        self.turns = Turns()
        self.coming = 0
        """For whom room was made, and who have no protocol yet."""

    def make_room(self) -> bool:
        """Room for one more, who is coming then; False where nobody can give way."""
        while len(self.open) + self.coming >= self._allowed():
            if not self.let_one_go():
                return False
        self.coming += 1
        return True

    def crowded(self) -> bool:
        """Newcomers come in small groups, so that none gives way before it could say a word."""
        return self.coming >= max(self._allowed() // 4, 1)

    def _allowed(self) -> int:
        allowed = self._limits().connections
        return allowed if self.most is None else min(allowed, self.most)

    def lost(self) -> None:
        """One for whom room was made does not come."""
        self.coming -= 1

    def let_one_go(self) -> bool:
        """Hang up who can be spared most; False where nobody can."""
        ranked = [(rank, one) for one in self.open if (rank := spareable(one)) is not None]
        if not ranked:
            self.log.warning("every one of %d connections has a request under way", len(self.open))
            return False
        (settled, since_s), one = min(ranked, key=lambda found: found[0])
        self.log.warning(
            "%d connections are open or coming: the one %s longest (%.1f s) is hung up",
            len(self.open) + self.coming,
            "idle" if settled else "waited for",
            self.clock() - since_s,
        )
        one.hang_up()
        return True

    def relieve(self) -> None:
        """Hang up who has taken nothing longest, where answers that nobody takes fill the memory.

        Together they may be as long as all requests. The newest one always has its time.
        """
        waiting = [one for one in self.open if one.stalled_s is not None]
        waiting.sort(key=lambda one: one.stalled_s or 0.0)
        held, most = sum(one.unread_bytes for one in waiting), self._limits().bodies_bytes
        for one in waiting[:-1]:
            if held <= most:
                return
            self.log.warning(
                "%d bytes of answers are not taken, expected at most %d: the one that takes "
                "nothing longest is hung up", held, most,
            )  # fmt: skip
            held -= one.unread_bytes
            one.hang_up()

    def sweep(self) -> None:
        """Hang up who has had its time."""
        now, limits = self.clock(), self._limits()
        for one in list(self.open):
            why = overdue(one, now, limits)
            if why is not None:
                self.log.info("a connection is hung up: %s", why)
                one.hang_up()

    async def tend(self) -> None:
        """Sweep for as long as the interface serves."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()
