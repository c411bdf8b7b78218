"""The picture as JPEG or WebP: the honest rival of every cut on camera-sized pictures."""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from artefacts import UsageError

_NAME = re.compile(r"(?P<format>jpeg|webp)(?P<quality>[1-9][0-9]?|100)")
FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}
WEBP_METHOD = 2
"""Effort of WebP's encoder, 0 to 6: more saves a few percent for several times the time."""


def picture_quality(codec: str) -> tuple[str, int] | None:
    """Format and quality of a picture's codec (`jpeg85`); None where it is none."""
    match = _NAME.fullmatch(codec)
    return (FORMATS[match["format"]], int(match["quality"])) if match else None


def encode_picture(codec: str, picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture (H, W, 3) uint8 as a file of the codec's format."""
    named = picture_quality(codec)
    assert named is not None
    stream = io.BytesIO()
    more = {"method": WEBP_METHOD} if named[0] == "WEBP" else {}
    Image.fromarray(picture).save(stream, named[0], quality=named[1], **more)
    return stream.getvalue()


def decode_picture(codec: str, data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The picture of `shape` (H, W, 3); its size is checked before a pixel is decoded."""
    named = picture_quality(codec)
    assert named is not None
    try:
        with Image.open(io.BytesIO(data), formats=[named[0]]) as image:
            if (*image.size[::-1], 3) != shape or image.mode != "RGB":
                raise UsageError(
                    f"codec '{codec}': found a picture of {image.size[0]} x {image.size[1]} "
                    f"({image.mode}), expected {shape[1]} x {shape[0]} (RGB)"
                )
            return np.asarray(image, dtype=np.uint8)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise UsageError(f"codec '{codec}': found no {named[0]} picture ({error})") from None
