"""The paper's cost model: what a plan over three tiers takes, and how often it is right.

Tier 0 runs blocks 1 to `first`, tier 1 goes on to `second`, tier 2 to `last`; a tier may run none.
Behind the last block of every tier but the last stands an exit with one threshold for all. What
goes on is written to bytes, sent, and read; results go back to tier 0. From tier 0 to tier 2
without a stop the packets pipeline over both hops.

An exit was measured on all samples, so what leaves at a second exit needs assumptions. Samples are
taken to be nested: those that leave at the first exit would leave at the second, too. A deeper exit
that fewer samples would leave at takes none. How often the deeper exit is right of those that only
leave there is its `Composition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from experiments.analyses.portend.measurements import Exits, Network, Serialisation

Composition = Literal["bound", "independent", "nested"]
"""How often an exit is right of the samples that earlier exits have left to it.

`bound`: all its wrong answers are among them, so no data can be worse. `independent`: as often as
of all its samples. `nested`: of the others it would have answered as many rightly as they did.
"""
COMPOSITIONS: tuple[Composition, ...] = ("bound", "independent", "nested")


@dataclass(frozen=True, slots=True)
class Platform:
    """Three machines in a row, and the links between them: the paper's."""

    machines: tuple[str, str, str] = ("a1.medium", "m4.large", "g4dn.xlarge")
    rates_bps: tuple[float, float] = (10e6, 400e6)
    propagation_ms: tuple[float, float] = (20.0, 40.0)
    """One way."""
    packet_bytes: float = 1500.0


@dataclass(frozen=True, slots=True)
class TierPlan:
    """Where every tier ends, and when an exit is sure enough (None: no exits)."""

    first: int
    """The last block of tier 0; 0: it runs none."""
    second: int
    """Of tier 1; `first`: it runs none."""
    last: int
    """Of tier 2, and of the plan; `second`: it runs none."""
    threshold: float | None = None
    """Of the normalised entropy, below which a sample leaves."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.second <= self.last or self.last < 1:
            raise UsageError(
                f"plan: found tiers that end at {self.first}, {self.second}, {self.last}, expected "
                "numbers that do not fall, the last above 0"
            )

    @property
    def tiers(self) -> list[tuple[int, int, int]]:
        """(tier, first block, last block) of every tier that runs some."""
        ends = (0, self.first, self.second, self.last)
        return [(k, ends[k] + 1, ends[k + 1]) for k in range(3) if ends[k + 1] > ends[k]]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the model says of a plan."""

    latency_ms: float
    """Mean over samples."""
    accuracy: float
    exit_shares: tuple[float, ...]
    """Of the samples, at the end of every tier that runs blocks."""


@dataclass(frozen=True, eq=False)
class Costs:
    """The cost model of one network on one platform."""

    network: Network
    exits: Exits
    platform: Platform
    serialisation: Mapping[str, Serialisation]
    composition: Composition = "bound"

    def latency_ms(self, tier: int) -> Floats:
        """(N + 2, N + 2) of a tier, from block to block."""
        machine = self.platform.machines[tier]
        found = self.network.latency_ms.get(machine)
        if found is None:
            known = ", ".join(sorted(self.network.latency_ms))
            raise UsageError(f"machine: found '{machine}', expected one of {known}")
        return found

    def hop_ms(self, source: int, target: int, count: Floats) -> Floats:
        """Milliseconds until so many bytes, written on one tier, are read on another one."""
        made, ends = self.platform, (self.platform.machines[source], self.platform.machines[target])
        for machine in ends:
            if machine not in self.serialisation:
                known = ", ".join(sorted(self.serialisation))
                raise UsageError(f"machine: found '{machine}', expected one of {known}")
        rates = made.rates_bps[source:target]
        slowest = min(range(len(rates)), key=lambda k: rates[k])
        sending = 8e3 * count / rates[slowest]
        packet = np.minimum(made.packet_bytes, count)
        # over two hops one packet is still to cross the quicker link when the slower one is done
        sending = sending + sum(8e3 * packet / r for k, r in enumerate(rates) if k != slowest)
        through = sum(made.propagation_ms[source:target])
        there = self.serialisation[ends[0]].write(count) + self.serialisation[ends[1]].read(count)
        return np.asarray(sending + through + there)

    def newly_right(self, before: tuple[Floats, Floats], would: Floats, right: Floats) -> Floats:
        """Samples that an exit answers rightly of those that leave there and not before.

        `before` are the samples that have left and those of them that were answered rightly; so
        many `would` leave here, so many `right` of those, where all samples came by.
        """
        left, were_right = before
        new = np.maximum(would - left, 0.0)
        if self.composition == "bound":
            return np.maximum(new - (would - right), 0.0)
        if self.composition == "independent":
            return np.asarray(new * right / np.maximum(would, 1.0))
        return np.asarray(np.clip(right - were_right, 0.0, new))


def evaluate(costs: Costs, plan: TierPlan) -> Predicted:
    """What the model says of one plan: written for reading, not for speed."""
    exits, total = costs.exits, costs.exits.samples
    latency, reach = 0.0, 1.0
    left = right = np.zeros(())
    shares = []
    segments = plan.tiers
    for k, (tier, first, last) in enumerate(segments):
        before = segments[k - 1][0] if k else 0
        if tier > before:
            entering = np.asarray(costs.network.input_bytes[first])
            latency += reach * float(costs.hop_ms(before, tier, entering))
            back = sum(costs.platform.propagation_ms[before:tier])
            latency += reach * back  # who comes here goes home from here, or from further
        latency += reach * float(costs.latency_ms(tier)[first, last])
        if k == len(segments) - 1 or plan.threshold is None:
            continue
        at = int(np.argmin(abs(exits.thresholds - plan.threshold)))
        would = exits.would[at, last]
        shares.append(float(max(would - left, 0.0)) / total)
        right = right + costs.newly_right((left, right), would, exits.right[at, last])
        left = np.maximum(left, would)
        reach = 1.0 - float(left) / total
    if plan.threshold is None:
        shares = [0.0] * (len(segments) - 1)
    at_end = np.asarray(exits.right[-1, plan.last])
    right = right + costs.newly_right((left, right), np.asarray(total), at_end)
    return Predicted(latency, float(right) / total, (*shares, 1.0 - float(left) / total))
