"""Labelled pictures of a user: an npz, or a folder that holds a folder of pictures for each class.

Torch-free: a device that replays reads the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError, read_bytes
from artefacts.arrays import read_npz
from artefacts.printing import first_of
from models.data.datasets import Pictures
from models.facts.outcomes import class_type

MOST_CLASSES = 65_536
MOST_NAMES_BYTES = 4 * 1024 * 1024
MOST_BYTES = 8 * 1024**3
"""Of all pictures, decoded."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")


def read_pictures(
    path: Path, side: tuple[int, int] | None = None, classes: Sequence[str] = ()
) -> Pictures:
    """Labelled pictures of an npz (`x` uint8 (N, H, W, 3), whole numbers `y` (N,)) or of a folder.

    A folder holds one of pictures for each class, called as the class. They are squashed to `side`
    (height, width), as the daemon does, or all have one size. `classes`: their names in the order
    of the scores; where they are not given, in alphabetical order.
    """
    if path.is_dir():
        return _of_folder(path, side, tuple(classes))
    expected = "an npz with arrays x and y, or a folder of pictures by class"
    arrays: dict[str, Any] = read_npz(path, expected, ("x", "y"))
    if len(arrays) < 2:
        raise ArtefactError(path, found=f"{', '.join(arrays) or 'neither'}", expected=expected)
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}", expected="uint8 (N, H, W, 3)"
        )
    whole = y.shape == (len(x),) and y.dtype.kind in "iu" and y.min(initial=0) >= 0
    if not whole or y.max(initial=0) >= MOST_CLASSES:
        raise ArtefactError(
            path,
            field="y",
            found=f"{y.dtype} {y.shape}",
            expected=f"classes 0 to {MOST_CLASSES - 1}, ({len(x)},)",
        )
    return Pictures(x, y.astype(class_type(int(y.max(initial=0)) + 1)), tuple(classes))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line, in the order of the scores."""
    try:
        text = read_bytes(path, MOST_NAMES_BYTES).decode("utf-8-sig")
    except UnicodeError:
        raise ArtefactError(path, found="bytes that are not UTF-8", expected="a name a line") from (
            None
        )
    names = [line.strip() for line in text.rstrip().splitlines()]
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name or name in seen:
            found = f"'{name}' again" if name else "an empty line"
            raise ArtefactError(path, line=number, found=found, expected="a name of its own")
        seen.add(name)
    if not names:
        raise ArtefactError(path, found="no names", expected="a name of a class a line")
    return tuple(names)


def _of_folder(path: Path, side: tuple[int, int] | None, classes: tuple[str, ...]) -> Pictures:
    files = _files(path)
    names = classes or tuple(files)
    unknown = [name for name in files if name not in names]
    if unknown:
        raise ArtefactError(
            path / unknown[0],
            found=f"a folder of the name '{unknown[0]}'",
            expected=f"the name of a class ({first_of(names, 5)})",
        )
    number = {name: k for k, name in enumerate(names)}
    listed = [(file, number[name]) for name, found in files.items() for file in found]
    height, width = side or _common_side([file for file, _ in listed])
    if len(listed) * height * width * 3 > MOST_BYTES:
        raise ArtefactError(
            path,
            found=f"{len(listed)} pictures of {width} x {height}",
            expected=f"at most {MOST_BYTES // 2**30} GiB of them (fewer, or a smaller --input)",
        )
    x = np.empty((len(listed), height, width, 3), dtype=np.uint8)
    for k, (file, _) in enumerate(listed):
        x[k] = _decoded(file, height, width)
    labels: Any = np.array([label for _, label in listed])
    return Pictures(x, labels.astype(class_type(len(names))), names)


def _files(path: Path) -> dict[str, list[Path]]:
    """The pictures of every class, by its name."""
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {
        folder.name: sorted(
            p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        for folder in folders
    }
    empty = [name for name, files in found.items() if not files]
    if not found or empty:
        raise ArtefactError(
            path / empty[0] if empty else path,
            found="no pictures" if empty else "no folders",
            expected=f"a folder of pictures ({', '.join(SUFFIXES)}) for each class",
        )
    return found


def _common_side(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width of all pictures."""
    sizes = {_size(file): file for file in files}
    if len(sizes) > 1:
        (one, other), (here, there) = list(sizes)[:2], list(sizes.values())[:2]
        raise UsageError(
            f"pictures: found {one[1]} x {one[0]} in '{here}' and {other[1]} x {other[0]} in "
            f"'{there}', expected one size, or --input HEIGHTxWIDTH to squash them to"
        )
    return next(iter(sizes))


def _size(file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        raise _damaged(file, error) from None
    return (width, height) if turned else (height, width)


def _decoded(file: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A file as an upright picture (height, width, 3), squashed to that size."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            # decodes at half, a quarter or an eighth where that is still larger
            image.draft("RGB", (max(height, width),) * 2)
            upright = ImageOps.exif_transpose(image).convert("RGB")
            if upright.size != (width, height):
                upright = upright.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(upright, dtype=np.uint8)
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        file,
        found=f"no picture that can be read ({_damage(file, error)})",
        expected=f"one of {', '.join(FORMATS)}",
    )


def _damage(file: Path, error: Exception) -> str:
    """What is wrong with a file, in words where Pillow has some."""
    from PIL import UnidentifiedImageError

    if file.stat().st_size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "of no such format"
    said = " ".join(str(error).split())
    if "truncated" in said or "Truncated" in said:
        return "truncated: its end is missing"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
