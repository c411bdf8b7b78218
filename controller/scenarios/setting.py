"""The scenario loaded: model, profiles, outcomes and plan table, checked against one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import msgspec
import numpy as np

from artefacts import UsageError, digest_bytes, digest_file
from controller.physics import (
    ConstantLink,
    Link,
    LinkModel,
    PlanTable,
    Resources,
    Timing,
    Topology,
)
from controller.physics.accuracy import answering_gate, plan_quality
from controller.physics.gates import GateRows, with_gates
from controller.scenarios.outcome_rows import OutcomeRows
from controller.scenarios.sample_bytes import SIZES, SampleSizes, load_sizes, weights_of
from controller.scenarios.sections import RewardSection, Scenario
from controller.scenarios.world import WorldSection
from models.facts.branchy import BranchySpec
from models.facts.cards import Model
from models.facts.outcomes import Outcomes
from models.facts.profiles import Profile
from traces.library import TraceSet, load_split
from traces.subsecond import subsecond_set
from traces.trace import BandwidthTrace

Made = TypeVar("Made")

SUB_SECOND_SEEDS = {"train": 101, "validation": 102, "test": 103}
"""Of the variation within seconds where a scenario's world has it, by part."""
CONSTANT_S = 600.0
"""How long the trace of a link of constant rate is."""


@dataclass(frozen=True, repr=False)
class Setting:
    """Everything a scenario names, loaded and checked against one another."""

    scenario: Scenario
    model: Model
    profiles: Mapping[str, Profile]
    """Of every node, by its name in the topology."""
    outcomes: Outcomes
    table: PlanTable
    """The plans that are worth choosing among; controllers answer with an index into it."""
    candidates: PlanTable
    """Every plan the scenario allows, gates aside."""
    given_prices: RewardSection | None = None
    """Prices given at run time, in the place of the scenario's."""

    def __repr__(self) -> str:
        return f"Setting({self.scenario.name}, {len(self.table)} plans)"

    @property
    def spec(self) -> BranchySpec:
        """The branchy network's architecture."""
        return self.model.spec

    @property
    def closed_loop(self) -> bool:
        """Whether the next inference starts when the last ends (the paper's loop)."""
        return self.scenario.kind == "closed-loop"

    @property
    def interval_s(self) -> float:
        """Seconds between two frames of a stream; infinite in the closed loop."""
        rate = self.scenario.frames.rate_fps
        return float("inf") if self.closed_loop or rate <= 0 else 1.0 / rate

    @property
    def prices(self) -> RewardSection:
        """What device seconds and megabytes cost now."""
        return self.scenario.reward if self.given_prices is None else self.given_prices

    @property
    def digest(self) -> str:
        """SHA-256 of the scenario and of every artefact that it names, at the prices of now."""
        parts = (
            self.scenario.digest,
            repr(self.given_prices),
            self.model.digest,
            self.inputs_digest,
        )
        return digest_bytes(" ".join(parts).encode())

    @cached_property
    def inputs_digest(self) -> str:
        """SHA-256 of what was measured: all profiles, outcomes, temperatures of confidence."""
        parts = (
            *(digest_bytes(msgspec.json.encode(self.profiles[n])) for n in self.topology.nodes),
            digest_file(self.model.folder / "outcomes.npz"),
            repr(self.model.temperatures),
            *((digest_file(self.model.folder / SIZES),) if self.uses_sizes else ()),
        )
        return digest_bytes(" ".join(parts).encode())

    @property
    def uses_sizes(self) -> bool:
        """Whether samples differ in bytes in this scenario's world."""
        return self.scenario.world.picture_sizes or self.scenario.world.scene_s > 0

    def at_prices(self, device_second: float, megabyte: float) -> Setting:
        """The same plans, traces and samples at other prices."""
        for field, value in (("device_second", device_second), ("megabyte", megabyte)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"prices, {field}: found {value:g}, expected 0 or more")
        if self.closed_loop and (device_second or megabyte):
            raise UsageError(
                f"prices: found some for '{self.scenario.name}', expected none: a closed loop has "
                "the paper's reward"
            )
        given = RewardSection(device_second, megabyte)
        # at the scenario's own it is the scenario itself, whoever named them
        made = replace(self, given_prices=None if given == self.scenario.reward else given)
        # what prices do not change is not worked out again
        kept = ("gate_rows", "_rows", "timing")
        made.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return made

    @property
    def topology(self) -> Topology:
        """The nodes, and the links between them."""
        return self.table.topology

    @property
    def device(self) -> Profile:
        """The device's profile."""
        return self.profiles[self.topology.device]

    @property
    def link_model(self) -> LinkModel:
        """What surrounds the rate of the device's own link."""
        return self.topology.links[0].model

    @cached_property
    def link_models(self) -> tuple[LinkModel, ...]:
        """What surrounds the rate of every link."""
        return tuple(link.model for link in self.topology.links)

    def links(self, first: Link) -> tuple[Link, ...]:
        """All links where `first` is the device's own; the others have constant rates."""
        return (first, *self._constant_links)

    @cached_property
    def _constant_links(self) -> tuple[ConstantLink, ...]:
        return tuple(ConstantLink(np.array(one.rate_bps)) for one in self.topology.links[1:])

    @cached_property
    def timing(self) -> Timing:
        """The physics' clock: no cancelling in the closed loop."""
        return Timing(None if self.closed_loop else self.scenario.frames.deadline_s)

    def in_world(self, world: WorldSection) -> Setting:
        """The same, simulated in another world."""
        return replace(self, scenario=msgspec.structs.replace(self.scenario, world=world))

    def idle(self, lanes: int) -> Resources:
        """Idle resources of that many systems; a device keeps time for all frames under way."""
        frames = self.scenario.frames
        kept = 0 if self.closed_loop else math.ceil(frames.deadline_s * frames.rate_fps) + 1
        window_bytes = self.link_model.initial_window_bytes
        return Resources.idle(lanes, window_bytes, self.topology, kept)

    def traces(self, part: str) -> TraceSet:
        """The scenario's traces of 'train', 'validation' or 'test', scaled."""
        rate_bps = self.topology.links[0].rate_bps
        if rate_bps is not None:
            return constant_set(rate_bps)
        found = self.scaled(load_split(self.scenario.traces.family, part))
        if not self.scenario.world.sub_second:
            return found
        # what was trained on is never what is judged by
        return subsecond_set(found, SUB_SECOND_SEEDS[part])

    def scaled(self, traces: TraceSet) -> TraceSet:
        """Other traces, scaled as this scenario's are."""
        own = self.scenario.topology.links[0].traces
        factor = 1.0 if own is None else own.scale
        if factor == 1.0:
            return traces
        return replace(traces, traces=tuple(scale_trace(t, factor) for t in traces.traces))

    @cached_property
    def gate_rows(self) -> GateRows:
        """What the table's plans become once their gates have been asked."""
        return with_gates(self.table)

    def rows(self, half: str) -> OutcomeRows:
        """Outcomes of one half of the samples, by exit and by every way a plan may end."""
        if half not in self._rows:
            self._rows[half] = self._made_rows(half)
        return self._rows[half]

    @cached_property
    def _rows(self) -> dict[str, OutcomeRows]:
        return {}

    def _made_rows(self, half: str) -> OutcomeRows:
        index, exits = self.outcomes.half(half), len(self.spec.exits)
        rows = [self.outcomes.quality_of(i)[index] for i in range(exits)]
        for plan in self.gate_rows.table.plans:
            rows.append(plan_quality(self.outcomes, plan)[index])
        at = None
        if self.table.gated.any():
            at = np.tile(np.arange(len(self.table), dtype=np.int32)[:, None], (1, len(index)))
            for p, plan in enumerate(self.table.plans):
                answers = answering_gate(self.outcomes, plan, self.model.temperatures)[index]
                for g in range(len(plan.gates)):
                    at[p, answers == g] = self.gate_rows.row[p, g]
        quality = np.stack(rows)
        world = self.scenario.world
        if world.tidy:
            return OutcomeRows(quality, exits, self.gate_rows, at)
        sure = [
            self.outcomes.calibrated(exit_, temperature)[index]
            for exit_, temperature in enumerate(self.model.temperatures)
        ]
        weights: tuple[Any, Any] = (None, None)
        if world.picture_sizes:
            weights = weights_of(self.sizes, self.outcomes, self.gate_rows.table.plans, index)
        confidences = np.stack(sure).astype(np.float32)
        return OutcomeRows(quality, exits, self.gate_rows, at, *weights, confidences)

    def once(self, kind: str, make: Callable[[], Made], *of: object) -> Made:
        """What is made of this setting and of the objects `of`, once for all who ask.

        A controller a trace asks for the same tables. `of` are known by their identity.
        """
        key = (kind, *map(id, of))
        if key not in self._shared:
            self._shared[key] = make(), of  # kept, so that no other object has their identity
        return cast("Made", self._shared[key][0])

    @cached_property
    def _shared(self) -> dict[Hashable, tuple[object, tuple[object, ...]]]:
        return {}

    @cached_property
    def sizes(self) -> SampleSizes:
        """Bytes of every sample by codecs whose bytes depend on it; refuses other pictures'."""
        return load_sizes(self.model, self.outcomes)


def constant_set(rate_bps: float) -> TraceSet:
    """The one trace of a link of constant rate, the same in every part."""
    name = f"constant-{rate_bps / 1e6:g}-mbps"
    trace = BandwidthTrace.from_intervals(name, [CONSTANT_S], [rate_bps])
    return TraceSet((trace,), True, f"a constant rate of {rate_bps / 1e6:g} Mbit/s")


def scale_trace(trace: BandwidthTrace, factor: float) -> BandwidthTrace:
    """The trace at `factor` times its rates."""
    return trace.scale(factor)
