"""Which nodes there are and what links join them: the resources that a plan's stages run on.

The device comes first. Links form a tree that grows from it: every other node has one link towards
the device, its uplink and its downlink. Every node's CPU and either direction of every link is one
first-come resource, so a further tier or worker is an entry here, and no further formula.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from artefacts import UsageError
from controller.physics.links import LinkModel

DEVICE, EDGE = "device", "edge"
"""The nodes of the usual topology."""


@dataclass(frozen=True, slots=True)
class NodeLink:
    """The link that joins node `far` to `near`, which is closer to the device.

    `rate_bps` None: its rate is a trace's (of the first link alone). `model` is what surrounds it.
    """

    near: str
    far: str
    rate_bps: float | None = None
    model: LinkModel = field(default_factory=LinkModel)

    @property
    def uplink(self) -> str:
        """The resource that carries tensors away from the device."""
        return f"uplink to {self.far}"

    @property
    def downlink(self) -> str:
        """The resource that carries tensors and answers back."""
        return f"downlink from {self.far}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the order in which a frame may use resources.

    `index` counts nodes (of a "compute") or links (of an "up" or "down") as the topology does.
    """

    kind: Literal["compute", "up", "down"]
    resource: str
    index: int


def cpu(node: str) -> str:
    """The resource that computes on a node."""
    return f"{node} CPU"


@dataclass(frozen=True)
class Topology:
    """Named nodes, the device first, and the links between them."""

    nodes: tuple[str, ...] = (DEVICE, EDGE)
    links: tuple[NodeLink, ...] = (NodeLink(DEVICE, EDGE),)

    def __post_init__(self) -> None:
        """Refuse nodes without names of their own, and links that make no tree."""
        if len(set(self.nodes)) != len(self.nodes) or not all(self.nodes):
            raise UsageError(
                f"topology nodes: found {', '.join(map(repr, self.nodes))}, expected names, each "
                "once"
            )
        reached = {self.device}
        for link in self.links:
            for node in (link.near, link.far):
                if node not in self.nodes:
                    raise UsageError(
                        f"topology links: found one to '{node}', expected nodes among "
                        f"{', '.join(self.nodes)}"
                    )
            if link.near not in reached or link.far in reached:
                raise UsageError(
                    f"topology links: found one from '{link.near}' to '{link.far}', expected every "
                    f"node to have one link, from a node nearer to '{self.device}' whose own comes "
                    "before it"
                )
            reached.add(link.far)
        varying = [link.far for link in self.links[1:] if link.rate_bps is None]
        if varying:
            raise UsageError(
                f"topology links: found none of a constant rate to '{varying[0]}', expected one: "
                "only the first link's rate may be a trace's"
            )
        alone = [node for node in self.nodes if node not in reached]
        if alone:
            raise UsageError(f"topology links: found none to '{alone[0]}', expected one")

    @property
    def device(self) -> str:
        """The node that frames arrive at."""
        return self.nodes[0]

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """What a frame may use, in order: the device, away from it and back, the device again.

        Whatever the plan, its stages stand in this order; most plans leave some out.
        """
        own = Slot("compute", cpu(self.device), 0)
        return (own, *self._beyond(self.device), own)

    def _beyond(self, node: str) -> tuple[Slot, ...]:
        found: list[Slot] = []
        for number, link in enumerate(self.links):
            if link.near == node:
                found += [
                    Slot("up", link.uplink, number),
                    Slot("compute", cpu(link.far), self.nodes.index(link.far)),
                    *self._beyond(link.far),
                    Slot("down", link.downlink, number),
                ]
        return tuple(found)

    @cached_property
    def resources(self) -> tuple[str, ...]:
        """Every resource once, the device's CPU first."""
        return tuple(dict.fromkeys(slot.resource for slot in self.slots))

    def way(self, start: str, end: str) -> tuple[NodeLink, ...]:
        """The links that lead from a node to one beyond it, in order; none where it is not."""
        by_far = {link.far: link for link in self.links}
        found: list[NodeLink] = []
        while end != start and end in by_far:
            found.insert(0, by_far[end])
            end = by_far[end].near
        return tuple(found) if end == start else ()


DEVICE_AND_EDGE = Topology()
