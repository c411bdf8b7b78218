"""Which connections an edge holds, and who may have one more: by network, certificate and greeting.

Newcomers are connections that have not greeted yet, TLS handshakes among them. There is room for
few of them, and the one that came first goes: those who never greet cannot shut out those who do.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from controller.edge.limits import EdgeLimits
from controller.link.accepting import AcceptRules
from controller.link.addresses import network_of
from controller.link.budget import Account, Accounts, Budget

MAX_ERRORS = 1000
"""What is kept of past trouble: an edge runs for years."""
QUIET_S = 15.0
"""Devices that are there say something every ten seconds."""


class Newcomer(Protocol):
    """What is asked of a connection that has not greeted yet."""

    name: str

    def abort(self) -> None:
        """Drop it; nothing more is read or written."""


class PeerFacts(Newcomer, Protocol):
    """What is asked of a device's connection."""

    greeted: bool
    network: str
    account: Account
    heard_s: float

    @property
    def ended(self) -> bool:
        """Whether it is being dropped."""

    def drop(self, error: str) -> None:
        """End it for an error; a device that greeted us hears why."""


class Connections(AcceptRules):
    """Everything happens on the edge's one communicating thread, `errors` aside."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.limits = limits
        """Those of now: they may be replaced."""
        self.accounts = Accounts(self._budget)
        self.peers: set[PeerFacts] = set()
        self.newcomers: dict[Newcomer, None] = {}
        """The oldest first."""
        self.errors: deque[str] = deque(maxlen=MAX_ERRORS)

    def _budget(self) -> Budget:
        return Budget(self.limits.idle_messages, self.limits.idle_messages_per_s)

    def refusal(self, address: str) -> str | None:
        """Why one more connection from an address is refused; None where it is not."""
        there = [one for one in self.peers if one.greeted]
        if len(there) >= self.limits.connections:
            return f"refused, {self.limits.connections} connections are open"
        network = network_of(address)
        if sum(one.network == network for one in there) >= self.limits.per_address:
            return f"refused, {self.limits.per_address} connections are open from {network}"
        return None

    def enter(self, newcomer: Newcomer) -> None:
        """One more that has not greeted; where there are too many, the one that came first goes."""
        while len(self.newcomers) >= self.limits.newcomers:
            oldest = next(iter(self.newcomers))
            self.errors.append(f"{oldest.name}: dropped, it had not greeted and others came")
            self.let_one_go()
        self.newcomers[newcomer] = None

    def settled(self, newcomer: Newcomer) -> None:
        """It has greeted, or is gone; twice is once."""
        self.newcomers.pop(newcomer, None)

    def let_one_go(self) -> bool:
        """Hang up the newcomer that came first."""
        oldest = next(iter(self.newcomers), None)
        if oldest is not None:
            del self.newcomers[oldest]
            oldest.abort()
        return oldest is not None

    def one_of_few(self, account: Account, now_s: float) -> str | None:
        """Why a certificate may have no further connection; None where it may.

        Of those that a device has lost without the edge's knowledge the quietest gives way.
        `now_s` is of the loop's clock, as `heard_s`.
        """
        most = self.limits.per_certificate
        own = [d for d in self.peers if d.greeted and not d.ended and d.account is account]
        if not account.certified or len(own) < most:
            return None
        quietest = min(own, key=lambda device: device.heard_s)
        if now_s - quietest.heard_s > QUIET_S:
            quietest.drop(f"more than {most} connections of this certificate, and it was silent")
            return None
        return f"refused, {most} connections of this certificate are open"

    def note(self, who: str, error: str) -> None:
        """Keep what befell a connection."""
        self.errors.append(f"{who}: {error}")

    def abort_all(self) -> None:
        """Drop every connection."""
        everybody: list[Newcomer] = [*self.newcomers, *self.peers]
        for one in everybody:
            one.abort()
