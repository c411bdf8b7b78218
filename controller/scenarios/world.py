"""`[world]` of a scenario: what a real system meets beyond its profiles and a second's mean rate.

Each part has a switch, and every switch is off unless the file sets it. `envs.world` draws what is
described here; `coinfer calibrate` fits it to runs on a device and an edge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from artefacts import ArtefactError, read_toml

MOST_S = 10.0
"""Of an overhead or a job: what is longer was meant in milliseconds."""
MOST_STATE_S = 86_400.0
MOST_FACTOR = 100.0
QUANTILES = 256
"""Of a spread at most."""
MOST_LOAD = 0.95
"""Share of the edge's time that others may ask for: beyond it a queue grows for ever."""


class StateSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A state that comes and goes: a slower clock, or a processor that others use.

    Its times are exponential (a two-state Markov chain in continuous time).
    """

    factor: float
    """How many times longer a computation takes in it."""
    mean_s: float
    """How long it lasts on average."""
    every_s: float
    """How long it stays away on average."""


class LoadSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Other devices' requests at a node: bursts that come at random (a Poisson process)."""

    bursts_per_s: float
    """How often one begins."""
    burst_s: float
    """How long the node computes for one, on average (exponential)."""

    @property
    def share(self) -> float:
        """Of the node's time that others take."""
        return self.bursts_per_s * self.burst_s


class NodeWorldSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a node takes beyond its profile."""

    overhead_s: float = 0.0
    """Beyond layers and codecs, once a frame: deciding, waking, scaling, copying."""
    jitter_s: float = 0.0
    """Mean of what comes on top of that, exponential."""
    spread: tuple[float, ...] = ()
    """Quantiles of a computation's time over its median, evenly from the least to the greatest
    (none: the profile's log-normal spread)."""
    throttled: StateSection | None = None
    """A clock that is lowered while the node is hot."""
    shared: StateSection | None = None
    """A processor that other programs use for a while."""
    load: LoadSection | None = None
    """Requests of other devices that queue at this node."""


class WorldSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[world]`: everything off is a world in which plans cost exactly what their profiles say."""

    sub_second: bool = False
    """Rates vary within the second, on every part's traces (`traces.subsecond`)."""
    picture_sizes: bool = False
    """A picture takes its own bytes by a codec, not the mean of all (`sizes.npz`)."""
    scene_s: float = 0.0
    """Frames of one scene follow one another for so long on average: one class, pictures alike
    (0: every frame is drawn by itself)."""
    likeness: float = 0.9
    """Of neighbouring frames of a scene: correlation of their ranks by size."""
    device: NodeWorldSection = NodeWorldSection()
    """The device's own."""
    edge: NodeWorldSection = NodeWorldSection()
    """The same of the node that the device's link leads to."""

    @property
    def expected(self) -> dict[str, Any]:
        """What planning counts on beyond profiles, as `controller.physics.run_frames` takes it.

        Means: of overheads, and of what a first-come queue of others holds (M/M/1).
        """
        if self.device == self.edge == NodeWorldSection():
            return {}
        nodes, load = (self.device, self.edge), self.edge.load
        waits_s = 0.0 if load is None else load.burst_s * load.share / (1.0 - load.share)
        return {
            "overheads_s": tuple(node.overhead_s + node.jitter_s for node in nodes),
            "others_s": waits_s,
        }

    @property
    def tidy(self) -> bool:
        """Whether everything is off."""
        return msgspec.structs.replace(self, likeness=WorldSection().likeness) == WorldSection()


class WorldFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that holds `[world]` alone, as `coinfer calibrate` writes it."""

    world: WorldSection


def read_world(path: Path) -> WorldSection:
    """Read such a file; refuses what cannot be meant."""
    found = read_toml(path, WorldFile).world
    check_world(path, found)
    return found


def check_world(path: Path, world: WorldSection) -> None:
    """Refuse what cannot be meant, naming the field."""
    _within(path, "world.scene_s", world.scene_s, 0.0, MOST_STATE_S, "seconds")
    _within(path, "world.likeness", world.likeness, 0.0, 0.9999, "a correlation")
    for name, node in (("device", world.device), ("edge", world.edge)):
        _check_node(path, f"world.{name}", node)
    if world.device.load is not None:
        raise ArtefactError(
            path, field="world.device.load", found="requests of other devices",
            expected="none: nobody else asks the device (world.device.shared slows it)",
        )  # fmt: skip


def _check_node(path: Path, field: str, node: NodeWorldSection) -> None:
    for part in ("overhead_s", "jitter_s"):
        _within(path, f"{field}.{part}", getattr(node, part), 0.0, MOST_S, "seconds")
    if len(node.spread) == 1 or len(node.spread) > QUANTILES:
        raise ArtefactError(
            path, field=f"{field}.spread", found=f"{len(node.spread)} quantiles",
            expected=f"none, or 2 to {QUANTILES}",
        )  # fmt: skip
    for number, factor in enumerate(node.spread):
        _within(path, f"{field}.spread[{number}]", factor, 1e-3, MOST_FACTOR, "times the median")
        if number and factor < node.spread[number - 1]:
            raise ArtefactError(
                path, field=f"{field}.spread[{number}]", found=f"{factor:g}",
                expected=f"{node.spread[number - 1]:g} or more: quantiles rise",
            )  # fmt: skip
    for name in ("throttled", "shared"):
        state: StateSection | None = getattr(node, name)
        if state is not None:
            _within(path, f"{field}.{name}.factor", state.factor, 1.0, MOST_FACTOR, "times longer")
            for part in ("mean_s", "every_s"):
                seconds = getattr(state, part)
                _within(path, f"{field}.{name}.{part}", seconds, 1e-3, MOST_STATE_S, "seconds")
    if node.load is not None:
        _within(path, f"{field}.load.bursts_per_s", node.load.bursts_per_s, 1e-6, 1e4, "a second")
        _within(path, f"{field}.load.burst_s", node.load.burst_s, 1e-6, MOST_S, "seconds")
        if node.load.share > MOST_LOAD:
            raise ArtefactError(
                path, field=f"{field}.load", found=f"{100 * node.load.share:.10g} % of its time",
                expected=f"{100 * MOST_LOAD:.0f} % at most: a queue would grow for ever",
            )  # fmt: skip


def _within(path: Path, field: str, value: float, least: float, most: float, unit: str) -> None:
    if not least <= value <= most:
        raise ArtefactError(
            path, field=field, found=f"{value:g}", expected=f"{least:g} to {most:g} ({unit})"
        )
