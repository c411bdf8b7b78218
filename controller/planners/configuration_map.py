"""Algorithm 2: the configuration map (bandwidth state -> plan), and the controller that follows it.

(Li et al., IEEE TWC 2020, section V-C.) The map is made offline, by the scenario's reward; online a
change-point detector (Algorithm 3, `controller.sensing`) decides when the state is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import DEVICE_JSON_BYTES, ArtefactError, UsageError, read_json, write_json
from controller.interface import FrameResult, Measurement, Situation
from controller.physics.topology import EDGE
from controller.plans import Hop, Plan
from controller.scenarios import Setting
from controller.scenarios.rewards import expected_rewards
from controller.sensing.state_tracker import StateTracker
from models.facts.branchy import BranchySpec
from traces.states import BandwidthState

FORMAT_VERSION = 1

NORMAL_QUANTILES = (-1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 1.593)
"""Medians of nine equal slices of the standard normal: a state's bandwidths, equally likely."""


class MapHop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hop of a plan, behind its first one."""

    node: str
    """Where it runs."""
    start: int
    """First layer that runs there, from 0."""
    stop: int
    """First layer after it that does not."""
    codec: str
    """What crosses to it is sent as."""


class MapEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One bandwidth state and its plan (exits counted from 1, as people do).

    Layers [start, stop) run on `node`, and what `further` hops say on others; an empty interval at
    the branch's end is a plan of the device alone.
    """

    mean_bps: float
    """Mean bandwidth of the state."""
    std_bps: float
    """Its standard deviation."""
    exit: int
    """The plan's exit, from 1."""
    start: int
    """First layer that runs on `node`, from 0."""
    stop: int
    """First layer after it that does not."""
    codec: str
    """What crosses the link is sent as."""
    hedge: bool
    """Whether the device goes on computing while the edge is awaited."""
    rescue: bool
    """Whether a local answer is kept."""
    expected_reward: float
    """Of the plan in this state."""
    gates: tuple[int, ...] = ()
    """Exits on the way that may end the frame, from 1."""
    threshold: float = 1.0
    """How sure a gate must be to end the frame."""
    node: str = EDGE
    """The node of the first hop."""
    further: tuple[MapHop, ...] = ()
    """Hops behind the first one."""

    @property
    def plan(self) -> Plan:
        """The entry's plan."""
        hops: tuple[Hop, ...] = ()
        if self.start != self.stop:
            hops = (Hop(self.node, self.start, self.stop, self.codec),)
            hops += tuple(Hop(h.node, h.start, h.stop, h.codec) for h in self.further)
        return Plan(
            self.exit - 1, hops, self.hedge, self.rescue, tuple(g - 1 for g in self.gates),
            self.threshold,
        )  # fmt: skip


def _entry(
    spec: BranchySpec, state: BandwidthState, plan: Plan, expected_reward: float
) -> MapEntry:
    length = len(spec.branches[plan.exit])
    first = plan.hops[0] if plan.hops else Hop(EDGE, length, length)
    further = tuple(MapHop(h.node, h.start, h.stop, h.codec) for h in plan.hops[1:])
    return MapEntry(
        state.mean_bps, state.std_bps, plan.exit + 1, first.start, first.stop, first.codec,
        plan.hedge, plan.rescue, expected_reward, tuple(g + 1 for g in plan.gates),
        plan.threshold, first.node, further,
    )  # fmt: skip


class ConfigurationMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bandwidth states and their plans, for one scenario."""

    format_version: int
    scenario: str
    """Name of the scenario."""
    scenario_digest: str
    """Of its file."""
    made_from: str
    """Where the states are from."""
    entries: tuple[MapEntry, ...]
    """A state and its plan each."""

    @property
    def states(self) -> tuple[BandwidthState, ...]:
        """The states in the order of the entries."""
        return tuple(BandwidthState(e.mean_bps, e.std_bps) for e in self.entries)


def state_bandwidths(state: BandwidthState) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Nine equally likely bandwidths of a state (normal, floored at 1 % of the mean)."""
    values = state.mean_bps + state.std_bps * np.array(NORMAL_QUANTILES)
    return np.maximum(values, 0.01 * state.mean_bps)


def build_map(
    setting: Setting, states: Sequence[BandwidthState], made_from: str
) -> ConfigurationMap:
    """Algorithm 2: for every state the plan of greatest expected reward."""
    if not states:
        raise UsageError("configuration map: found no bandwidth states, expected at least one")
    rewards = [expected_rewards(setting, state_bandwidths(s)).mean(axis=0) for s in states]
    return map_of(setting, states, [int(np.argmax(r)) for r in rewards], made_from, rewards)


def map_of(
    setting: Setting,
    states: Sequence[BandwidthState],
    plans: Sequence[int],
    made_from: str,
    rewards: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> ConfigurationMap:
    """A map that gives `plans[k]` (table index) in `states[k]`.

    `setting` is the scenario loaded, `made_from` says where the states come from. `rewards[k]`
    (plans,) is what each plan of the table is expected to earn in `states[k]`.
    """
    entries = tuple(
        _entry(setting.spec, state, setting.table.plans[index], float(reward[index]))
        for state, index, reward in zip(states, plans, rewards, strict=True)
    )
    return ConfigurationMap(
        FORMAT_VERSION, setting.scenario.name, setting.scenario.digest, made_from, entries
    )


def write_map(path: str | Path, made: ConfigurationMap) -> None:
    """Write a map as JSON, atomically."""
    write_json(path, made)


def read_map(path: str | Path, setting: Setting) -> ConfigurationMap:
    """Read a map and refuse one made for another scenario or with plans that do not exist."""
    made = read_json(path, ConfigurationMap, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES)
    if made.scenario_digest != setting.scenario.digest:
        raise ArtefactError(
            path,
            field="scenario_digest",
            found=f"{made.scenario_digest[:12]}… ({made.scenario})",
            expected=f"{setting.scenario.digest[:12]}… ({setting.scenario.name})",
        )
    for number, entry in enumerate(made.entries):
        known = entry.plan in setting.table.plans
        if known and entry.plan.is_local:
            known = entry.start == len(setting.spec.branches[entry.plan.exit])
        if not known:
            raise ArtefactError(
                path, field=f"entries[{number}]", found=str(entry.plan), expected="a known plan"
            )
    return made


class MapController:
    """Edgent's dynamic mode: the map's plan of the present state; switches only at a change."""

    PATIENCE_S = 5.0
    """Seconds without a measurement after which a local plan is left for one probing frame."""

    def __init__(
        self, setting: Setting, made: ConfigurationMap, tracker: StateTracker, name: str = "map"
    ) -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self.switches = 0
        self._table = setting.table
        self._plans = [setting.table.index(e.plan) for e in made.entries]
        self._tracker = tracker
        self._remote = setting.table.senders
        self._blind = self._least_remote()
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._tracker.reset()
        self._plan = self._blind
        self._seen_s = -np.inf
        self.switches = 0

    def observe(self, measurement: Measurement) -> None:
        """Update the detector; take the new state's plan when the state changes."""
        self._seen_s = measurement.known_s
        if self._tracker.observe(measurement):
            plan = self._plans[self._tracker.state_index]
            self.switches += plan != self._plan
            self._plan = plan

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The state's plan; now and then a probing frame where the plan is local and blind."""
        blind = situation.now_s - self._seen_s > self.PATIENCE_S
        if self._table.quiet[self._plan] and blind:
            self._seen_s = situation.now_s
            return self._blind
        return self._plan

    def _least_remote(self) -> int:
        """The offload that sends least: what a blind controller tries first."""
        if not len(self._remote):
            return 0
        return int(self._remote[np.argmin(self._table.up_bytes[self._remote])])
