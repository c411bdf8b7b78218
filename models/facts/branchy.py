"""What a branchy network is, without torch: a trunk of layers and exits that leave it.

Branch i (0-based in code, exit i+1 in people's words) is the trunk up to the exit's point followed
by the exit's head; the last branch is the whole trunk. An interval [a, b) counts the layers of one
branch from 0, exactly as a `Plan` does. A fc layer flattens what it is given, so no layer of the
published networks is spent on flattening.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from artefacts import UsageError, digest_bytes
from models.codecs.tensors import NamedTensor
from models.facts.layers import LayerSpec, Shape


class ExitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exit: its head hangs after `after` trunk layers; an empty head is the trunk's own end."""

    after: int
    """Trunk layers before it."""
    head: tuple[LayerSpec, ...] = ()
    """The exit's own layers."""


class BottleneckSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A learned codec of what crosses after `cut` trunk layers.

    The device runs `encoder`, whose output crosses at `bits` a value; the edge runs `decoder`.
    """

    cut: int
    """Trunk layers before it."""
    encoder: LayerSpec
    """What the device runs before sending."""
    decoder: LayerSpec
    """What the edge runs after receiving."""
    bits: int
    """Of a value on the wire."""


class BranchySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A branchy network's architecture: name, one sample's shape, trunk, exits in depth order."""

    name: str
    """Of the network."""
    input_shape: tuple[int, ...]
    """Of one sample, channels first."""
    classes: int
    """Number of scores, or of whatever values an exit gives."""
    trunk: tuple[LayerSpec, ...]
    """The layers up to the last exit."""
    exits: tuple[ExitSpec, ...]
    """In the order of their depth."""
    bottlenecks: tuple[BottleneckSpec, ...] = ()
    """Learned codecs."""
    returns_row: bool = False
    """Whether an exit's whole row is the answer, not the class of its greatest score."""

    def __post_init__(self) -> None:
        """Refuse exits out of order, duplicate layer names, or a last exit before the end."""
        points = [e.after for e in self.exits]
        if not points or points != sorted(points) or points[-1] != len(self.trunk):
            raise UsageError(
                f"network '{self.name}': found exits after layers {points}, expected them in "
                f"order and the last after layer {len(self.trunk)}"
            )
        names = [x.name for x in self.trunk] + [x.name for e in self.exits for x in e.head]
        names += [x.name for b in self.bottlenecks for x in (b.encoder, b.decoder)]
        if any(not 0 < b.cut < len(self.trunk) for b in self.bottlenecks):
            raise UsageError(
                f"network '{self.name}': found a bottleneck at cut "
                f"{[b.cut for b in self.bottlenecks]}, expected one within the trunk's "
                f"{len(self.trunk)} layers"
            )
        if len(set(names)) != len(names):
            raise UsageError(f"network '{self.name}': layer names are not unique")

    @cached_property
    def branches(self) -> tuple[tuple[LayerSpec, ...], ...]:
        """The layers of every branch, from the input to the exit's output."""
        return tuple(self.trunk[: e.after] + e.head for e in self.exits)

    @cached_property
    def shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """Per branch, the shape before layer 0, before layer 1, ..., and after the last layer."""
        return tuple(self._shapes(branch) for branch in self.branches)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the architecture (canonical JSON), to tell two networks apart."""
        plain = msgspec.to_builtins(self)
        for layer in [*plain["trunk"], *(x for e in plain["exits"] for x in e["head"])]:
            # what came after the first published digests counts only where it is used
            if layer["segment"] is None:
                del layer["segment"]
            else:
                _without_several(layer["segment"])
        for own in plain["bottlenecks"]:
            for end in ("encoder", "decoder"):
                if own[end]["segment"] is not None:
                    _without_several(own[end]["segment"])
        if not self.bottlenecks:
            del plain["bottlenecks"]
        if not self.returns_row:
            del plain["returns_row"]
        return digest_bytes(msgspec.json.encode(plain))

    def _shapes(self, branch: tuple[LayerSpec, ...]) -> tuple[Shape, ...]:
        shapes = [self.input_shape]
        for layer in branch:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    def interval(self, branch: int, start: int, stop: int) -> tuple[LayerSpec, ...]:
        """Layers [start, stop) of a branch; refuses an interval that does not exist."""
        if not 0 <= branch < len(self.branches):
            raise UsageError(
                f"network '{self.name}': found exit {branch + 1}, expected 1 to {len(self.exits)}"
            )
        length = len(self.branches[branch])
        if not 0 <= start <= stop <= length:
            raise UsageError(
                f"network '{self.name}', exit {branch + 1}: found layers [{start}, {stop}), "
                f"expected an interval within [0, {length})"
            )
        return self.branches[branch][start:stop]

    def interval_bytes(self, branch: int, start: int, stop: int) -> int:
        """Bytes of the float32 parameters of layers [start, stop) of a branch."""
        layers, shapes = self.interval(branch, start, stop), self.shapes[branch][start:stop]
        return sum(x.parameter_bytes(shape) for x, shape in zip(layers, shapes, strict=True))

    def bottleneck(self, cut: int) -> BottleneckSpec | None:
        """The learned codec of what crosses after `cut` trunk layers, if there is one."""
        return next((b for b in self.bottlenecks if b.cut == cut), None)

    def parts(self, branch: int, cut: int) -> tuple[NamedTensor, ...]:
        """The tensors that cross before layer `cut` of a branch; none where it is one alone."""
        segment = self.branches[branch][cut - 1].segment if cut > 0 else None
        return () if segment is None else segment.gives

    def crossing_shape(self, branch: int, cut: int) -> Shape:
        """Shape of the tensor that a codec carries before layer `cut`: the first of several."""
        parts = self.parts(branch, cut)
        return parts[0].shape if parts else self.shapes[branch][cut]

    def crossing(self, branch: int, cut: int) -> str:
        """Name of the layer whose output crosses before layer `cut` of a branch; '' the input."""
        return self.branches[branch][cut - 1].name if cut > 0 else ""


def _without_several(segment: dict[str, Any]) -> None:
    """Take lists of tensors out of a plain segment that has none: older digests are without."""
    for several in ("takes", "gives"):
        if not segment[several]:
            del segment[several]
