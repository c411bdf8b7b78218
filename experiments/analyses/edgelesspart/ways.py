"""The ways to serve a request, and what each asks of the device, the link and the function.

Seconds, bytes and answers are those of the planner: stages, plan tables, profiles and recorded
outcomes. A way that ends requests at exits has an ending for every exit it asks, and a last one for
what no exit was sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.physics.accuracy import answering_gate, outcome_key
from controller.physics.building import build_table
from controller.physics.candidates import candidate_plans
from controller.physics.costs import device_bytes
from controller.physics.gates import GateRows, with_gates
from controller.physics.stages import PlanStages, plan_stages
from controller.physics.table import PlanTable
from controller.physics.topology import DEVICE_AND_EDGE, EDGE, cpu
from controller.plans import Plan, device_only, passed_exits
from experiments.analyses.edgelesspart.networks import ProfiledNetwork
from models.codecs import codec_named
from models.facts.profiles import Profile

FUNCTION = DEVICE_AND_EDGE.nodes.index(EDGE)


@dataclass(frozen=True)
class Endings:
    """A way's K endings, and at which of them each of S samples ends.

    `seconds` (K,): from a request to its answer, every resource idle. `function_s` (K,): of them
    in the function. `called` (K,): whether the function is called at all. `at` (S,): the ending of
    a sample; `quality` (S,): of its answer, 0 to 1. Memory is of parameters and activations, in
    bytes: what the function holds for any request, and the device.
    """

    seconds: Floats
    function_s: Floats
    called: Bools
    at: Ints
    quality: Float32s
    function_bytes: int
    device_bytes: int


@dataclass(frozen=True)
class Plans:
    """Plans of a network: their table, and the memory that both ends need for each.

    `function_bytes` and `device_bytes` (P,): parameters once, and the greatest activations.
    """

    network: ProfiledNetwork
    table: PlanTable
    function_bytes: Ints
    device_bytes: Ints

    @classmethod
    def of(cls, network: ProfiledNetwork, plans: Sequence[Plan]) -> Plans:
        """Plans priced as ones whose device waits for the function's answer."""
        table = build_table(
            network.spec, {"device": network.device, "edge": network.edge}, network.outcomes,
            plans, anytime=False, temperatures=network.temperatures,
        )  # fmt: skip
        stages = [plan_stages(network.spec, plan, anytime=False) for plan in plans]
        held = [_held_bytes(network.edge, one, EDGE) for one in stages]
        own = [device_bytes(network.spec, network.device, one, anytime=False) for one in stages]
        return cls(network, table, np.array(held, np.int64), np.array(own, np.int64))

    def take(self, index: Sequence[int] | Ints) -> Plans:
        """The plans at `index`, in that order."""
        chosen = np.asarray(index, dtype=np.int64)
        return replace(
            self, table=self.table.take(chosen), function_bytes=self.function_bytes[chosen],
            device_bytes=self.device_bytes[chosen],
        )  # fmt: skip

    @cached_property
    def rows(self) -> GateRows:
        """A row for every ending: the plans' own first, then those of their gates."""
        return with_gates(self.table)

    @cached_property
    def shares(self) -> Floats:
        """Share of the policy half's samples that end in each row, (R,)."""
        early = self.table.gate_share[self.table.early_exit >= 0]
        return np.concatenate([1.0 - self.table.gate_share.sum(axis=1), early])

    @cached_property
    def function_s(self) -> Floats:
        """Seconds in the function of a request that no gate ended, (P,)."""
        return self.table.cost_of("compute", FUNCTION)

    def mean_s(self, bandwidth_bps: float, rtt_s: float) -> Floats:
        """What a request takes on average over the policy half's samples, (P,)."""
        return self.rows.mixed(self.rows.table.latency_s(bandwidth_bps, rtt_s), self.shares)

    def mean_byte_s(self) -> Floats:
        """Byte-seconds in the function on average over the same, called or not, (P,)."""
        return np.asarray(self.function_bytes * self.function_s * self.shares[: len(self.table)])

    def endings(self, p: int, bandwidth_bps: float, rtt_s: float) -> Endings:
        """How the requests of the plan at `p` end: at its gates in their order, or behind them."""
        plan, network = self.table.plans[p], self.network
        seconds = self.take([p]).rows.table.latency_s(bandwidth_bps, rtt_s)
        function_s, called = np.zeros((2, len(seconds)))
        function_s[-1], called[-1] = self.function_s[p], not plan.is_local
        at = answering_gate(network.outcomes, plan, network.temperatures)
        right = network.outcomes.quality_of(plan.exit, *outcome_key(plan))
        for number, gate in enumerate(plan.gates):
            right = np.where(at == number, network.outcomes.quality_of(gate), right)
        return Endings(
            # the plan's own row is the first of the table, and the last here
            np.roll(seconds, -1), function_s, called > 0, at, right,
            int(self.function_bytes[p]), int(self.device_bytes[p]),
        )  # fmt: skip


def _held_bytes(profile: Profile, stages: PlanStages, node: str) -> int:
    """Memory of the layers that a node runs of a plan; 0 where it runs none."""
    parts = {(w.branch, w.start, w.stop) for one in stages.on(cpu(node)) for w in one.layers}
    return profile.device_bytes(*parts)


def whole_plans(network: ProfiledNetwork, codecs: Sequence[str]) -> Plans:
    """Plans without gates of the network's own end: on the device, in the function, and split.

    `codecs` are names. What was not recorded with the outcomes is left out, and so is what costs
    the network's own end more than `CODEC_LOSS` of its accuracy. `UsageError` where nothing that
    crosses is left.
    """
    every = candidate_plans(network.spec, codecs, edge_first=False)
    plans = [p for p in every if p.exit == network.last and _is_recorded(network, p)]
    found = Plans.of(network, plans)
    found = found.take(np.flatnonzero(found.table.faithful))
    for what, there in (("picture", is_whole), ("tensor", is_split)):
        if not any(there(plan) for plan in found.table.plans):
            raise UsageError(
                f"--codecs: found none that carries a {what} of '{network.name}' among "
                f"{', '.join(codecs)}, expected one that was recorded and costs at most 1 point"
            )
    return found


def _is_recorded(network: ProfiledNetwork, plan: Plan) -> bool:
    outcomes, shapes = network.outcomes, network.spec.shapes[plan.exit]
    codec, cut = outcome_key(plan)
    exact = not plan.hops or codec_named(plan.hops[0].codec).exact
    if not exact and (plan.exit, codec, cut) not in outcomes.keys:
        return False
    varying = [h for h in plan.hops if codec_named(h.codec).size(shapes[h.start]) is None]
    return all((plan.exit, h.codec, h.start) in outcomes.wire for h in varying)


def is_whole(plan: Plan) -> bool:
    """Whether the function computes everything."""
    return bool(plan.hops) and plan.hops[0].start == 0


def is_split(plan: Plan) -> bool:
    """Whether both ends compute layers."""
    return bool(plan.hops) and plan.hops[0].start > 0


def with_exits(whole: Plans, exits: Sequence[int], threshold: float) -> Plans:
    """Every split of `whole`, and the device alone, that asks those of `exits` it passes.

    An exit answers where it is `threshold` sure. Splits that pass none of `exits` are left out.
    """
    network, made = whole.network, list[Plan]()
    for plan in whole.table.plans:
        passed = passed_exits(network.spec, plan)
        gates = tuple(j for j in passed if j in exits and j < network.last)
        if gates:
            made.append(replace(plan, gates=gates, threshold=threshold))
    return Plans.of(network, made)


def exits_in_function(
    whole: Plans, p: int, exits: Sequence[int], threshold: float, bandwidth_bps: float, rtt_s: float
) -> Endings:
    """The picture is sent as the plan at `p` of `whole` does, and the function asks `exits`.

    What the function computes until an exit is sure is what a device of its speed would. Which exit
    is `threshold` sure is taken from answers to the picture as it was, which is right from those to
    the picture as it crossed. The link passes `bandwidth_bps` and has a round trip of `rtt_s`.
    """
    network, sent = whole.network, whole.endings(p, bandwidth_bps, rtt_s)
    plain = device_only(network.spec, network.last)
    plan = replace(plain, gates=tuple(exits), threshold=threshold)
    alone = Plans.of(replace(network, device=network.edge), [plain, plan])
    asked = alone.endings(1, bandwidth_bps, rtt_s)
    # more than the whole network takes, or less
    other_s = asked.seconds - alone.table.prefix_s[0]
    codec, cut = outcome_key(whole.table.plans[p])
    rights = [network.outcomes.quality_of(e, codec, cut) for e in (*exits, network.last)]
    held = _held_bytes(network.edge, plan_stages(network.spec, plan), "device")
    return Endings(
        sent.seconds[-1] + other_s, sent.function_s[-1] + other_s,
        np.ones(len(other_s), dtype=np.bool_), asked.at,
        np.stack(rights)[asked.at, np.arange(len(asked.at))], held, sent.device_bytes,
    )  # fmt: skip
