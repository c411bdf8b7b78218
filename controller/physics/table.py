"""The plan table: every plan's costs as arrays, built once from the profiles.

A `PlanTable` knows what a plan costs on each resource and which answers it can give on the way; it
knows nothing of time and queues (`frames`), and nothing of what an answer is worth
(`controller.scenarios.rewards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Floats, Ints
from controller.physics.dominance import undominated_idle, undominated_streamed
from controller.physics.topology import Slot, Topology
from controller.plans import Plan
from models.facts.branchy import BranchySpec

CODEC_LOSS = 0.01
"""What a codec may cost an exit that is still called that exit (by Algorithm 1)."""

P95_QUANTILE = 1.6448536269514722

RARELY = 0.05
"""Share of frames below which what a plan sends keeps nobody informed."""

PER_PLAN = (
    "costs", "exit", "local", "wait_s", "wait_exit", "wait_pause_s", "rescue_s", "rescue_pause_s",
    "early_s", "early_exit", "gate_share", "accuracy",
)  # fmt: skip
"""The table's arrays that have a row for every plan."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer on the way of every plan that `exists` in (P,): seconds, and the exit it is of.

    `pause_s`: after so many of its seconds it is given up where the frame is over; 0 for never.
    """

    exists: Bools
    seconds: Floats
    exit: Ints
    pause_s: Floats


@dataclass(frozen=True, slots=True)
class SlotCosts:
    """What every plan asks of one of the topology's slots between prefix and suffix, (P,).

    `row`: where the slot's resource stands among them. `uses`: the plans that do not pass the slot
    by; None where every plan that offloads uses it.
    """

    slot: Slot
    row: int
    cost: Floats
    uses: Bools | None


@dataclass(frozen=True, slots=True)
class Columns:
    """A table's columns as the physics takes them: without what no plan of the table has.

    `prefix_s` and `computes` (whether there is any) of the device's first part; `between` the slots
    behind it in their order. `gates` in their order, at their seconds from the prefix's begin;
    where a plan has no further gate the seconds of its last one stay, so that nothing lies between.
    `waits`: local jobs in their order. `rescue` None: no plan keeps time for one; where one does,
    for `rescue_p95_s` (P,). `suffix_s` None: no plan has a suffix.
    """

    prefix_s: Floats
    computes: Bools
    between: tuple[SlotCosts, ...]
    gates: tuple[Answers, ...]
    waits: tuple[Answers, ...]
    rescue: Answers | None
    rescue_p95_s: Floats
    suffix_s: Floats | None


@dataclass(frozen=True, repr=False)
class PlanTable:
    """Costs of P plans, each an array of length P (or P x K where there are several).

    `costs[p, k]`: what plan p asks of the topology's k-th slot, seconds of a CPU or payload bytes
    of a link, 0 where it passes the slot by. A local plan has all its seconds in the first, the
    prefix. `wait_s[p, k]` are the local jobs run after the cut tensor is handed to the link (k-th
    in order, 0 where none) and `wait_exit[p, k]` the exit each completes (-1 where none): the one
    passed on the way, and with hedging the deeper ones. `rescue_s` completes exit 1 from the cut,
    and is inf where no rescue is kept time for. Both end sooner where the frame has been answered
    before they had computed `wait_pause_s` (P, K) or `rescue_pause_s` (0: they never do).
    `early_exit[p, g]` are the exits that gated plans
    ask on their way (-1 where none), whose answer is there `early_s[p, g]` after the prefix began;
    `prefix_s` counts them. A gated plan's other costs are those of a frame that no gate ended;
    `controller.physics.gates` has the others. `gate_share[p, g]`: share of the samples that this
    gate answers. `sigmas`: log-normal spread of every node's compute times.
    """

    spec: BranchySpec
    topology: Topology
    plans: tuple[Plan, ...]
    costs: Floats
    exit: Ints
    local: Bools
    wait_s: Floats
    wait_exit: Ints
    wait_pause_s: Floats
    rescue_s: Floats
    rescue_pause_s: Floats
    early_s: Floats
    early_exit: Ints
    gate_share: Floats
    accuracy: Floats
    exit_accuracy: Floats
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.plans)

    def __repr__(self) -> str:
        return f"PlanTable({self.spec.name}, {len(self)} plans)"

    def cost_of(self, kind: str, index: int) -> Floats:
        """What every plan asks of a node's CPU ("compute") or a link ("up", "down"), (P,).

        Of the device's CPU: the prefix alone.
        """
        slots = self.topology.slots
        at = next(k for k, s in enumerate(slots) if (s.kind, s.index) == (kind, index))
        return np.ascontiguousarray(self.costs[:, at])

    @cached_property
    def prefix_s(self) -> Floats:
        """Seconds of the device before anything crosses; all of a local plan's."""
        return self.cost_of("compute", 0)

    @cached_property
    def suffix_s(self) -> Floats:
        """Seconds of the device with the tensor that comes back."""
        return np.ascontiguousarray(self.costs[:, -1])

    @cached_property
    def up_bytes(self) -> Floats:
        """Payload on the device's own uplink (of the topology's first link)."""
        return self.cost_of("up", 0)

    @cached_property
    def down_bytes(self) -> Floats:
        """Payload on the device's own downlink."""
        return self.cost_of("down", 0)

    @cached_property
    def remote_s(self) -> Floats:
        """Seconds from the upload's end until the reply enters the device's downlink, idle.

        The other nodes' computing, and crossing the links between them at their constant rates.
        """
        found = np.zeros(len(self))
        for part in self.columns.between:
            slot = part.slot
            if slot.kind == "compute":
                found = found + part.cost
            elif slot.index > 0:
                link = self.topology.links[slot.index]
                assert link.rate_bps is not None
                moved = 8.0 * link.model.on_wire(part.cost) / link.rate_bps
                found = found + np.where(part.cost > 0, moved + link.model.rtt_s / 2, 0.0)
        return found

    @property
    def device_sigma(self) -> float:
        """The spread of the device's compute times."""
        return self.sigmas[0]

    @property
    def faithful(self) -> Bools:
        """Plans whose codec leaves their exit's accuracy as it is, to within `CODEC_LOSS`."""
        return np.asarray(self.accuracy >= self.exit_accuracy[self.exit] - CODEC_LOSS)

    @cached_property
    def gated(self) -> Bools:
        """Plans that may end before their own exit."""
        return np.array([bool(plan.gates) for plan in self.plans], dtype=np.bool_)

    @cached_property
    def mean_prefix_s(self) -> Floats:
        """What the prefix takes on average over the samples (P,)."""
        early = (self.gate_share * self.early_s).sum(axis=1)
        return np.asarray(early + (1.0 - self.gate_share.sum(axis=1)) * self.prefix_s)

    @cached_property
    def send_share(self) -> Floats:
        """Share of its frames of which a plan sends anything (P,)."""
        return np.where(self.local, 0.0, 1.0 - self.gate_share.sum(axis=1))

    @cached_property
    def quiet(self) -> Bools:
        """Plans that tell nothing of the link, or next to nothing: they send too rarely."""
        return np.asarray(self.send_share < RARELY)

    @cached_property
    def senders(self) -> Ints:
        """Plans that send something of every frame: what may serve as a probe."""
        return np.flatnonzero(~self.local & ~self.gated)

    @cached_property
    def columns(self) -> Columns:
        """What `frames` takes of the plans, contiguous."""
        rescued = np.isfinite(self.rescue_s)
        rescue_s = np.where(rescued, self.rescue_s, 0.0)
        first = np.zeros(len(self), dtype=np.int64)
        rescue = Answers(rescued, rescue_s, first, self.rescue_pause_s)
        return Columns(
            prefix_s=self.prefix_s,
            computes=self.prefix_s > 0,
            between=self._between(),
            gates=_answers(
                np.maximum.accumulate(self.early_s, axis=1), self.early_exit, 0.0 * self.early_s
            ),
            waits=_answers(self.wait_s, self.wait_exit, self.wait_pause_s),
            rescue=rescue if rescued.any() else None,
            rescue_p95_s=np.where(rescued, self.rescue_p95_s, 0.0),
            suffix_s=self.suffix_s if (self.suffix_s > 0).any() else None,
        )

    def _between(self) -> tuple[SlotCosts, ...]:
        rows = {name: row for row, name in enumerate(self.topology.resources)}
        found = []
        for k, slot in enumerate(self.topology.slots[1:-1], start=1):
            cost = np.ascontiguousarray(self.costs[:, k])
            uses = cost > 0
            whole = bool((uses | self.local).all())
            found.append(SlotCosts(slot, rows[slot.resource], cost, None if whole else uses))
        return tuple(found)

    @property
    def rescue_p95_s(self) -> Floats:
        """What a rescue is kept time for: its 95th percentile."""
        return self.rescue_s * float(np.exp(P95_QUANTILE * self.device_sigma))

    def take(self, index: Sequence[int] | Ints) -> PlanTable:
        """The table of the plans at `index`, in that order."""
        chosen = np.asarray(index, dtype=np.int64)
        rows: dict[str, Any] = {name: getattr(self, name)[chosen] for name in PER_PLAN}
        return replace(self, plans=tuple(self.plans[i] for i in chosen), **rows)

    def joined(self, other: PlanTable) -> PlanTable:
        """The plans of both, these first; the other is of the same network, shape and machines."""
        rows: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in PER_PLAN
        }
        return replace(self, plans=(*self.plans, *other.plans), **rows)

    def index(self, plan: Plan) -> int:
        """Where a plan stands; a `UsageError` where it is not in the table."""
        try:
            return self.plans.index(plan)
        except ValueError:
            raise UsageError(
                f"plan: found '{plan}', expected one of the {len(self)} of this scenario"
            ) from None

    def latency_s(self, bandwidth_bps: Floats | float, rtt_s: float = 0.0) -> Floats:
        """Expected seconds of every plan on idle resources.

        At a constant payload bandwidth of the first link, whose round trip is `rtt_s`: shape
        (..., P) for a bandwidth of shape (...); inf for an offload at zero bandwidth. Of a gated
        plan: of a frame that no gate ends.
        """
        rate = np.asarray(bandwidth_bps, dtype=np.float64)[..., None]
        moved = 8.0 * (self.up_bytes + self.down_bytes)
        with np.errstate(divide="ignore", invalid="ignore"):
            transfer = np.where(moved > 0, moved / rate, 0.0)
        return np.asarray(self.idle_s(rtt_s) + transfer)

    def idle_s(self, rtt_s: float) -> Floats:
        """Seconds of every plan on idle resources, without the first link's transfers (P,)."""
        return np.asarray(
            self.prefix_s + self.remote_s + self.suffix_s + np.where(self.local, 0.0, rtt_s)
        )

    def undominated(self, rtt_s: float = 0.0, *, queues: bool = True) -> PlanTable:
        """The table without plans that another matches or beats at every bandwidth.

        Exact: with `queues` (frame stream) q prunes p only if q needs no more of any resource, is
        no less accurate, and whatever local answer p has at some moment q has one as good by then;
        so it holds at every backlog and deadline too. Without (closed loop, where a frame meets
        idle resources) seconds count by their sum and bytes by theirs. Of equals the first stays.
        Gated plans are left out of it: what they cost depends on the sample.
        """
        rows = undominated_streamed(self, rtt_s) if queues else undominated_idle(self, rtt_s)
        return self.take(rows)


def _answers(seconds: Floats, exits: Ints, pauses: Floats) -> tuple[Answers, ...]:
    """The columns of (P, K) seconds, exits and pauses in which any plan has an answer."""
    each = zip(*(np.ascontiguousarray(part.T) for part in (seconds, exits, pauses)), strict=True)
    columns = [Answers(e >= 0, s, e, pause) for s, e, pause in each]
    return tuple(column for column in columns if column.exists.any())
