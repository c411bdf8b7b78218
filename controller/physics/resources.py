"""What is free when: every first-come resource of a topology, for any number of lanes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.physics.kept import KeptTimes
from controller.physics.topology import DEVICE_AND_EDGE, Topology


@dataclass(slots=True)
class Resources:
    """When each first-come resource is free again.

    `free_s` (R, *lanes): absolute seconds, a row for each of the topology's resources, in their
    order. `window_bytes` (U, *lanes): TCP's window on the uplink of each of its links. `kept`: for
    which fallbacks the device keeps time.
    """

    topology: Topology
    free_s: Floats
    window_bytes: Floats
    kept: KeptTimes

    @classmethod
    def idle(
        cls,
        lanes: tuple[int, ...] | int,
        window_bytes: float = np.inf,
        topology: Topology = DEVICE_AND_EDGE,
        kept: int = 0,
    ) -> Resources:
        """All resources free since ever, of that many `lanes` and a `topology`.

        TCP's windows are at `window_bytes`; `kept`: of how many fallbacks the begin is known.
        """
        shape = (lanes,) if isinstance(lanes, int) else tuple(lanes)
        free_s = np.zeros((len(topology.resources), *shape))
        windows = np.full((len(topology.links), *shape), window_bytes)
        return cls(topology, free_s, windows, KeptTimes.none(shape, kept))

    def __getitem__(self, name: str) -> Floats:
        """When the resource of that name is free, (*lanes); changing it changes the resource."""
        return np.asarray(self.free_s[self.topology.resources.index(name)])

    @property
    def device_s(self) -> Floats:
        """When the device's CPU is free."""
        return np.asarray(self.free_s[0])

    @device_s.setter
    def device_s(self, free_s: Floats) -> None:
        self.free_s[0] = free_s

    def computes_until_s(self, now_s: Floats) -> Floats:
        """When the device expects what it computes at `now_s` to be done, (*lanes)."""
        return np.maximum(self.device_s, self.kept.running_until_s(now_s))

    @property
    def uplink_s(self) -> Floats:
        """When the device's own uplink (of the first link) is free."""
        return self[self.topology.links[0].uplink]

    @uplink_s.setter
    def uplink_s(self, free_s: Floats) -> None:
        self[self.topology.links[0].uplink][...] = free_s

    def take(self, lanes: Ints) -> Resources:
        """The resources of some of the lanes (L,)."""
        free_s, windows = self.free_s[:, lanes], self.window_bytes[:, lanes]
        return Resources(self.topology, free_s, windows, self.kept.take(lanes))
