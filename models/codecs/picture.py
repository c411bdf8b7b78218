"""The picture itself: raw (`uint8`), or as JPEG or WebP (`jpegQ`, `webpQ`).

A compressed picture is the honest rival of every cut on camera-sized pictures. JPEG and WebP decode
as the installed library does.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from artefacts import UsageError
from models.codecs.interface import (
    NOTHING_SHARED,
    Codec,
    Encoded,
    Family,
    Shared,
    single,
    whole,
)

Picture = npt.NDArray[np.uint8]
WEBP_METHOD = 2
"""Effort of WebP's encoder, 0 to 6: more saves a few percent for several times the time."""
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "webp": ("WEBP", {"method": WEBP_METHOD}),
}
"""By codec: Pillow's name of the format, and what its encoder is given beside the quality."""


class RawPicture(Codec):
    """`uint8`: every level of every pixel, a byte each."""

    name, exact = "uint8", True
    carries = "picture"

    def size(self, shape: tuple[int, ...]) -> int:
        """One byte a level."""
        return math.prod(shape)

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one picture (H, W, 3) uint8."""
        return Encoded(_picture(self.name, array).tobytes(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Picture:
        """The picture of `shape`. See `Codec.decode`."""
        return np.frombuffer(whole(self.name, data, self.size(shape), shape), np.uint8).reshape(
            shape
        )


class PictureFile(Codec):
    """`jpegQ`, `webpQ`: a file of that format at quality Q, 1 to 100."""

    carries, timed = "picture", True

    def __init__(self, kind: str, quality: int) -> None:
        self.name, self._quality = f"{kind}{quality}", quality
        self._format, self._more = FORMATS[kind]

    def size(self, shape: tuple[int, ...]) -> None:
        """None: it depends on the picture."""

    def encode(self, array: npt.NDArray[Any], shared: Shared = NOTHING_SHARED) -> Encoded:
        """Encode one picture (H, W, 3) uint8."""
        stream = io.BytesIO()
        picture = Image.fromarray(_picture(self.name, array))
        picture.save(stream, self._format, quality=self._quality, **self._more)
        return Encoded(stream.getvalue(), {})

    def decode(
        self,
        meta: Mapping[str, Any],
        data: bytes | memoryview,
        shape: tuple[int, ...],
        shared: Shared = NOTHING_SHARED,
    ) -> Picture:
        """The picture of `shape` (H, W, 3); its size is checked before a pixel is decoded.

        See `Codec.decode`.
        """
        try:
            with Image.open(io.BytesIO(bytes(data)), formats=[self._format]) as image:
                if (*image.size[::-1], 3) != shape or image.mode != "RGB":
                    raise UsageError(
                        f"codec '{self.name}': found a picture of {image.size[0]} x "
                        f"{image.size[1]} ({image.mode}), expected {shape[1]} x {shape[0]} (RGB)"
                    )
                return np.asarray(image, dtype=np.uint8)
        except (
            UnidentifiedImageError,
            Image.DecompressionBombError,
            OSError,
            SyntaxError,
            ValueError,
        ) as error:
            raise UsageError(
                f"codec '{self.name}': found no {self._format} picture ({error})"
            ) from None


def _picture(codec: str, array: npt.NDArray[Any]) -> Picture:
    if array.dtype != np.uint8:
        raise UsageError(f"codec '{codec}': found {array.dtype}, expected a uint8 picture")
    return array


def _files(kind: str) -> Family:
    """The codecs of one format, one for every quality."""
    pattern = re.compile(rf"{kind}([1-9][0-9]?|100)")

    def named(name: str) -> Codec | None:
        match = pattern.fullmatch(name)
        return PictureFile(kind, int(match[1])) if match else None

    return Family(f"{kind}Q", (f"{kind}50", f"{kind}85"), named)


FAMILIES = (single(RawPicture()), *map(_files, FORMATS))
