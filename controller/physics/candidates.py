"""Which plans there are: every one of a network on a topology, and those that ask gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controller.physics.topology import EDGE
from controller.plans import Plan, device_only, one_hop, passed_exits
from models.codecs import codec_named
from models.facts.branchy import BranchySpec


def candidate_plans(
    spec: BranchySpec,
    codecs: Sequence[str] = ("float32",),
    *,
    edge_first: bool = True,
    device_first: bool = True,
    hedge: bool = False,
    no_rescue: bool = False,
    node: str = EDGE,
) -> tuple[Plan, ...]:
    """Every plan of a network: device-only, edge-only, device-first and edge-first.

    Edge-first plans send the input up as float32 or by a raw sample's codec; the other codecs serve
    device-first cuts, whose accuracy is recorded (see `models.facts.outcomes`). `no_rescue` adds,
    for every plan that offloads before the first exit, one that keeps no time for a rescue. `node`:
    whose hop it is.

    `spec` is the network, `codecs` the names of codecs that tensors may cross by. `edge_first` and
    `device_first` say which orders there are, `hedge` adds plans that compute on the device while
    the edge is awaited.
    """
    plans: list[Plan] = []
    named = [codec_named(codec) for codec in codecs]
    raw = any(codec.raw for codec in named)
    for i, branch in enumerate(spec.branches):
        length = len(branch)
        plans.append(device_only(spec, i))
        for codec in named:
            if codec.carries == "latent":
                own = [b.cut for b in spec.bottlenecks if b.cut <= spec.exits[i].after]
                plans.extend(one_hop(i, cut, length, codec.name, node=node) for cut in own)
                continue
            at_input = codec.serves_at_input(raw)
            starts = range(0 if at_input else 1, 1 if codec.raw or not device_first else length)
            plans.extend(one_hop(i, start, length, codec.name, node=node) for start in starts)
            if edge_first and at_input and (codec.raw or codec.exact):
                plans.extend(
                    one_hop(i, 0, stop, codec.name, node=node) for stop in range(1, length)
                )
        if hedge:
            plans.extend(
                replace(p, hedge=True)
                for p in list(plans)
                if p.exit == i and not p.is_local and not p.hedge
            )
    return (*plans, *(_without_rescue(spec, plans) if no_rescue else ()))


def varied_plans(
    spec: BranchySpec, plans: Sequence[Plan], *, hedge: bool, no_rescue: bool
) -> tuple[Plan, ...]:
    """`plans` that offload, and those of the same hops that hedge, or keep no time for a rescue.

    `spec` is the network; `hedge` and `no_rescue` as in `candidate_plans`.
    """
    hedged = [replace(p, hedge=True) for p in plans] if hedge else []
    return (*plans, *hedged, *(_without_rescue(spec, plans) if no_rescue else ()))


def _without_rescue(spec: BranchySpec, plans: Sequence[Plan]) -> list[Plan]:
    first = spec.exits[0].after
    early = [p for p in plans if not p.is_local and p.hops[0].start < first and not p.hedge]
    return [replace(p, rescue=False) for p in early]


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
