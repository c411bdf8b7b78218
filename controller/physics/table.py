"""The plan table: every plan's costs as arrays, built once from the profiles.

A `PlanTable` knows what a plan costs on each resource and which answers it can give on the way; it
knows nothing of time, queues or links (`frames`) and nothing of rewards (`envs`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.plans import Plan, check_plan, passed_exits
from models.codecs import codec_named
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.facts.profiles import Profile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ANSWER_BYTES = 64.0
"""What an answer weighs on the downlink: class, confidence and the edge's own times."""

CODEC_LOSS = 0.01
"""What a codec may cost an exit that is still called that exit (by Algorithm 1)."""

P95_QUANTILE = 1.6448536269514722

RARELY = 0.05
"""Share of frames below which what a plan sends keeps nobody informed."""

PER_PLAN = (
    "prefix_s", "up_bytes", "edge_s", "down_bytes", "suffix_s", "exit", "local", "wait_s",
    "wait_exit", "rescue_s", "early_s", "early_exit", "gate_share", "accuracy",
)  # fmt: skip
"""The table's arrays that have a row for every plan."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer on the way of every plan that `exists` in (P,): seconds, and the exit it is of."""

    exists: Bools
    seconds: Floats
    exit: Ints


@dataclass(frozen=True, slots=True)
class Columns:
    """A table's columns as the physics takes them: without what no plan of the table has.

    `gates` in their order, at their seconds from the head's begin; where a plan has no further gate
    the seconds of its last one stay, so that nothing lies between. `waits`: local jobs in their
    order. `rescue` None: no plan keeps time for one; where one does, for `rescue_p95_s` (P,).
    """

    computes: Bools
    gates: tuple[Answers, ...]
    waits: tuple[Answers, ...]
    rescue: Answers | None
    rescue_p95_s: Floats
    has_suffixes: bool


@dataclass(frozen=True, repr=False)
class PlanTable:
    """Costs of P plans, each an array of length P (or P x K for the answers on the way).

    A local plan has all its seconds in `prefix_s`. `wait_s[p, k]` are the local jobs run after the
    cut tensor is handed to the link (k-th in order, 0 where none) and `wait_exit[p, k]` the exit
    each completes (-1 where none): the head passed on the way, and with hedging the deeper exits.
    `rescue_s` completes exit 1 from the cut, and is inf where no rescue is kept time for.
    `early_exit[p, g]` are the exits that gated plans ask on their way (-1 where none), whose answer
    is there `early_s[p, g]` after the prefix began; `prefix_s` counts them. A gated plan's other
    costs are those of a frame that no gate stopped; `controller.physics.gates` has the others.
    `gate_share[p, g]`: share of the samples that this gate stops.
    """

    spec: BranchySpec
    plans: tuple[Plan, ...]
    prefix_s: Floats
    up_bytes: Floats
    edge_s: Floats
    down_bytes: Floats
    suffix_s: Floats
    exit: Ints
    local: Bools
    wait_s: Floats
    wait_exit: Ints
    rescue_s: Floats
    early_s: Floats
    early_exit: Ints
    gate_share: Floats
    accuracy: Floats
    exit_accuracy: Floats
    device_sigma: float
    edge_sigma: float

    def __len__(self) -> int:
        return len(self.plans)

    def __repr__(self) -> str:
        return f"PlanTable({self.spec.name}, {len(self)} plans)"

    @property
    def faithful(self) -> Bools:
        """Plans whose codec leaves their exit's accuracy as it is, to within `CODEC_LOSS`."""
        return np.asarray(self.accuracy >= self.exit_accuracy[self.exit] - CODEC_LOSS)

    @cached_property
    def gated(self) -> Bools:
        """Plans that may stop before their own exit."""
        return np.array([bool(plan.gates) for plan in self.plans], dtype=np.bool_)

    @cached_property
    def mean_prefix_s(self) -> Floats:
        """What the device's first part takes on average over the samples (P,)."""
        stopped = (self.gate_share * self.early_s).sum(axis=1)
        return np.asarray(stopped + (1.0 - self.gate_share.sum(axis=1)) * self.prefix_s)

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
        rescue = Answers(rescued, rescue_s, np.zeros(len(self), dtype=np.int64))
        return Columns(
            computes=self.prefix_s > 0,
            gates=_answers(np.maximum.accumulate(self.early_s, axis=1), self.early_exit),
            waits=_answers(self.wait_s, self.wait_exit),
            rescue=rescue if rescued.any() else None,
            rescue_p95_s=np.where(rescued, self.rescue_p95_s, 0.0),
            has_suffixes=bool((self.suffix_s > 0).any()),
        )

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
        """Expected seconds of every plan on idle resources at a constant payload bandwidth.

        Shape (..., P) for a bandwidth of shape (...); inf for an offload at zero bandwidth. Of a
        gated plan: of a frame that no gate stops.
        """
        rate = np.asarray(bandwidth_bps, dtype=np.float64)[..., None]
        moved = 8.0 * (self.up_bytes + self.down_bytes)
        with np.errstate(divide="ignore", invalid="ignore"):
            transfer = np.where(moved > 0, moved / rate, 0.0)
        fixed = self.prefix_s + self.edge_s + self.suffix_s + np.where(self.local, 0.0, rtt_s)
        return np.asarray(fixed + transfer)

    def undominated(self, rtt_s: float = 0.0, *, queues: bool = True) -> PlanTable:
        """The table without plans that another matches or beats at every bandwidth.

        Exact: with `queues` (frame stream) q prunes p only if q needs no more of any resource, is
        no less accurate, and whatever local answer p has at some moment q has one as good by then;
        so it holds at every backlog and deadline too. Without (closed loop, where a frame meets
        idle resources) seconds count by their sum and bytes by theirs. Of equals the first stays.
        Gated plans are left out of it: what they cost depends on the sample.
        """
        keep: list[int] = []
        gated = self.gated
        for p in range(len(self)):
            if gated[p]:
                keep.append(p)
                continue
            rivals = self._no_worse_queued(p, rtt_s) if queues else self._no_worse_idle(p, rtt_s)
            rivals[p] = False
            rivals &= ~gated
            for q in np.flatnonzero(rivals).tolist():
                # two plans that are no worse than each other: only the later one goes
                back = self._no_worse_queued(q, rtt_s) if queues else self._no_worse_idle(q, rtt_s)
                if not back[p] or q < p:
                    break
            else:
                keep.append(p)
        return self.take(keep)

    def _no_worse_idle(self, p: int, rtt_s: float) -> Bools:
        seconds = self.prefix_s + self.edge_s + self.suffix_s + np.where(self.local, 0.0, rtt_s)
        moved = self.up_bytes + self.down_bytes
        slack = seconds[p] + 1e-12
        return np.asarray(
            (seconds <= slack) & (moved <= moved[p]) & (self.accuracy >= self.accuracy[p])
        )

    def _no_worse_queued(self, p: int, rtt_s: float) -> Bools:
        """Which plans need no more of anything than p and answer as well at every moment."""
        better = self.accuracy >= self.accuracy[p]
        cost = np.stack([self.prefix_s, self.up_bytes, self.edge_s, self.down_bytes, self.suffix_s])
        frugal = (cost <= cost[:, [p]] + 1e-12).all(axis=0)
        same_wait = (self.wait_exit == self.wait_exit[p]).all(axis=1) & (
            self.wait_s <= self.wait_s[p] + 1e-12
        ).all(axis=1)
        # a rescue answers late frames but takes device time: neither having nor lacking one is free
        same_rescue = np.where(
            np.isfinite(self.rescue_s[p]),
            self.rescue_s <= self.rescue_s[p] + 1e-12,
            ~np.isfinite(self.rescue_s),
        )
        remote = ~self.local & frugal & same_wait & same_rescue
        if self.local[p]:
            return np.asarray(better & self.local & frugal)
        # a local rival must be done when p's first local answer is, and before any edge answer
        first = self.wait_s[p, 0] if self.wait_exit[p, 0] >= 0 else self.rescue_s[p]
        soonest = self.prefix_s[p] + min(
            0.0 if np.isinf(first) else first, rtt_s + self.edge_s[p] + self.suffix_s[p]
        )
        local = self.local & (self.prefix_s <= soonest + 1e-12)
        return np.asarray(better & (remote | local))


def _answers(seconds: Floats, exits: Ints) -> tuple[Answers, ...]:
    """The columns of (P, K) seconds and exits in which any plan has an answer."""
    pairs = zip(seconds.T, exits.T, strict=True)
    columns = [Answers(e >= 0, np.ascontiguousarray(s), np.ascontiguousarray(e)) for s, e in pairs]
    return tuple(column for column in columns if column.exists.any())


def build_table(
    spec: BranchySpec,
    device: Profile,
    edge: Profile,
    outcomes: Outcomes,
    plans: Sequence[Plan],
    *,
    half: str = "policy",
    anytime: bool = True,
    temperatures: Sequence[float] = (),
) -> PlanTable:
    """The table of `plans` for these profiles; accuracies from one half of the outcomes.

    `temperatures` of the exits, for plans with gates.
    """
    rows = [_row(spec, device, edge, outcomes, check_plan(p, spec), anytime) for p in plans]
    wait = max((len(row.wait) for row in rows), default=0) or 1
    wait_s = np.zeros((len(rows), wait))
    wait_exit = np.full((len(rows), wait), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        for k, (exit_, seconds) in enumerate(row.wait):
            wait_exit[i, k], wait_s[i, k] = exit_, seconds
    gates = max((len(plan.gates) for plan in plans), default=0)
    early_s, gate_share = np.zeros((len(rows), gates)), np.zeros((len(rows), gates))
    early_exit = np.full((len(rows), gates), -1, dtype=np.int64)
    for i, (plan, row) in enumerate(zip(plans, rows, strict=True)):
        early_exit[i, : len(plan.gates)] = plan.gates
        early_s[i, : len(plan.gates)] = row.early
        if plan.gates:
            at = stopped_at(outcomes, plan, temperatures)[outcomes.half(half)]
            gate_share[i, : len(plan.gates)] = np.bincount(at, minlength=gates + 1)[
                : len(plan.gates)
            ] / len(at)
    accuracy = [plan_accuracy(outcomes, plan, half, temperatures) for plan in plans]
    return PlanTable(
        spec=spec,
        plans=tuple(plans),
        prefix_s=np.array([r.prefix_s for r in rows]),
        up_bytes=np.array([r.up_bytes for r in rows], dtype=np.float64),
        edge_s=np.array([r.edge_s for r in rows]),
        down_bytes=np.array([r.down_bytes for r in rows], dtype=np.float64),
        suffix_s=np.array([r.suffix_s for r in rows]),
        exit=np.array([p.exit for p in plans], dtype=np.int64),
        local=np.array([p.is_local for p in plans], dtype=np.bool_),
        wait_s=wait_s,
        wait_exit=wait_exit,
        rescue_s=np.array([r.rescue_s for r in rows]),
        early_s=early_s,
        early_exit=early_exit,
        gate_share=gate_share,
        accuracy=np.array(accuracy),
        exit_accuracy=np.array([outcomes.accuracy(i, half=half) for i in range(len(spec.exits))]),
        device_sigma=_sigma(device),
        edge_sigma=_sigma(edge),
    )


def plan_accuracy(
    outcomes: Outcomes, plan: Plan, half: str, temperatures: Sequence[float] = ()
) -> float:
    """Accuracy of a plan's own answer (its exit, its codec at its cut, its gates) on one half."""
    codec, cut = outcome_key(plan)
    if not plan.gates:
        return outcomes.accuracy(plan.exit, codec, cut, half)
    right = outcomes.correct(plan.exit, codec, cut)
    at = stopped_at(outcomes, plan, temperatures)
    for number, gate in enumerate(plan.gates):
        right = np.where(at == number, outcomes.correct(gate), right)
    return float(right[outcomes.half(half)].mean())


def stopped_at(outcomes: Outcomes, plan: Plan, temperatures: Sequence[float]) -> Ints:
    """Which of a plan's gates stops each sample, (S,): its place in `gates`, or their number.

    Gates are asked on the device, in float32, so no codec enters.
    """
    at = np.full(outcomes.samples, len(plan.gates), dtype=np.int64)
    for number in reversed(range(len(plan.gates))):
        gate = plan.gates[number]
        sure = outcomes.calibrated(gate, temperatures[gate] if temperatures else 1.0)
        at[sure >= plan.threshold] = number
    return at


def outcome_key(plan: Plan) -> tuple[str, int]:
    """The codec and cut under which a plan's outcomes are recorded."""
    return ("float32", 0) if plan.is_local else (codec_named(plan.codec).answers_as, plan.start)


@dataclass(frozen=True, slots=True)
class _Row:
    prefix_s: float
    up_bytes: float
    edge_s: float
    down_bytes: float
    suffix_s: float
    wait: tuple[tuple[int, float], ...]
    rescue_s: float
    early: tuple[float, ...]


def _row(
    spec: BranchySpec,
    device: Profile,
    edge: Profile,
    outcomes: Outcomes,
    plan: Plan,
    anytime: bool,
) -> _Row:
    length = len(spec.branches[plan.exit])
    early, asking = _early(spec, device, plan)
    if plan.is_local:
        own = device.interval_s(plan.exit, 0, length)
        return _Row(own + asking, 0.0, 0.0, 0.0, 0.0, (), np.inf, early)
    shapes = spec.shapes[plan.exit]
    down = ANSWER_BYTES
    if plan.stop < length:
        down += 4.0 * math.prod(shapes[plan.stop])
    wait = tuple(local_jobs(spec, device, plan)) if anytime else ()
    rescue = np.inf
    if anytime and not wait and not plan.gates and plan.rescue:
        rescue = device.interval_s(0, min(plan.start, spec.exits[0].after), len(spec.branches[0]))
    sent = codec_named(plan.codec).size(shapes[plan.start])
    crossing = spec.crossing(plan.exit, plan.start)
    return _Row(
        prefix_s=device.interval_s(plan.exit, 0, plan.start)
        + asking
        + device.encode_s(plan.codec, crossing),
        up_bytes=outcomes.mean_bytes(plan.exit, plan.codec, plan.start) if sent is None else sent,
        edge_s=edge.interval_s(plan.exit, plan.start, plan.stop)
        + edge.decode_s(plan.codec, crossing),
        down_bytes=float(down),
        suffix_s=device.interval_s(plan.exit, plan.stop, length),
        wait=wait,
        rescue_s=rescue,
        early=early,
    )


def _early(spec: BranchySpec, device: Profile, plan: Plan) -> tuple[tuple[float, ...], float]:
    """When each gate's answer is there after the head began, and what asking them all costs."""
    asking, early = 0.0, []
    for gate in plan.gates:
        after = spec.exits[gate].after
        asking += device.interval_s(gate, after, len(spec.branches[gate]))
        early.append(device.interval_s(plan.exit, 0, after) + asking)
    return tuple(early), asking


def local_jobs(spec: BranchySpec, device: Profile, plan: Plan) -> list[tuple[int, float]]:
    """(exit, seconds) of the local answers computed after the cut tensor is handed over.

    Without hedging: the deepest exit that the device part has passed, which costs only what its
    branch still lacks (nothing where a gate asked it). With hedging: that, then every deeper exit
    up to the plan's own.
    """
    reached = min(plan.start, spec.exits[plan.exit].after)
    passed = passed_exits(spec, plan)
    jobs: list[tuple[int, float]] = []
    if passed and passed[-1] not in plan.gates:
        j = passed[-1]
        done = plan.start if j == plan.exit else spec.exits[j].after
        jobs.append((j, device.interval_s(j, done, len(spec.branches[j]))))
    if plan.hedge:
        at = reached
        for j in range(passed[-1] + 1 if passed else 0, plan.exit + 1):
            jobs.append((j, device.interval_s(j, at, len(spec.branches[j]))))
            at = spec.exits[j].after
    return jobs


def _sigma(profile: Profile) -> float:
    """Log-normal spread whose p95 / median is the profile's (0 where none is published)."""
    return float(np.log(max(profile.spread, 1.0)) / P95_QUANTILE)


def candidate_plans(
    spec: BranchySpec,
    codecs: Sequence[str] = ("float32",),
    *,
    edge_first: bool = True,
    device_first: bool = True,
    hedge: bool = False,
    no_rescue: bool = False,
) -> tuple[Plan, ...]:
    """Every plan of a network: device-only, edge-only, device-first and edge-first.

    Edge-first plans send the picture up as float32 or by a picture's codec; the other codecs serve
    device-first cuts, whose accuracy is recorded (see `models.facts.outcomes`). `no_rescue` adds,
    for every plan that offloads before the first exit, one that keeps no time for a rescue.
    """
    plans: list[Plan] = []
    named = [codec_named(codec) for codec in codecs]
    pictures = any(codec.carries == "picture" for codec in named)
    for i, branch in enumerate(spec.branches):
        length = len(branch)
        plans.append(Plan(i, length, length))
        for codec in named:
            if codec.carries == "latent":
                own = [b.cut for b in spec.bottlenecks if b.cut <= spec.exits[i].after]
                plans.extend(Plan(i, cut, length, codec.name) for cut in own)
                continue
            picture, at_input = codec.carries == "picture", codec.serves_at_input(pictures)
            starts = range(0 if at_input else 1, 1 if picture or not device_first else length)
            plans.extend(Plan(i, start, length, codec.name) for start in starts)
            if edge_first and at_input and (picture or codec.exact):
                plans.extend(Plan(i, 0, stop, codec.name) for stop in range(1, length))
        if hedge:
            plans.extend(
                Plan(p.exit, p.start, p.stop, p.codec, True)
                for p in list(plans)
                if p.exit == i and not p.is_local and not p.hedge
            )
    if no_rescue:
        first = spec.exits[0].after
        early = [p for p in plans if not p.is_local and p.start < first and not p.hedge]
        plans += [replace(p, rescue=False) for p in early]
    return tuple(plans)


def gated_plans(
    spec: BranchySpec, plans: Sequence[Plan], thresholds: Sequence[float]
) -> tuple[Plan, ...]:
    """Every plan of `plans` with gates: at each earlier exit it passes, and at all of them."""
    made: list[Plan] = []
    for plan in plans:
        before = tuple(j for j in passed_exits(spec, plan) if j < plan.exit)
        asked = [(j,) for j in before] + ([before] if len(before) > 1 else [])
        made += [replace(plan, gates=g, threshold=t) for g in asked for t in thresholds]
    return tuple(made)
