"""Loads what a scenario names; every artefact is checked against the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from artefacts import ArtefactError
from controller.physics import PlanTable, Topology
from controller.physics.building import build_table
from controller.physics.candidates import candidate_plans, gated_plans, varied_plans
from controller.physics.chains import chain_plans
from controller.physics.dominance import undominated_beyond
from controller.plans import Plan, all_remote
from controller.scenarios.profiles import load_profile
from controller.scenarios.rewards import shortlist
from controller.scenarios.sections import Scenario
from controller.scenarios.setting import Setting
from models.codecs import codec_named
from models.facts.cards import Model, load_model
from models.facts.outcomes import Outcomes, read_outcomes
from models.facts.profiles import Profile


def load_setting(scenario: Scenario) -> Setting:
    """Load what a scenario names; every artefact is checked against the network."""
    model = load_model(scenario.network)
    topology = scenario.make_topology()
    profiles = _profiles(scenario, model)
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    if outcomes.model_digest != model.digest:
        raise ArtefactError(
            model.folder / "outcomes.npz",
            field="model_digest",
            found=outcomes.model_digest,
            expected=model.digest,
        )
    plans = _plans(scenario, model, topology, profiles, outcomes)
    stream = scenario.kind == "frame-stream"
    anytime = stream and scenario.plans.anytime
    every = build_table(
        model.spec, profiles, outcomes, plans, topology=topology, anytime=anytime
    )  # fmt: skip
    table = with_edge_only(every, every.undominated(scenario.link.rtt_s, queues=stream))
    if len(topology.nodes) > 2:  # of thousands most lose to another wherever plans are compared
        table = table.take(undominated_beyond(table))
    setting = Setting(scenario, model, profiles, outcomes, table, every)
    setting = replace(setting, table=table.take(shortlist(setting)))
    if not scenario.plans.confidence:
        return setting
    # gates on what is worth choosing without them: on every plan there would be thousands
    plain = setting.table.plans
    gated = gated_plans(model.spec, plain, scenario.plans.confidence)
    both = build_table(
        model.spec, profiles, outcomes, (*plain, *gated), topology=topology, anytime=anytime,
        temperatures=model.temperatures,
    )  # fmt: skip
    setting = replace(setting, table=both)
    # who knows no confidence chooses among the same plans as without it
    chosen = set(range(len(plain))) | set(shortlist(setting))
    return replace(setting, table=both.take(sorted(chosen)))


def with_edge_only(every: PlanTable, table: PlanTable) -> PlanTable:
    """`table` with a plan that other nodes compute alone, the most accurate of `every` plan.

    Where the device is as good at everything none is left of them, and there would be no rival to
    show.
    """
    if any(all_remote(every.spec, plan) for plan in table.plans):
        return table
    remote = [p for p, plan in enumerate(every.plans) if all_remote(every.spec, plan)]
    if not remote:
        return table
    best = max(remote, key=lambda p: (every.accuracy[p], -every.up_bytes[p]))
    return table.joined(every.take([best]))


def at_pace(setting: Setting, pace: float) -> Setting:
    """The same plans on a device whose computing takes `pace` times what its profile says."""
    if pace == 1.0:
        return setting
    return setting.once(f"at pace {pace!r}", lambda: _at_pace(setting, pace))


def _at_pace(setting: Setting, pace: float) -> Setting:
    name = setting.topology.device
    profiles = {**setting.profiles, name: setting.profiles[name].slowed(pace)}
    stream = setting.scenario.kind == "frame-stream"
    table = build_table(
        setting.model.spec, profiles, setting.outcomes, setting.table.plans,
        topology=setting.topology, anytime=stream and setting.scenario.plans.anytime,
        temperatures=setting.model.temperatures,
    )  # fmt: skip
    return replace(setting, profiles=profiles, table=table)


def _plans(
    scenario: Scenario,
    model: Model,
    topology: Topology,
    profiles: Mapping[str, Profile],
    outcomes: Outcomes,
) -> tuple[Plan, ...]:
    """Plans that end on the device, on any other node, or on one beyond another."""
    allowed, plans = scenario.plans, list[Plan]()
    for node in topology.nodes[1:]:
        plans += candidate_plans(
            model.spec, allowed.codecs, edge_first=allowed.edge_first,
            device_first=allowed.device_first, hedge=allowed.hedge, no_rescue=allowed.no_rescue,
            node=node,
        )  # fmt: skip
    if allowed.device_first:
        chains = chain_plans(model.spec, profiles, outcomes, topology, allowed.codecs)
        plans += varied_plans(
            model.spec, chains, hedge=allowed.hedge, no_rescue=allowed.no_rescue
        )  # fmt: skip
    return tuple(dict.fromkeys(plans))


def _profiles(scenario: Scenario, model: Model) -> dict[str, Profile]:
    """Every node's profile by its name, as slow as the scenario says."""
    found = {}
    for node in scenario.topology.nodes:
        profile = load_profile(node.profile, model).slowed(node.slowdown)
        _check_codecs(node.profile, profile, scenario.plans.codecs)
        found[node.name] = profile
    return found


def _check_codecs(path: str, profile: Profile, codecs: tuple[str, ...]) -> None:
    """Refuse a profile that says nothing of a codec that takes real time (it would be free)."""
    timed = {c.codec for c in profile.codecs}
    for codec in codecs:
        if codec_named(codec).timed and codec not in timed:
            raise ArtefactError(
                path,
                field="codecs",
                found=f"no time for '{codec}'",
                expected=f"one (coinfer profile --codecs {','.join(codecs)})",
            )
