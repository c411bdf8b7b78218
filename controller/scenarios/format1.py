"""Format 1 of the scenario file: a device and an edge, without a topology of its own."""

from __future__ import annotations

from typing import Literal

import msgspec

from controller.physics.topology import DEVICE, EDGE
from controller.scenarios.sections import (
    FORMAT_VERSION,
    FrameSection,
    LinkSection,
    NodeLinkSection,
    NodeSection,
    PlanSection,
    RewardSection,
    Scenario,
    SeedSection,
    TopologySection,
    TraceSection,
)
from controller.scenarios.world import WorldSection

FIELDS = {
    "topology.nodes[0].profile": "device_profile",
    "topology.nodes[0].slowdown": "device_slowdown",
    "topology.nodes[1].profile": "edge_profile",
    "topology.links[0].traces.scale": "traces.scale",
    "topology.links[0].rtt_s": "link.rtt_s",
    "topology.links[0].message_bytes": "link.message_bytes",
    "topology.links[0].packet_bytes": "link.packet_bytes",
}
"""What fields of format 2 are called in format 1."""


class ScenarioFormat1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario file of format 1; every key is checked, an unknown one is refused."""

    format_version: int
    name: str
    """What it is called in results and policies."""
    kind: Literal["frame-stream", "closed-loop"]
    """Frames at a fixed rate, or each after the answer to the one before."""
    description: str
    """One line for people."""
    network: str
    """A shipped network, or the folder of a card."""
    device_profile: str
    """A shipped profile, or a file beside the scenario."""
    edge_profile: str
    """The same of the edge."""
    traces: TraceSection
    """What the link's bandwidth does."""
    frames: FrameSection
    """How often frames come, and by when they must be answered."""
    link: LinkSection = LinkSection()
    """What surrounds the trace's rate."""
    plans: PlanSection = PlanSection()
    """Which plans there are."""
    reward: RewardSection = RewardSection()
    """What is paid for."""
    seeds: SeedSection = SeedSection()
    """Of what is random."""
    device_slowdown: float = 1.0
    """How many times slower the device is than its profile."""
    world: WorldSection = WorldSection()
    """What a real system meets beyond plans and profiles."""

    def scenario(self) -> Scenario:
        """The same as format 2 has it."""
        nodes = (
            NodeSection(DEVICE, self.device_profile, self.device_slowdown),
            NodeSection(EDGE, self.edge_profile),
        )
        around = msgspec.structs.asdict(self.link)
        link = NodeLinkSection((DEVICE, EDGE), self.traces, None, **around)
        return Scenario(
            FORMAT_VERSION, self.name, self.kind, self.description, self.network,
            TopologySection(nodes, (link,)), self.frames, self.plans, self.reward, self.seeds,
            self.world,
        )  # fmt: skip
