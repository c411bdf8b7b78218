"""Pictures of files and of Pillow's kind as arrays: decoded, upright, made to fit one size.

Torch-free: a device that replays reads the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError
from models.data.fitting import fitted
from models.facts.picture_fit import SQUASH, PictureFit

MOST_BYTES = 8 * 1024**3
"""Of all pictures, decoded."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")


def picture_array(
    source: Path, files: Sequence[Path], side: tuple[int, int] | None, fit: PictureFit = SQUASH
) -> npt.NDArray[np.uint8]:
    """The `files` as pictures (N, H, W, 3), made to `fit` `side` (height, width), or of one size.

    `source` is what a refusal of too many names.
    """
    height, width = side or common_side(files)
    x = room_for(source, len(files), (height, width))
    for k, file in enumerate(files):
        x[k] = decoded(file, height, width, fit)
    return x


def room_for(source: Path, count: int, side: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An array for `count` pictures of `side` (height, width); refused beyond `MOST_BYTES`."""
    height, width = side
    if count * height * width * 3 > MOST_BYTES:
        raise ArtefactError(
            source,
            found=f"{count} pictures of {width} x {height}",
            expected=f"at most {MOST_BYTES // 2**30} GiB of them (fewer, or a smaller --input)",
        )
    return np.empty((count, height, width, 3), dtype=np.uint8)


def common_side(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width of all pictures; refuses files of several sizes."""
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        sizes.setdefault(_size(file), file)
        if len(sizes) > 1:
            (one, other), (here, there) = list(sizes), list(sizes.values())
            raise several_sizes(one, f"'{here}'", other, f"'{there}'")
    return next(iter(sizes))


def several_sizes(
    one: tuple[int, int], here: str, other: tuple[int, int], there: str
) -> UsageError:
    """Two pictures of (height, width) `one` and `other`, and where: `here` and `there`."""
    return UsageError(
        f"pictures: found {one[1]} x {one[0]} in {here} and {other[1]} x {other[0]} in "
        f"{there}, expected one size, or --input HEIGHTxWIDTH that they are made to fit"
    )


def _size(file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            return _upright_size(image)
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        raise _damaged(file, error) from None


def _upright_size(image: Any) -> tuple[int, int]:
    """Height and width of a Pillow image once it is upright."""
    width, height = image.size
    return (width, height) if image.getexif().get(0x0112) in (5, 6, 7, 8) else (height, width)


def decoded(file: Path, height: int, width: int, fit: PictureFit = SQUASH) -> npt.NDArray[np.uint8]:
    """A `file` as an upright picture (`height`, `width`, 3), made to `fit` that size."""
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            size = _upright_size(image)
            # decodes at half, a quarter or an eighth where that is still larger
            image.draft("RGB", (max(fit.placed(size, (height, width)).drawn),) * 2)
            return upright(image, (height, width), fit, size)
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        raise _damaged(file, error) from None


def upright(
    image: Any,
    side: tuple[int, int] | None = None,
    fit: PictureFit = SQUASH,
    size: tuple[int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """A Pillow image as an upright picture (H, W, 3), made to `fit` `side` where one is given.

    `size` is the upright picture's (height, width) where `image` was decoded smaller.
    """
    from PIL import ImageOps

    made = ImageOps.exif_transpose(image).convert("RGB")
    if side is not None:
        made = fitted(made, fit.placed(size or made.size[::-1], side))
    return np.asarray(made, dtype=np.uint8)


def _damaged(file: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        file,
        found=f"no picture that can be read ({damage(file, error)})",
        expected=f"one of {', '.join(FORMATS)}",
    )


def damage(file: Path, error: Exception) -> str:
    """What is wrong with a file, in words where Pillow has some."""
    from PIL import UnidentifiedImageError

    if not file.exists():
        return "no such file"
    if file.stat().st_size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "of no such format"
    said = " ".join(str(error).split())
    if "truncated" in said or "Truncated" in said:
        return "truncated: its end is missing"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
