"""The table of given plans: what their stages cost, answers on their way, accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.physics.accuracy import gate_shares, plan_accuracy
from controller.physics.costs import StageCosts, compute_s
from controller.physics.stages import PlanStages, Stage, plan_stages
from controller.physics.table import P95_QUANTILE, PlanTable
from controller.physics.topology import DEVICE_AND_EDGE, Topology
from controller.plans import Plan, check_plan
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.facts.profiles import Profile


def build_table(
    spec: BranchySpec,
    profiles: Mapping[str, Profile],
    outcomes: Outcomes,
    plans: Sequence[Plan],
    *,
    topology: Topology = DEVICE_AND_EDGE,
    half: str = "policy",
    anytime: bool = True,
    temperatures: Sequence[float] = (),
) -> PlanTable:
    """The table of `plans` of the network `spec`.

    `profiles` by the topology's node names; accuracies come from one `half` of the outcomes.
    `anytime`: what was computed on the way answers where the plan does not. `temperatures` of the
    exits, for plans with gates. Raises a `UsageError` where a plan does not fit.

    `outcomes` are the network's recorded answers, `topology` the nodes and links that the plans
    name.
    """
    device = profiles[topology.device]
    stages = [plan_stages(spec, check_plan(p, spec), topology, anytime=anytime) for p in plans]
    priced = StageCosts(topology, spec, profiles, outcomes)
    costs = [priced.of(one) for one in stages]
    wait_exit, wait_s, wait_pause_s = _waits(device, stages)
    rescues = [one.fallback if anytime and one.plan.rescue else None for one in stages]
    early_exit, early_s = _early(device, stages)
    gate_share = np.zeros_like(early_s)
    for p, plan in enumerate(plans):
        if plan.gates:
            shares = gate_shares(outcomes, plan, half, temperatures)
            gate_share[p, : len(shares)] = shares
    return PlanTable(
        spec=spec,
        topology=topology,
        plans=tuple(plans),
        costs=np.array(costs, dtype=np.float64).reshape(len(plans), len(topology.slots)),
        exit=np.array([p.exit for p in plans], dtype=np.int64),
        local=np.array([p.is_local for p in plans], dtype=np.bool_),
        wait_s=wait_s,
        wait_exit=wait_exit,
        wait_pause_s=wait_pause_s,
        # none that time is kept for: never
        rescue_s=np.array([np.inf if s is None else compute_s(device, s.work) for s in rescues]),
        rescue_pause_s=np.array([0.0 if s is None else _pause_s(device, s) for s in rescues]),
        early_s=early_s,
        early_exit=early_exit,
        gate_share=gate_share,
        accuracy=np.array([plan_accuracy(outcomes, p, half, temperatures) for p in plans]),
        exit_accuracy=np.array([outcomes.accuracy(i, half=half) for i in range(len(spec.exits))]),
        sigmas=tuple(_sigma(profiles[node]) for node in topology.nodes),
    )


def _waits(device: Profile, stages: Sequence[PlanStages]) -> tuple[Ints, Floats, Floats]:
    """Exits, seconds and pauses (P, K) of the local answers made while the first hop is awaited."""
    most = max((len(one.meanwhile) for one in stages), default=0) or 1
    exits = np.full((len(stages), most), -1, dtype=np.int64)
    seconds, pauses = np.zeros((2, len(stages), most))
    for p, one in enumerate(stages):
        for k, stage in enumerate(one.meanwhile):
            assert stage.answers is not None
            exits[p, k], seconds[p, k] = stage.answers, compute_s(device, stage.work)
            pauses[p, k] = _pause_s(device, stage)
    return exits, seconds, pauses


def _pause_s(device: Profile, stage: Stage) -> float:
    """Seconds before the device looks whether a stage's answer is still wanted; 0 for never."""
    *before, _ = stage.layers
    return compute_s(device, before) if before else 0.0


def _early(device: Profile, stages: Sequence[PlanStages]) -> tuple[Ints, Floats]:
    """Gates (P, G), and when their answers are there after the prefix began."""
    most = max((len(one.plan.gates) for one in stages), default=0)
    exits = np.full((len(stages), most), -1, dtype=np.int64)
    seconds = np.zeros((len(stages), most))
    for p, one in enumerate(stages):
        for g, gate in enumerate(one.plan.gates):
            done = [piece for stage in one.prefix[: g + 1] for piece in stage.work]
            exits[p, g], seconds[p, g] = gate, compute_s(device, done)
    return exits, seconds


def _sigma(profile: Profile) -> float:
    """Log-normal spread whose p95 / median is the profile's (0 where none is published)."""
    return float(np.log(max(profile.spread, 1.0)) / P95_QUANTILE)
