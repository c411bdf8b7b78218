"""Labelled pictures of a user, in each form that `--data` takes.

Here are an npz, and a folder that holds a folder of pictures for each class; the other forms have
modules of their own. Torch-free: a device that replays reads the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artefacts import ArtefactError, read_bytes
from artefacts.arrays import npz_names, read_npz
from artefacts.imported import is_named
from artefacts.printing import first_of
from models.data.brought_sets import is_saved_set, read_object, read_saved_set
from models.data.datasets import UNLABELLED, Pictures
from models.data.listed_pictures import LIST_SUFFIXES, read_list
from models.data.picture_files import SUFFIXES, picture_array
from models.facts.outcomes import class_type
from models.facts.picture_fit import SQUASH, PictureFit

MOST_NAMES_BYTES = 4 * 1024 * 1024


def read_pictures(
    path: Path,
    side: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    likely: Sequence[str] = (),
    fit: PictureFit = SQUASH,
) -> Pictures:
    """Labelled pictures of `path`: a file, a folder, or a data set that a function makes.

    - An npz has `x` uint8 (N, H, W, 3) and, unless nobody has labelled them, `y` (N, ...) as the
      judge of a network's answers takes them (`models.facts.label_checks` looks at that).
    - A folder holds one of pictures for each class, called as the class.
    - A CSV has paths and labels (`models.data.listed_pictures`).
    - A folder that the package datasets has saved, and MODULE:FUNCTION of a
      `torch.utils.data.Dataset`, are of `models.data.brought_sets`.

    All but an npz are made to `fit` `side` (height, width), as the daemon does, or have one size.
    `classes`: their names in the order of the scores. Where they are not given, `likely` ones (a
    model's own) count if the data set's are among them; else its order, or that of the alphabet.
    """
    names, own = tuple(classes), tuple(likely)
    if path.is_dir():
        read = read_saved_set if is_saved_set(path) else _of_folder
        return read(path, side, names, own, fit)
    if not path.exists() and is_named(str(path)):
        return read_object(str(path), side, names, own, fit)
    if path.suffix.lower() in LIST_SUFFIXES:
        return read_list(path, side, names, own, fit)
    return _of_npz(path, names)


def has_own_size(path: Path) -> bool:
    """Whether pictures come in the size that they have: those of an npz are never scaled."""
    others = path.is_dir() or path.suffix.lower() in LIST_SUFFIXES
    return not others and (path.exists() or not is_named(str(path)))


def _of_npz(path: Path, classes: tuple[str, ...]) -> Pictures:
    expected = "an npz with arrays x and y, or a folder of pictures by class"
    arrays: dict[str, Any] = read_npz(path, expected, ("x", "y"))
    if "x" not in arrays:
        raise ArtefactError(
            path, found=f"arrays {', '.join(npz_names(path)) or '(none)'}", expected=expected
        )
    x, y = arrays["x"], arrays.get("y", UNLABELLED)
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}", expected="uint8 (N, H, W, 3)"
        )
    if y is not UNLABELLED and (y.ndim < 1 or len(y) != len(x) or y.dtype.kind not in "iufb"):
        raise ArtefactError(
            path, field="y", found=f"{y.dtype} {y.shape}", expected=f"labels of {len(x)} pictures"
        )
    return Pictures(x, y, classes, path)


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


def _of_folder(
    path: Path,
    side: tuple[int, int] | None,
    classes: tuple[str, ...],
    likely: tuple[str, ...],
    fit: PictureFit,
) -> Pictures:
    files = _files(path)
    names = classes or (likely if set(files) <= set(likely) else tuple(files))
    unknown = [name for name in files if name not in names]
    if unknown:
        raise ArtefactError(
            path / unknown[0],
            found=f"a folder of the name '{unknown[0]}'",
            expected=f"the name of a class ({first_of(names, 5)})",
        )
    number = {name: k for k, name in enumerate(names)}
    listed = [(file, number[name]) for name, found in files.items() for file in found]
    x = picture_array(path, [file for file, _ in listed], side, fit)
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
