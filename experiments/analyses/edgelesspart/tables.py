"""All ways of all networks, over thresholds and bandwidths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from artefacts import UsageError
from artefacts.arrays import Ints
from experiments.analyses.edgelesspart.choosing import (
    CONSTRAINTS,
    Bounds,
    chosen_split,
    device_alone,
    fastest_whole,
)
from experiments.analyses.edgelesspart.networks import ProfiledNetwork
from experiments.analyses.edgelesspart.placement import PLACEMENTS, placed_exits
from experiments.analyses.edgelesspart.requests import Figures, drawn_requests, figures_of
from experiments.analyses.edgelesspart.ways import (
    Endings,
    Plans,
    exits_in_function,
    whole_plans,
    with_exits,
)

WAYS = (
    "device only", "cloud only", "split only", "exits only, device", "exits only, cloud",
    "split and exits",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What is asked of every network.

    `exits`: how many are asked at most. `thresholds`: how sure an exit must be (0..1).
    `requests` are drawn by `seed`. `codecs`: names of what may cross.
    """

    exits: int = 3
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    bandwidths_bps: tuple[float, ...] = (0.25e6, 0.5e6, 1e6, 2e6, 5e6, 20e6)
    rtt_s: float = 0.030
    requests: int = 1000
    codecs: tuple[str, ...] = ("uint8", "jpeg75", "int8c", "int4c", "int4c+zstd")
    bounds: Bounds = field(default_factory=Bounds)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for share in self.thresholds:
            if not 0.0 < share < 1.0:
                raise UsageError(f"--thresholds: found {share:g}, expected numbers between 0 and 1")
        for rate in self.bandwidths_bps:
            if not 0.0 < rate < float("inf"):
                raise UsageError(f"--mbps: found {rate / 1e6:g}, expected numbers above 0")
        if not self.thresholds or not self.bandwidths_bps:
            raise UsageError("--thresholds, --mbps: found none, expected one or more of each")


class Row(msgspec.Struct, frozen=True):
    """One way of one network at one threshold and bandwidth.

    `placement` is '' where no exit is asked, `constraint` where nothing is split. `plan` says what
    is computed where, `split_after` names the last layer on the device. Where no split obeys the
    constraint there are no `figures`.
    """

    network: str
    way: str
    placement: str
    constraint: str
    threshold: float
    bandwidth_bps: float
    plan: str
    split_after: str
    figures: Figures | None


def network_rows(
    network: ProfiledNetwork,
    question: Question,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """All rows of a network: thresholds outside, bandwidths inside, ways in their order."""
    whole = whole_plans(network, question.codecs)
    samples = drawn_requests(network.outcomes, question.requests, question.seed)
    placed = {name: placed_exits(network.spec, name, question.exits) for name in PLACEMENTS}
    found, total = list[Row](), len(question.thresholds)
    for number, threshold in enumerate(question.thresholds, 1):
        asked = {name: with_exits(whole, exits, threshold) for name, exits in placed.items()}
        for bandwidth_bps in question.bandwidths_bps:
            cell = _Cell(question, whole, samples, threshold, bandwidth_bps)
            found += cell.plain()
            for name, exits in placed.items():
                found += cell.with_exits(name, exits, asked[name])
        progress(number, total)
    return found


@dataclass(frozen=True)
class _Cell:
    """One network at one threshold and one bandwidth."""

    question: Question
    whole: Plans
    samples: Ints
    threshold: float
    bandwidth_bps: float

    def plain(self) -> Iterator[Row]:
        """What asks no exit."""
        yield self._of("device only", "", self.whole, device_alone(self.whole))
        cloud = fastest_whole(self.whole, self.bandwidth_bps, self.question.rtt_s)
        yield self._of("cloud only", "", self.whole, cloud)
        yield from self._splits("split only", "", self.whole)

    def with_exits(self, placement: str, exits: Sequence[int], asked: Plans) -> Iterator[Row]:
        """What asks the exits that a placement names."""
        rtt_s = self.question.rtt_s
        yield self._of("exits only, device", placement, asked, device_alone(asked))
        cloud = fastest_whole(self.whole, self.bandwidth_bps, rtt_s)
        inside = exits_in_function(
            self.whole, cloud, exits, self.threshold, self.bandwidth_bps, rtt_s
        )
        named = f"{self.whole.table.plans[cloud]}, exits asked there"
        yield self._row("exits only, cloud", placement, "", named, "", inside)
        yield from self._splits("split and exits", placement, asked)

    def _splits(self, way: str, placement: str, plans: Plans) -> Iterator[Row]:
        for constraint in CONSTRAINTS:
            p = chosen_split(
                plans, self.whole, constraint, self.question.bounds, self.bandwidth_bps,
                self.question.rtt_s,
            )  # fmt: skip
            if p is None:
                yield self._row(way, placement, constraint, "", "", None)
            else:
                yield self._of(way, placement, plans, p, constraint)

    def _of(self, way: str, placement: str, plans: Plans, p: int, constraint: str = "") -> Row:
        plan, spec = plans.table.plans[p], self.whole.network.spec
        after = spec.crossing(plan.exit, plan.hops[0].start) if plan.hops else ""
        ended = plans.endings(p, self.bandwidth_bps, self.question.rtt_s)
        return self._row(way, placement, constraint, str(plan), after, ended)

    def _row(
        self, way: str, placement: str, constraint: str, plan: str, after: str,
        ended: Endings | None,
    ) -> Row:  # fmt: skip
        figures = None if ended is None else figures_of(ended, self.samples)
        return Row(
            self.whole.network.name, way, placement, constraint, self.threshold,
            self.bandwidth_bps, plan, after, figures,
        )  # fmt: skip
