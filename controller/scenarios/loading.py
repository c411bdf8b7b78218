"""Loads what a scenario names; every artefact is checked against the network."""

from __future__ import annotations

from dataclasses import replace

from artefacts import ArtefactError
from controller.physics import LinkModel, NodeLink, Topology
from controller.physics.building import build_table
from controller.physics.candidates import candidate_plans, gated_plans
from controller.physics.topology import DEVICE, EDGE
from controller.scenarios.file import Scenario
from controller.scenarios.profiles import load_profile
from controller.scenarios.rewards import shortlist
from controller.scenarios.setting import Setting
from models.codecs import codec_named
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.facts.profiles import Profile


def load_setting(scenario: Scenario) -> Setting:
    """Load what a scenario names; every artefact is checked against the network."""
    model = load_model(scenario.network)
    device = load_profile(scenario.device_profile, model).slowed(scenario.device_slowdown)
    edge = load_profile(scenario.edge_profile, model)
    for named, profile in ((scenario.device_profile, device), (scenario.edge_profile, edge)):
        _check_codecs(named, profile, scenario.plans.codecs)
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    if outcomes.model_digest != model.digest:
        raise ArtefactError(
            model.folder / "outcomes.npz",
            field="model_digest",
            found=outcomes.model_digest,
            expected=model.digest,
        )
    plans = candidate_plans(
        model.spec,
        scenario.plans.codecs,
        edge_first=scenario.plans.edge_first,
        device_first=scenario.plans.device_first,
        hedge=scenario.plans.hedge,
        no_rescue=scenario.plans.no_rescue,
    )
    stream = scenario.kind == "frame-stream"
    anytime = stream and scenario.plans.anytime
    profiles = {DEVICE: device, EDGE: edge}
    link = scenario.link
    around = LinkModel(link.rtt_s, link.message_bytes, link.packet_bytes)
    topology = Topology((DEVICE, EDGE), (NodeLink(DEVICE, EDGE, None, around),))
    every = build_table(
        model.spec, profiles, outcomes, plans, topology=topology, anytime=anytime
    )  # fmt: skip
    table = every.undominated(scenario.link.rtt_s, queues=stream)
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
