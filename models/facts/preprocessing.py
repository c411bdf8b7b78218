"""What a network takes: how a raw sample (a picture, a sentence, a recording) becomes its input.

Torch-free: the device does it with every frame. A network's input is one float32 array per sample,
whatever was brought: token ids are whole numbers below 2^24, which float32 holds exactly, and
several tensors are laid end to end. What a raw sample may cross a link by are the codecs that carry
its kind (`models.codecs`, `Codec.carries`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs.sound import FULL_SCALE as FULL_SCALE
from models.codecs.tensors import MOST_WHOLE as MOST_WHOLE
from models.codecs.tensors import NUMPY_TYPES as NUMPY_TYPES
from models.codecs.tensors import Datatype as Datatype
from models.codecs.tensors import NamedTensor as NamedTensor
from models.facts.picture_fit import CROP_SHARE, FILL, FitKind, PictureFit

LEAST_STD, MOST_MEAN = 1e-4, 1e4
"""Of a picture of 0 to 1: beyond these a network's input is noise or no number."""
Raw = npt.NDArray[Any]
Shape = tuple[int, ...]
Channels = Literal["rgb", "bgr", "grey"]


class PictureInput(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,  # who knows no other pictures goes on reading cards of usual ones
    tag_field="kind",
    tag="picture",
):
    """A picture: uint8 (H, W, 3) in RGB, of the network's size, whatever the network makes of it.

    Levels of 0 to 1, less `mean`, over `std`, channels first.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of the network's channels in their order (of bgr: blue first), or one number for all; taken
    off a picture of 0 to 1."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """What a picture is divided by after that, in the same order."""
    channels: Channels = "rgb"
    """What the network takes: rgb, bgr (as Caffe and OpenCV have it), or grey: one channel, luma
    by ITU-R 601."""
    fit: FitKind = "squash"
    """How a picture of another size is made to fit: squash (to the size), crop (its short side
    scaled, the middle cut out) or letterbox (its shape is kept, with bars around it)."""
    crop_share: float = CROP_SHARE
    """Of crop: the network's side as a share of what the short side is scaled to."""
    fill: int = FILL
    """Of letterbox: the level (0 to 255) of the bars."""

    carried: ClassVar[str] = "picture"
    name: ClassVar[str] = "picture"
    datatype: ClassVar[Datatype] = "UINT8"

    @property
    def fitting(self) -> PictureFit:
        """How a picture of another size is made to fit."""
        return PictureFit(self.fit, self.crop_share, self.fill)

    @property
    def depth(self) -> int:
        """Channels of the network's input."""
        return 1 if self.channels == "grey" else 3

    def check(self, shape: Shape) -> None:
        """Refuse figures that mean nothing, and a network whose input is no such picture."""
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            one = len(numbers) == 1 or (self.depth == 1 and len(set(numbers)) == 1)
            if not one and len(numbers) != self.depth:
                wanted = "one number" if self.depth == 1 else "one number or three"
                raise UsageError(f"{name}: found {numbers}, expected {wanted} ({self.channels})")
        if not all(LEAST_STD <= s < math.inf for s in self.std):
            raise UsageError(f"std: found {self.std}, expected finite ones, {LEAST_STD:g} or more")
        if not all(abs(m) <= MOST_MEAN for m in self.mean):  # no comparison holds of NaN
            raise UsageError(
                f"mean: found {self.mean}, expected -{MOST_MEAN:g} to {MOST_MEAN:g} (of a picture "
                "of 0 to 1)"
            )
        self.fitting.check()
        if len(shape) != 3 or shape[0] != self.depth:
            raise UsageError(
                f"input: found shape {shape}, expected ({self.depth}, height, width), "
                f"{self.channels}"
            )

    def raw_shape(self, shape: Shape) -> Shape:
        """(H, W, 3) of a network's input (C, H, W)."""
        return (shape[1], shape[2], 3)

    def apply(self, batch: Raw) -> Float32s:
        """Pictures (N, H, W, 3) uint8 as the network's input (N, C, H, W) float32."""
        given = np.empty((len(batch), self.depth, *batch.shape[1:3]), dtype=np.float32)
        table = _levels(self.mean, self.std, self.depth)
        if self.depth == 1:
            given[:, 0] = table[0][luma(batch)]
            return given
        for channel, levels in enumerate(table):
            source = 2 - channel if self.channels == "bgr" else channel
            given[:, channel] = levels[batch[..., source]]
        return given


class TokenInput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tokens"
):
    """Token ids: int32 (L,), the rest of a shorter text filled with `padding`."""

    vocabulary: int
    """Ids lie below it."""
    padding: int = 0
    """The id that fills what a text is shorter than L."""

    carried: ClassVar[str] = "tokens"
    name: ClassVar[str] = "tokens"
    datatype: ClassVar[Datatype] = "INT32"

    def check(self, shape: Shape) -> None:
        """Refuse figures that mean nothing, and a network whose input is no row of ids."""
        if not 1 < self.vocabulary <= MOST_WHOLE:
            raise UsageError(
                f"vocabulary: found {self.vocabulary}, expected 2 to {MOST_WHOLE} token ids"
            )
        if not 0 <= self.padding < self.vocabulary:
            raise UsageError(f"padding: found {self.padding}, expected 0 to {self.vocabulary - 1}")
        if len(shape) != 1:
            raise UsageError(f"input: found shape {shape}, expected (tokens,)")

    def raw_shape(self, shape: Shape) -> Shape:
        """(L,) as the network's input."""
        return shape

    def apply(self, batch: Raw) -> Float32s:
        """Ids (N, L) as the network's input (N, L) float32; refuses ids beyond the vocabulary."""
        if batch.size and not 0 <= int(batch.min()) <= int(batch.max()) < self.vocabulary:
            raise UsageError(
                f"tokens: found ids from {batch.min()} to {batch.max()}, expected 0 to "
                f"{self.vocabulary - 1}"
            )
        return batch.astype(np.float32)


class SoundInput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sound"
):
    """A recording: int16 (T,), divided by 32,768; the rest of a shorter one is silence."""

    rate_hz: int
    """Samples a second."""

    carried: ClassVar[str] = "sound"
    name: ClassVar[str] = "sound"
    datatype: ClassVar[Datatype] = "INT16"

    def check(self, shape: Shape) -> None:
        """Refuse figures that mean nothing, and a network whose input is no row of samples."""
        if not 0 < self.rate_hz <= 384_000:
            raise UsageError(f"rate_hz: found {self.rate_hz}, expected 1 to 384,000")
        if len(shape) != 1:
            raise UsageError(f"input: found shape {shape}, expected (samples,)")

    def raw_shape(self, shape: Shape) -> Shape:
        """(T,) as the network's input."""
        return shape

    def apply(self, batch: Raw) -> Float32s:
        """Recordings (N, T) int16 as the network's input (N, T) float32 within -1 and 1."""
        return batch.astype(np.float32) / np.float32(FULL_SCALE)


class TensorInput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensors"
):
    """Tensors as the network's author has them, made ready by whoever sends them.

    One float32 tensor is the network's input as it is; anything else is laid end to end as float32
    (`pack`), and the network takes it apart.
    """

    tensors: tuple[NamedTensor, ...]
    """In the order of the network's parameters."""

    carried: ClassVar[str] = ""
    name: ClassVar[str] = "tensors"
    datatype: ClassVar[Datatype] = "FP32"

    @property
    def alone(self) -> bool:
        """Whether one float32 tensor is the input as it is."""
        return len(self.tensors) == 1 and self.tensors[0].datatype == "FP32"

    def input_shape(self) -> Shape:
        """Of the network's input for one sample."""
        if self.alone:
            return self.tensors[0].shape
        return (sum(t.values for t in self.tensors),)

    def check(self, shape: Shape) -> None:
        """Refuse a signature that is none, or that is not of the network's input."""
        names = [t.name for t in self.tensors]
        if not names or len(set(names)) != len(names) or not all(names):
            raise UsageError(f"tensors: found names {names}, expected one or more, all different")
        for tensor in self.tensors:
            if not all(size > 0 for size in tensor.shape):
                raise UsageError(
                    f"tensor '{tensor.name}': found shape {tensor.shape}, expected sizes above 0"
                )
        if self.input_shape() != shape:
            raise UsageError(f"input: found shape {shape}, expected {self.input_shape()}")

    def raw_shape(self, shape: Shape) -> Shape:
        """As the network's input."""
        return shape

    def apply(self, batch: Raw) -> Float32s:
        """The batch itself, float32."""
        return np.ascontiguousarray(batch, dtype=np.float32)

    def pack(self, tensors: Sequence[Raw]) -> Float32s:
        """One sample's tensors, in their order, as the network's input.

        Raises `UsageError` for another shape, and for whole numbers that float32 does not hold.
        """
        if len(tensors) != len(self.tensors):
            raise UsageError(f"tensors: found {len(tensors)}, expected {len(self.tensors)}")
        parts = []
        for given, wanted in zip(tensors, self.tensors, strict=True):
            if tuple(given.shape) != wanted.shape:
                raise UsageError(
                    f"tensor '{wanted.name}': found shape {tuple(given.shape)}, expected "
                    f"{wanted.shape}"
                )
            # not abs(): of the least int64 that is negative
            whole = given.dtype.kind in "iu" and given.size
            most = max(-int(given.min()), int(given.max())) if whole else 0
            if most >= MOST_WHOLE:
                raise UsageError(
                    f"tensor '{wanted.name}': found {most}, expected whole numbers "
                    f"below {MOST_WHOLE} in magnitude"
                )
            parts.append(np.asarray(given, dtype=np.float32))
        if self.alone:
            return np.ascontiguousarray(parts[0])
        return np.concatenate([part.ravel() for part in parts])


Preprocessing = PictureInput | TokenInput | SoundInput | TensorInput


def signature(preprocessing: Preprocessing, shape: Shape) -> tuple[NamedTensor, ...]:
    """The tensors that a raw sample of a network with input `shape` consists of."""
    if isinstance(preprocessing, TensorInput):
        return preprocessing.tensors
    raw = preprocessing.raw_shape(shape)
    return (NamedTensor(preprocessing.name, preprocessing.datatype, raw),)


def raw_type(preprocessing: Preprocessing) -> np.dtype[Any]:
    """Of a raw sample's values."""
    return NUMPY_TYPES[preprocessing.datatype]


def luma(pictures: Raw) -> Raw:
    """How bright pictures (..., 3) uint8 in RGB are: (...) uint8, by ITU-R 601 as Pillow's "L"."""
    red, green, blue = (pictures[..., k].astype(np.uint32) for k in range(3))
    # 0.299, 0.587 and 0.114 of 65,536, rounded: what is grey stays what it is
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


@lru_cache(maxsize=8)
def _levels(mean: tuple[float, ...], std: tuple[float, ...], depth: int) -> npt.NDArray[np.float32]:
    """What each of the 256 levels of a channel becomes: (channels, 256)."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255.0)
    offset, scale = (np.array(x[:depth], dtype=np.float32)[:, None] for x in (mean, std))
    scaled = np.broadcast_to((levels - offset) / scale, (depth, 256))
    return np.ascontiguousarray(scaled)
