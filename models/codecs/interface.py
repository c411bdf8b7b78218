"""What a codec is: the interface, and what both ends of a cut hold for it.

A codec turns one tensor or picture into bytes and back. It knows nothing of networks, plans or
links. Whoever needs to know what sets a codec apart asks for its facts (`carries`, `exact`,
`needs_ranges`, `timed` ...) and never compares its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s

Carries = Literal["tensor", "picture", "tokens", "sound", "latent"]
RAW: tuple[Carries, ...] = ("picture", "tokens", "sound")
"""What a network is given before it is scaled: carried at its input alone."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor's bytes, and what a decoder must know beside codec, shape and shared values."""

    data: bytes
    meta: dict[str, float]


@dataclass(frozen=True, eq=False)
class Ranges:
    """Calibrated ranges of one tensor's channels: `low` and `high` (2, C), for 8 and for 4 bits."""

    low: Float32s
    high: Float32s

    def step(self, bits: int) -> tuple[Float32s, Float32s]:
        """Per channel: the value of level 0, and of one level (1 where a channel is constant)."""
        row = 0 if bits == 8 else 1
        width = self.high[row] - self.low[row]
        scale = (width / np.float32(2**bits - 1)).astype(np.float32)
        return self.low[row], np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class LatentNetworks:
    """The two networks of a learned codec at its cut, and how its latent crosses.

    `encoder` takes a batch (N, C, ...) to latents (N, *`shape`), `decoder` takes them back;
    `codec` carries one latent, with the ranges in `ranges`.
    """

    encoder: Callable[[Float32s], Float32s]
    decoder: Callable[[Float32s], Float32s]
    shape: tuple[int, ...]
    codec: Codec
    ranges: Ranges


@dataclass(frozen=True, eq=False)
class Shared:
    """What both ends hold of a cut before anything crosses it; it costs nothing on the wire."""

    ranges: Ranges | None = None
    networks: LatentNetworks | None = None


NOTHING_SHARED = Shared()


class Codec(ABC):
    """One codec.

    `name` is what plans, scenarios, profiles, outcomes and the wire call it. `carries`: a 'tensor'
    crosses at any cut; a 'picture' (H, W, 3) uint8, 'tokens' (L,) of whole numbers and 'sound' (T,)
    int16 only at the input; a 'latent' only where the network brings a learned codec along.
    `exact`: answers behind it are those of no codec at all.
    `needs_ranges`: both ends must hold calibrated ranges of the tensor. `quantises`: values become
    levels of few bits. `timed`: it takes real time, so that a profile must say how much.
    `answers_as` names the codec whose answers it gives: its own name, unless it packs another.
    """

    name: str
    carries: Carries = "tensor"
    exact: bool = False
    needs_ranges: bool = False
    quantises: bool = False
    timed: bool = False

    @property
    def raw(self) -> bool:
        """Whether it carries what a network is given before it is scaled."""
        return self.carries in RAW

    @property
    def answers_as(self) -> str:
        """Name of the codec whose answers it gives."""
        return self.name

    def serves_at_input(self, beside_raw: bool) -> bool:
        """Whether the network's input may cross by it.

        The input has no calibrated ranges. Where a codec of the raw sample is at hand as well
        (`beside_raw`), a codec that quantises the scaled input is no rival to it.
        """
        if self.carries != "tensor":
            return self.raw
        return not self.needs_ranges and not (self.quantises and beside_raw)

    @abstractmethod
    def size(self, shape: tuple[int, ...]) -> int | None:
        """Bytes of one encoded tensor of `shape`; None where they depend on what it holds."""

    @abstractmethod
    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one float32 tensor (C, ...), or one raw sample: a picture (H, W, 3) uint8, token
        ids (L,) of whole numbers, a recording (T,) int16.

        Raises a `UsageError` where the array is none that the codec carries, or `shared` lacks
        what it needs.
        """

    @abstractmethod
    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> npt.NDArray[Any]:
        """The tensor of `shape`: float32; of a raw sample's type where it carries those.

        `meta` and `data` may come from anybody: a `UsageError` is raised where they do not fit,
        before memory is taken for more than `shape` says.

        `shared` is what both ends hold of the cut.
        """

    def round_trip(self, batch: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Any:
        """What the other end sees of each sample of a batch (N, ...)."""
        seen = []
        for one in batch:
            encoded = self.encode(one, shared)
            seen.append(self.decode(encoded.meta, encoded.data, one.shape, shared))
        return np.stack(seen)


@dataclass(frozen=True, slots=True)
class Family:
    """Codecs of one kind: a single one, or one for every quality.

    `shown` is how people write them ('jpegQ'); `examples` are names that the contract's tests and
    fuzzing take; `named` gives the codec of a name, None where the name is none of theirs.
    """

    shown: str
    examples: tuple[str, ...]
    named: Callable[[str], Codec | None]


def single(codec: Codec) -> Family:
    """The family of one codec."""
    return Family(codec.name, (codec.name,), lambda name: codec if name == codec.name else None)


def whole(
    codec: str, data: bytes | memoryview, expected: int, shape: tuple[int, ...]
) -> bytes | memoryview:
    """The bytes themselves; refuses more or fewer than a tensor of `shape` has.

    `data` came for the codec named `codec`; a tensor has `expected` bytes.
    """
    if len(data) != expected:
        raise UsageError(
            f"codec '{codec}': found {len(data)} bytes, expected {expected} for shape {shape}"
        )
    return data
