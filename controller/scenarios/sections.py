"""A scenario's sections, as format 2 of the file has them (`file` reads both formats).

`Scenario` is the file, validated. It names its nodes and the links between them; device and edge
are the usual two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from artefacts import UsageError, digest_bytes
from controller.physics import LinkModel, NodeLink, Topology
from controller.physics.topology import DEVICE, EDGE
from controller.scenarios.world import WorldSection

FORMAT_VERSION = 2
PRICED = "-priced"
"""Follows the name of a scenario that is taken at prices which its file does not name."""


class LinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What surrounds a link's rate (see `controller.physics.LinkModel`)."""

    rtt_s: float = 0.0
    """Round trip of the link, beside what its rate takes."""
    message_bytes: float = 0.0
    """Added to every message: header and metadata of the wire."""
    packet_bytes: float = 0.0
    """Added to every packet of a message: headers of Ethernet, IP and TCP (66)."""


class TraceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`traces` of a link: the family whose split is used, and the factor on its rates."""

    family: Literal["belgium", "norway"]
    """Whose logs, and which split of them."""
    scale: float = 1.0
    """Factor on every rate."""


class FrameSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[frames]`: deadline (latency requirement) and, in a frame stream, the frame rate."""

    deadline_s: float
    """From a frame's arrival to the latest answer that counts."""
    rate_fps: float = 0.0
    """Frames a second; of a closed loop 0."""


class PlanSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[plans]`: which plans exist.

    `confidence`: thresholds at which a frame ends at an exit on its way ("unless confident
    before").
    """

    codecs: tuple[str, ...] = ("float32",)
    """What tensors may be sent as."""
    edge_first: bool = True
    """Plans whose first layers run on the edge, the rest on the device."""
    device_first: bool = True
    """Plans whose first layers run on the device, the rest on the edge."""
    hedge: bool = False
    """Plans in which the device goes on computing while the edge is awaited."""
    no_rescue: bool = False
    """Plans without a local answer, which leave the device free."""
    confidence: tuple[float, ...] = ()
    """Thresholds at which a frame ends at an exit on its way."""
    anytime: bool = True
    """Whether what was computed on the way answers where the plan does not (false: for ablations,
    in simulation only; the runtime always answers)."""


class RewardSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[reward]`: prices in correct answers (frame stream); the closed loop has the paper's."""

    device_second: float = 0.0
    """Of a second of the device's processor."""
    megabyte: float = 0.0
    """Of a megabyte that crosses the link."""


class SeedSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[seeds]`: of training and of evaluation (phases, samples, compute times)."""

    train: int = 0
    """Of training."""
    evaluate: int = 1
    """Of evaluation."""


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[topology.nodes]]`: a machine that computes; the first one is the device."""

    name: str
    """What plans call it."""
    profile: str
    """A shipped profile, or a file beside the scenario."""
    slowdown: float = 1.0
    """How many times slower the machine is than its profile."""


class NodeLinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[topology.links]]`: the link between two nodes, the one nearer to the device first.

    It has `traces` (the first link alone) or a constant `rate_bps`.
    """

    between: tuple[str, str]
    """Names of the two nodes."""
    traces: TraceSection | None = None
    """What its bandwidth does."""
    rate_bps: float | None = None
    """Its constant bandwidth, bits per second."""
    rtt_s: float = 0.0
    """Round trip of the link, beside what its rate takes."""
    message_bytes: float = 0.0
    """Added to every message: header and metadata of the wire."""
    packet_bytes: float = 0.0
    """Added to every packet of a message: headers of Ethernet, IP and TCP (66)."""


class TopologySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[topology]`: the nodes, and the links between them."""

    nodes: tuple[NodeSection, ...]
    """The device first."""
    links: tuple[NodeLinkSection, ...]
    """The device's own first; every node beyond the device has one towards it."""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario file; every key is checked, an unknown one is refused."""

    format_version: int
    name: str
    """What it is called in results and policies."""
    kind: Literal["frame-stream", "closed-loop"]
    """Frames at a fixed rate, or each after the answer to the one before."""
    description: str
    """One line for people."""
    network: str
    """A shipped network, or the folder of a card."""
    topology: TopologySection
    """Who computes, and what lies between."""
    frames: FrameSection
    """How often frames come, and by when they must be answered."""
    plans: PlanSection = PlanSection()
    """Which plans there are."""
    reward: RewardSection = RewardSection()
    """What is paid for."""
    seeds: SeedSection = SeedSection()
    """Of what is random."""
    world: WorldSection = WorldSection()
    """What a real system meets beyond plans and profiles."""

    @property
    def device_profile(self) -> str:
        """The first node's profile."""
        return self.topology.nodes[0].profile

    @property
    def edge_profile(self) -> str:
        """The profile of the node at the far end of the first link."""
        far = self.topology.links[0].between[1]
        return next(node.profile for node in self.topology.nodes if node.name == far)

    @property
    def device_slowdown(self) -> float:
        """How many times slower the device is than its profile."""
        return self.topology.nodes[0].slowdown

    @property
    def traces(self) -> TraceSection:
        """What the first link's bandwidth does; refuses a link of constant rate."""
        found = self.topology.links[0].traces
        if found is None:
            raise UsageError(
                f"scenario '{self.name}': found a first link of constant rate, expected one with "
                "traces"
            )
        return found

    @property
    def link(self) -> LinkSection:
        """What surrounds the first link's rate."""
        own = self.topology.links[0]
        return LinkSection(own.rtt_s, own.message_bytes, own.packet_bytes)

    def with_node(self, number: int, **changes: Any) -> Scenario:
        """The same with other fields of a node."""
        nodes = list(self.topology.nodes)
        nodes[number] = msgspec.structs.replace(nodes[number], **changes)
        topology = msgspec.structs.replace(self.topology, nodes=tuple(nodes))
        return msgspec.structs.replace(self, topology=topology)

    def with_link(self, number: int, **changes: Any) -> Scenario:
        """The same with other fields of a link."""
        links = list(self.topology.links)
        links[number] = msgspec.structs.replace(links[number], **changes)
        topology = msgspec.structs.replace(self.topology, links=tuple(links))
        return msgspec.structs.replace(self, topology=topology)

    @property
    def is_device_and_edge(self) -> bool:
        """Whether format 1 could say it: a device and an edge as it is, over a link with traces."""
        nodes, (link, *more) = self.topology.nodes, self.topology.links
        usual = [node.name for node in nodes] == [DEVICE, EDGE] and nodes[1].slowdown == 1.0
        return usual and not more and link.traces is not None

    def _as_format_1(self, plain: dict[str, Any]) -> dict[str, Any]:
        """The fields `plain` of a device and its edge as format 1 has them, in its order."""
        device, edge = self.topology.nodes
        slowed = {} if device.slowdown == 1.0 else {"device_slowdown": device.slowdown}
        return {
            "format_version": 1,
            **{field: plain[field] for field in ("name", "kind", "description", "network")},
            "device_profile": device.profile,
            "edge_profile": edge.profile,
            "traces": msgspec.to_builtins(self.traces),
            "frames": plain["frames"],
            "link": msgspec.to_builtins(self.link),
            **{field: plain[field] for field in ("plans", "reward", "seeds")},
            **slowed,
        }

    def make_topology(self) -> Topology:
        """The nodes and links as the physics knows them; a `UsageError` where they are no tree."""
        links = (
            NodeLink(
                *one.between,
                one.rate_bps,
                LinkModel(one.rtt_s, one.message_bytes, one.packet_bytes),
            )
            for one in self.topology.links
        )
        return Topology(tuple(node.name for node in self.topology.nodes), tuple(links))

    @property
    def digest(self) -> str:
        """SHA-256 of the scenario's content; policies record what they were trained for.

        A device and its edge have the same digest in either format.
        """
        bare = self
        for number, node in enumerate(self.topology.nodes):
            # where the files lie is no part of what was trained for
            bare = bare.with_node(number, profile=Path(node.profile).name)
        bare = msgspec.structs.replace(bare, network=Path(self.network).name)
        plain: dict[str, Any] = msgspec.to_builtins(bare)
        world = plain.pop("world")
        if bare.is_device_and_edge:
            plain = bare._as_format_1(plain)
        if not self.world.tidy:
            plain["world"] = world
        # what came after the first published digests counts only where it is used
        if not self.plans.confidence:
            del plain["plans"]["confidence"]
        if self.plans.anytime:
            del plain["plans"]["anytime"]
        return digest_bytes(msgspec.json.encode(plain))
