"""The grid of the coupled queue's states: how fine it is, and where one frame leads on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Float32s, Floats, Ints

FINER = 4
"""Finer steps of the device's backlog, where an answer is about to be lost."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How finely states and compute times are resolved.

    Steps of the device's and the uplink's backlog in seconds; steps of the bytes still owed after a
    deadline; Gauss-Hermite nodes of the device's compute time in plans that offload; equally likely
    ones in local plans, whose transitions no trace changes, so that they are worked out once.
    """

    device_step_s: float = 0.005
    uplink_step_s: float = 0.005
    owed_steps: int = 4
    nodes: int = 4
    local_nodes: int = 128

    def refined(self) -> Grid:
        """Half the steps, twice the nodes."""
        return Grid(
            self.device_step_s / 2,
            self.uplink_step_s / 2,
            2 * self.owed_steps,
            2 * self.nodes,
            2 * self.local_nodes,
        )


def device_states(
    step_s: float, deadline_s: float, interval_s: float, most: float, shortest_s: Sequence[float]
) -> Floats:
    """Seconds until the device is free, at a frame's arrival: even steps of `step_s`, and finer
    ones to where the shortest local plan is no longer begun.

    Its answer gets lost there at once, and a queue that is used well stands just before.
    `shortest_s` is what that plan takes, at each of the device's paces; computing takes `most`
    times that at most. Frames come every `interval_s` and are due `deadline_s` after.
    """
    greatest_s = max(float(deadline_s * most - interval_s), step_s)
    states = np.linspace(0.0, greatest_s, int(np.ceil(greatest_s / step_s)) + 1)
    for seconds in shortest_s:
        jump = deadline_s - seconds
        fine = np.arange(0.0, seconds * (most - 1), step_s / FINER)
        sides = np.concatenate([jump - 1e-6 - fine, [jump + 1e-6]])
        states = np.concatenate([states, sides[(sides > 0) & (sides < greatest_s)]])
    return np.unique(states.round(9))


@dataclass(frozen=True, slots=True)
class Landing:
    """Rewards, and where each leads: the cell of the flat (D, U) grid and the place within it."""

    reward: Float32s
    cell: npt.NDArray[np.int32]
    device: Float32s
    uplink: Float32s

    def value(self, after: Floats) -> Floats:
        """Reward plus the bilinear value of the next state; `after` is (D, U)."""
        flat, width = after.ravel(), after.shape[1]
        low = flat[self.cell] * (1 - self.uplink) + flat[self.cell + 1] * self.uplink
        above = self.cell + width
        high = flat[above] * (1 - self.uplink) + flat[above + 1] * self.uplink
        return np.asarray(self.reward + low * (1 - self.device) + high * self.device)

    def part(self, which: slice) -> Landing:
        """Some of them."""
        return Landing(self.reward[which], self.cell[which], self.device[which], self.uplink[which])


@dataclass(frozen=True, slots=True)
class Step:
    """One frame's transitions: at median compute times, and by nodes where those matter."""

    at_median: Landing
    varied: Ints
    by_node: Landing
    in_vain: Ints
    alone: Ints
    """Where the edge's answer comes too late to matter: row of `CoupledQueue.alone_next`."""
    alone_reward: Float32s
    waiting: Ints
    waiting_weight: Floats
    """Where every uplink state stands a frame later, if nothing is sent."""
