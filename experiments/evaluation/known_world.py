"""What a clairvoyant knows of the world that a stretch's frames meet: as it will be drawn.

A scenario's `[world]` is drawn by a generator that no decision touches (`envs.world`). So a copy of
that generator tells beforehand what every frame will meet: how slow device and edge are, what
others have asked of the edge, which picture it shows. Of the picture its bytes are known. Whether
it is answered right, and which gate stops it, is not; nor are the spread of computing times and the
jitter of overheads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.physics import Resources
from controller.scenarios.world import WorldSection
from envs.simulator import Simulator


@dataclass(frozen=True, slots=True)
class KnownWorld:
    """One value a frame, (F,), or one for a single frame.

    `pace` and `edge`: how many times longer device and edge compute than usual. `queued_s`: what
    others have asked of the edge, in its seconds. `sample`: the picture, -1 for one of mean bytes.
    """

    pace: Floats
    edge: Floats
    queued_s: Floats
    sample: Ints

    @classmethod
    def calm(cls, frames: int) -> KnownWorld:
        """Nothing is slower, nobody else asks the edge, pictures have their mean bytes."""
        ones = np.ones(frames)
        return cls(ones, ones, np.zeros(frames), np.full(frames, -1))

    @classmethod
    def of_lane(cls, met: Sequence[KnownWorld], lane: int) -> KnownWorld:
        """One lane of what all lanes have `met`, a frame each."""
        return cls(
            np.array([one.pace[lane] for one in met]),
            np.array([one.edge[lane] for one in met]),
            np.array([one.queued_s[lane] for one in met]),
            np.array([one.sample[lane] for one in met], dtype=np.int64),
        )

    def take(self, frames: Ints | int) -> KnownWorld:
        """Those of some of the frames; of one beyond the last what the last one meets."""
        index = np.minimum(frames, len(self.pace) - 1)
        return KnownWorld(
            self.pace[index], self.edge[index], self.queued_s[index], self.sample[index]
        )

    @property
    def columns(self) -> Floats:
        """All of it as a matrix (F, 4): frames of equal rows meet the same."""
        return np.column_stack([self.pace, self.edge, self.queued_s, self.sample])


@runtime_checkable
class Clairvoyant(Protocol):
    """A controller in simulation that knows all that its lane's frames will meet."""

    def foresee(self, known: KnownWorld, resources: Callable[[], Resources]) -> None:
        """Called before the first frame, in a world that is not tidy.

        `resources` gives the lane's true ones, (1,), at any moment.
        """


def foreseen(simulator: Simulator, frames: int | None) -> list[KnownWorld]:
    """What the frames of every lane will meet from now on, `frames` of them at most.

    The lanes of `simulator` are placed, and none has begun. Its generators stay where they are.
    """
    world, rng = deepcopy(simulator.world), deepcopy(simulator.rng)
    lanes, now_s, rows = simulator.lanes, simulator.now_s.copy(), simulator.rows
    durations_s, nodes = simulator.bank.durations_s, len(rows.gate_rows.table.sigmas)
    alive, count = np.isfinite(now_s), np.zeros(lanes, dtype=np.int64)
    met: list[KnownWorld] = []
    while alive.any() and (frames is None or len(met) < frames):
        sample = rng.integers(0, rows.samples, lanes)
        rng.standard_normal((nodes, lanes))
        if world is None:
            met.append(KnownWorld.calm(lanes))
        else:
            drawn = world.draw(now_s)
            sample = sample if drawn.sample is None else drawn.sample
            sample = np.full(lanes, -1) if rows.weights is None else sample
            met.append(KnownWorld(drawn.slower[0], drawn.slower[1], drawn.queued_s, sample))
        count += alive
        following = now_s + simulator.interval_s
        # as the evaluator has it: a lane whose trace is over stands at 0
        alive = alive & (following + simulator.deadline_s <= durations_s)
        now_s = np.where(alive, following, 0.0)
    return [KnownWorld.of_lane(met[: count[k]], k) for k in range(lanes)]


def paces(world: WorldSection) -> list[float]:
    """What the device's computing may take over its profile, by the states that it may be in."""
    states = [one for one in (world.device.throttled, world.device.shared) if one]
    factors = product(*((1.0, one.factor) for one in states))
    return sorted({float(np.prod(each)) for each in factors})
