"""The co-inference plan: which exit, who computes which layers of its branch, how tensors cross."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from artefacts import UsageError
from models.codecs import codec_named
from models.facts.branchy import BranchySpec


@dataclass(frozen=True, slots=True, order=True)
class Hop:
    """A stretch of a plan on another node: `node` runs layers [start, stop) of what reached it.

    `codec` names how the tensor before `start` crosses to the node.
    """

    node: str
    start: int
    stop: int
    codec: str = "float32"


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """Exit `exit` (0-based) and the chain of `hops` by which other nodes compute of its branch.

    The device runs the layers before the first hop (the prefix) and those after the last one (the
    suffix; none where the last hop gives the answer). No hop: device only. One hop (0, N): edge
    only; (a, N): device-first, as in Neurosurgeon (Kang et al. 2017); (0, b): edge-first, as in
    Edgent's Algorithm 1. A tensor that comes back to the device is float32. `hedge`: while the
    first hop is under way the device goes on with its own deeper exits. `rescue`: a plan that
    offloads before any exit keeps time to answer by exit 1 locally; without it the device is left
    free for the next frame, and a late answer is a miss. `gates`: earlier exits that the device
    asks on its way, in their order; the first that is at least `threshold` sure (calibrated
    greatest probability, see `models.facts.confidence`) answers at once, and nothing deeper is
    computed or sent: "exit i unless confident before".
    """

    exit: int
    hops: tuple[Hop, ...] = ()
    hedge: bool = False
    rescue: bool = True
    gates: tuple[int, ...] = ()
    threshold: float = 1.0

    @property
    def is_local(self) -> bool:
        """Whether nothing crosses the wire."""
        return not self.hops

    def __str__(self) -> str:
        asked = ""
        if self.gates:
            exits = " or ".join(str(g + 1) for g in self.gates)
            asked = f" unless {self.threshold:g} sure at exit {exits}"
        if self.is_local:
            return f"exit {self.exit + 1} on the device{asked}"
        hedged = ", hedged" if self.hedge else ""
        bare = "" if self.rescue else ", no rescue"
        where = ", ".join(f"{h.node} [{h.start}, {h.stop}), {h.codec}" for h in self.hops)
        return f"exit {self.exit + 1}, {where}{hedged}{bare}{asked}"


def prefix_stop(spec: BranchySpec, plan: Plan) -> int:
    """How many layers of the plan's branch the device runs before anything crosses."""
    return plan.hops[0].start if plan.hops else len(spec.branches[plan.exit])


def suffix_start(spec: BranchySpec, plan: Plan) -> int:
    """The first layer that the device runs after the last hop; the branch's length for none."""
    return plan.hops[-1].stop if plan.hops else len(spec.branches[plan.exit])


def all_remote(spec: BranchySpec, plan: Plan) -> bool:
    """Whether other nodes compute the whole branch."""
    length = len(spec.branches[plan.exit])
    return bool(plan.hops) and plan.hops[0].start == 0 and plan.hops[-1].stop == length


def passed_exits(spec: BranchySpec, plan: Plan) -> tuple[int, ...]:
    """Exits whose points the plan's prefix reaches, up to the plan's own."""
    reached = min(prefix_stop(spec, plan), spec.exits[plan.exit].after)
    return tuple(j for j, e in enumerate(spec.exits) if e.after <= reached and j <= plan.exit)


def device_only(spec: BranchySpec, exit_: int) -> Plan:
    """The whole branch of an exit on the device."""
    spec.interval(exit_, 0, 0)
    return Plan(exit_)


def edge_only(spec: BranchySpec, exit_: int, codec: str = "float32") -> Plan:
    """The whole branch of an exit on the edge."""
    return one_hop(exit_, 0, len(spec.branches[exit_]), codec)


def one_hop(
    exit_: int,
    start: int,
    stop: int,
    codec: str = "float32",
    hedge: bool = False,
    rescue: bool = True,
    gates: tuple[int, ...] = (),
    threshold: float = 1.0,
    *,
    node: str = "edge",
) -> Plan:
    """A plan whose layers [start, stop) run on one other node, the rest on the device."""
    return Plan(exit_, (Hop(node, start, stop, codec),), hedge, rescue, gates, threshold)


def check_plan(plan: Plan, spec: BranchySpec) -> Plan:
    """The plan itself, or a `UsageError` where it does not fit the network."""
    spec.interval(plan.exit, 0, 0)
    for hop in plan.hops:
        _check_hop(hop, plan, spec)
    for one, two in itertools.pairwise(plan.hops):
        if two.start != one.stop:
            raise UsageError(
                f"plan hops: found layers [{two.start}, {two.stop}) after "
                f"[{one.start}, {one.stop}), expected them to go on from layer {one.stop}"
            )
    _check_gates(plan, spec)
    return plan


def _check_hop(hop: Hop, plan: Plan, spec: BranchySpec) -> None:
    if not spec.interval(plan.exit, hop.start, hop.stop):
        raise UsageError(
            f"plan hop to '{hop.node}': found layers [{hop.start}, {hop.stop}), expected at least "
            "one layer"
        )
    codec = codec_named(hop.codec)
    if codec.carries == "latent":
        reachable = hop.start <= spec.exits[plan.exit].after
        if spec.bottleneck(hop.start) is None or not reachable:
            raise UsageError(
                f"plan codec '{codec.name}': found a cut before layer {hop.start} of exit "
                f"{plan.exit + 1}, expected one that '{spec.name}' has a learned codec for"
            )
    if codec.raw and hop.start != 0:
        raise UsageError(
            f"plan codec '{hop.codec}' carries the raw sample: found a cut before layer "
            f"{hop.start}, expected 0"
        )


def _check_gates(plan: Plan, spec: BranchySpec) -> None:
    if not plan.gates:
        return
    if not 0.0 < plan.threshold < 1.0:
        raise UsageError(
            f"plan threshold: found {plan.threshold:g}, expected a probability between 0 and 1"
        )
    before = [j for j in passed_exits(spec, plan) if j < plan.exit]
    if list(plan.gates) != sorted(set(plan.gates)) or not set(plan.gates) <= set(before):
        found = ", ".join(str(g + 1) for g in plan.gates)
        expected = ", ".join(str(j + 1) for j in before) or "none: the device passes no earlier one"
        raise UsageError(f"plan gates: found exits {found}, expected some of {expected}")
