"""What one end may ask of the other by messages that no answer comes of: so many at once, so many a
second. Beyond it the connection ends.

Reading a message costs its reader some ten microseconds of a processor, however little it holds, so
that a peer that says nothing of use could take all of it. Time is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from controller.wire import Message

USUAL_CHUNK_BYTES = 4096
"""A chunk of so many bytes costs no more than its bytes are worth."""


SMALL_READ_BYTES = 512
SMALL_READ = 0.1
"""Cost of a read that brings less and completes nothing: a peer that dribbles."""
LEAST_STOCK = 200.0
"""Of a new connection from a network that has used up what there is for it."""


def idle_cost(message: Message) -> float:
    """Of a message that belongs to nothing: one, and more for what it holds."""
    return 1.0 + bool(message.meta) + len(message.payload) / USUAL_CHUNK_BYTES


def read_cost(received: int, messages: int) -> float:
    """Of a read of so many bytes that completed so many messages."""
    return SMALL_READ if not messages and received < SMALL_READ_BYTES else 0.0


def chunk_cost(message: Message) -> float:
    """Of a chunk that somebody waits for: a small one takes as much of its reader's time."""
    return max(0.0, 1.0 - len(message.payload) / USUAL_CHUNK_BYTES)


@dataclass
class Budget:
    """A stock of messages' costs that fills up again with time (a token bucket)."""

    most: float
    per_s: float
    stock: float = math.inf
    """What is there now (full)."""

    def __post_init__(self) -> None:
        """Nobody has asked yet."""
        self.stock = min(self.stock, self.most)
        self._seen_s: float | None = None

    def spend(self, cost: float, now_s: float) -> bool:
        """Take a cost out; False where there is not enough."""
        self.look(now_s)
        self.stock -= cost
        return self.stock >= 0.0

    def look(self, now_s: float) -> float:
        """What there is by now."""
        past_s = 0.0 if self._seen_s is None else max(now_s - self._seen_s, 0.0)
        self._seen_s = now_s
        self.stock = min(self.stock + past_s * self.per_s, self.most)
        return self.stock

    def give_back(self, cost: float) -> None:
        """What was taken has come to something after all."""
        self.stock = min(self.stock + cost, self.most)

    def __str__(self) -> str:
        return f"{self.most:g} messages that no answer comes of, then {self.per_s:g} a second"


@dataclass
class Account:
    """What one device holds over all its connections: known by its certificate, else what comes
    from one network, where several devices may be.
    """

    budget: Budget
    certified: bool
    connections: int = 0
    admitted: int = 0

    def opened(self, now_s: float) -> Budget:
        """The budget of a connection: its device's, else its own, which it takes from what there is
        for all that come from one network. Who comes back thus gains nothing, and nobody pays for
        a neighbour.
        """
        if self.certified:
            return self.budget
        taken = min(max(self.budget.look(now_s), LEAST_STOCK), self.budget.most)
        self.budget.stock -= taken
        return Budget(self.budget.most, self.budget.per_s, taken)

    def closed(self, budget: Budget) -> None:
        """A connection has ended: what it did not use is there again."""
        if budget is not self.budget:
            self.budget.give_back(budget.stock)


class Accounts:
    """Accounts by certificate or network. They outlive a connection: who comes back owes still."""

    def __init__(self, make: Callable[[], Budget], most: int = 4096) -> None:
        """`most`: of more the one asked for longest ago that has no connection is forgotten."""
        self._make, self._most = make, most
        self._known: dict[str, Account] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: str, *, certified: bool) -> Account:
        """The account of a certificate's digest, or of a network."""
        account = self._known.pop(key, None) or Account(self._make(), certified)
        self._known[key] = account
        if len(self._known) > self._most:
            idle = next((k for k, one in self._known.items() if not one.connections), key)
            if idle != key:
                del self._known[idle]
        return account
