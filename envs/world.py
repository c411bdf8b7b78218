"""Draws what a real system meets beyond its plans' means: `[world]` of a scenario, for L lanes.

Everything comes from one generator that decisions do not touch: with the same seed and the same
number of lanes two controllers meet the same scenes, clocks and neighbours at the edge.

**Scenes.** Frames of a stream are alike. A scene has one class and lasts exponentially long. In
it the picture's rank by size among those of its class follows a Gaussian first-order process, of
which the normal distribution function makes a uniform rank. Whatever the correlation, every picture
is as frequent as any other.

**States.** A throttled clock, or a processor that others use, is a Markov chain of two states in
continuous time: over t seconds it forgets where it was at the rate of both changes together
(Norris, Markov Chains, 1997, section 2.1).

**Load.** Other devices' bursts arrive as a Poisson process at the node, and ask for exponential
times. What is left of them is the workload of a first-come queue, which falls by a second a second
and jumps by every burst (Takacs 1962). Of bursts between two frames one common moment is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.scenarios import OutcomeRows, Setting
from controller.scenarios.sample_bytes import class_of, picture_bytes
from controller.scenarios.world import LoadSection, NodeWorldSection, StateSection, WorldSection
from traces.generator import normal_cdf


@dataclass(frozen=True, slots=True)
class Draw:
    """What the frames meet that arrive now, (L,) each: pictures, and of every node what it adds.

    `factors` multiply medians (None: the profile's log-normal spread is drawn), `overheads_s` are
    seconds beyond. `queued_s`: what other devices have asked of the edge when a frame
    reaches it (the queue at the frame's arrival stands for it: its law is the same at any time).
    """

    sample: Ints | None
    factors: tuple[Floats | None, ...]
    slower: tuple[Floats, ...]
    """On top of a spread: throttling and other programs."""
    overheads_s: tuple[Floats, ...]
    queued_s: Floats


class World:
    """The drawn world of L lanes. `place` first, then `draw` at every frame."""

    def __init__(
        self, setting: Setting, rows: OutcomeRows, half: str, lanes: int, rng: np.random.Generator
    ) -> None:
        """`rows` are the outcomes of `half`; `rng` is used by nothing else."""
        world = setting.scenario.world
        self._world, self._rng, self._lanes = world, rng, lanes
        self._nodes = (world.device, world.edge)
        self._scenes = _Scenes(setting, half, lanes) if world.scene_s > 0 else None
        self._states = [
            [_States(section, lanes) for section in (node.throttled, node.shared) if section]
            for node in self._nodes
        ]
        self._load = None if world.edge.load is None else _Load(world.edge.load, lanes)
        self._at_s = np.zeros(lanes)

    def place(self, lanes: Bools, start_s: Floats) -> None:
        """The masked lanes begin anew at `start_s` (L,)."""
        self._at_s = np.where(lanes, start_s, self._at_s)
        for states in self._states:
            for one in states:
                one.place(lanes, self._rng)
        if self._scenes is not None:
            self._scenes.place(lanes, self._rng)
        if self._load is not None:
            self._load.place(lanes)

    def draw(self, now_s: Floats) -> Draw:
        """What frames meet that arrive at `now_s` (L,), not before the ones drawn last."""
        passed_s = np.maximum(now_s - self._at_s, 0.0)
        self._at_s = np.maximum(now_s, self._at_s)
        rng = self._rng
        sample = None
        if self._scenes is not None:
            sample = self._scenes.draw(passed_s, self._world, rng)
        slower = []
        for states in self._states:
            factor = np.ones(self._lanes)
            for one in states:
                factor = factor * one.draw(passed_s, rng)
            slower.append(factor)
        factors = tuple(_spread(node, self._lanes, rng) for node in self._nodes)
        overheads = tuple(
            node.overhead_s + rng.exponential(node.jitter_s, self._lanes) for node in self._nodes
        )
        queued = np.zeros(self._lanes) if self._load is None else self._load.draw(passed_s, rng)
        # what computing takes longer, the rest of the same processor's work does, too
        overheads = tuple(o * f for o, f in zip(overheads, slower, strict=True))
        return Draw(sample, factors, tuple(slower), overheads, queued)


def _spread(node: NodeWorldSection, lanes: int, rng: np.random.Generator) -> Floats | None:
    """Factors on medians by the measured distribution, drawn by its quantile function."""
    if not node.spread:
        return None
    shares = np.linspace(0.0, 1.0, len(node.spread))
    return np.asarray(np.interp(rng.random(lanes), shares, np.array(node.spread)))


class _States:
    """Whether L lanes are in a state that comes and goes."""

    def __init__(self, section: StateSection, lanes: int) -> None:
        self._section, self._inside = section, np.zeros(lanes, dtype=np.bool_)
        self._share = section.mean_s / (section.mean_s + section.every_s)
        self._rate = 1.0 / section.mean_s + 1.0 / section.every_s

    def place(self, lanes: Bools, rng: np.random.Generator) -> None:
        begun = rng.random(len(lanes)) < self._share
        self._inside = np.where(lanes, begun, self._inside)

    def draw(self, passed_s: Floats, rng: np.random.Generator) -> Floats:
        """Factor of the times (L,) after `passed_s`."""
        kept = np.exp(-self._rate * passed_s)
        chance = self._share + (self._inside - self._share) * kept
        self._inside = rng.random(len(passed_s)) < chance
        return np.where(self._inside, self._section.factor, 1.0)


class _Load:
    """Workload that other devices have left at a node, in seconds."""

    def __init__(self, section: LoadSection, lanes: int) -> None:
        self._section, self._left_s = section, np.zeros(lanes)

    def place(self, lanes: Bools) -> None:
        self._left_s = np.where(lanes, 0.0, self._left_s)

    def draw(self, passed_s: Floats, rng: np.random.Generator) -> Floats:
        """What is left (L,) after `passed_s`."""
        bursts = rng.poisson(self._section.bursts_per_s * passed_s)
        more_s = rng.gamma(bursts) * self._section.burst_s
        before = rng.random(len(passed_s))
        left = np.maximum(self._left_s - before * passed_s, 0.0) + more_s
        self._left_s = np.maximum(left - (1.0 - before) * passed_s, 0.0)
        return self._left_s


class _Scenes:
    """Which picture each of L lanes shows: scenes of one class, pictures alike in size."""

    def __init__(self, setting: Setting, half: str, lanes: int) -> None:
        labels = class_of(setting.model, setting.outcomes, half)
        sizes = picture_bytes(setting.sizes, setting.outcomes, half)
        order = np.lexsort((sizes, labels))
        self._order = order
        """Samples by class, and by size within each."""
        _, self._first, self._count = np.unique(
            labels[order], return_index=True, return_counts=True
        )
        self._class = np.zeros(lanes, dtype=np.int64)
        self._z = np.zeros(lanes)

    def place(self, lanes: Bools, rng: np.random.Generator) -> None:
        self._begin(lanes, rng)

    def _begin(self, lanes: Bools, rng: np.random.Generator) -> None:
        drawn = rng.choice(len(self._count), len(lanes), p=self._count / self._count.sum())
        self._class = np.where(lanes, drawn, self._class)
        self._z = np.where(lanes, rng.standard_normal(len(lanes)), self._z)

    def draw(self, passed_s: Floats, world: WorldSection, rng: np.random.Generator) -> Ints:
        """Samples (L,) of the frames after `passed_s`."""
        over = rng.random(len(passed_s)) > np.exp(-passed_s / world.scene_s)
        rho = world.likeness
        step = rng.standard_normal(len(passed_s))
        self._z = rho * self._z + np.sqrt(1.0 - rho * rho) * step
        self._begin(over, rng)
        count = self._count[self._class]
        rank = np.minimum((normal_cdf(self._z) * count).astype(np.int64), count - 1)
        return np.asarray(self._order[self._first[self._class] + rank])
