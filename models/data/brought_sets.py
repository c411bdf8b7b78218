"""Labelled pictures of a data set in memory: `torch.utils.data.Dataset`, or Hugging Face's on disk.

A data set is whatever has a length and gives (picture, label) by number, so nothing here imports
torch. The package datasets is asked only where a folder of its kind is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, CoinferError, DependencyError, UsageError
from artefacts.imported import imported
from artefacts.printing import first_of
from models.data.datasets import Pictures
from models.data.labels import numbered
from models.data.picture_files import room_for, several_sizes, upright
from models.facts.picture_fit import SQUASH, PictureFit

PICTURE_NAMES = ("image", "img", "picture", "pixel_values")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "fine_label", "y")
"""Columns of a saved set, the first of each that is there."""
SAVED, SAVED_SPLITS = "dataset_info.json", "dataset_dict.json"
"""What `save_to_disk` writes beside a set, and beside several splits of one."""
Row = tuple[Any, Any]
Refuse = Callable[[int, str, str], CoinferError]


def is_saved_set(path: Path) -> bool:
    """Whether a folder is what `datasets`' `save_to_disk` has written."""
    return (path / SAVED_SPLITS).is_file() or (
        (path / SAVED).is_file() and any(path.glob("*.arrow"))
    )


def read_saved_set(
    path: Path,
    side: tuple[int, int] | None,
    classes: tuple[str, ...],
    likely: tuple[str, ...] = (),
    fit: PictureFit = SQUASH,
) -> Pictures:
    """Pictures of a folder (`path`) of `save_to_disk`; where it holds several splits one is named.

    Pictures are made to `fit` `side` (height, width), or all have one size. `classes`: names in the
    order of the scores, else the model's (`likely`) where the set's are among them, else the set's.
    """
    if (path / SAVED_SPLITS).is_file():
        path = _split(path)
    try:
        import datasets  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise DependencyError(
            f"{path}: found a data set of the package 'datasets', which is not installed, expected "
            "it here (pip install datasets), or the pictures as a folder by class, a CSV or an npz"
        ) from None
    try:
        found = datasets.load_from_disk(str(path))
        features = dict(found.features)
    except Exception as error:  # whatever that package raises for a damaged folder
        raise ArtefactError(
            path, found=f"{type(error).__name__}: {error}", expected="a folder of save_to_disk"
        ) from None
    picture = _column(path, features, PICTURE_NAMES, "Image")
    label = _column(path, features, LABEL_NAMES, "ClassLabel")
    own = tuple(getattr(features[label], "names", None) or ())

    def rows() -> Iterator[Row]:
        for number in range(len(found)):
            row = found[number]
            yield row[picture], row[label]

    def refuse(row: int, said: str, expected: str) -> CoinferError:
        return ArtefactError(path, field=f"row {row}", found=said, expected=expected)

    return _gathered(path, len(found), rows(), (side, fit), (classes, own, likely), refuse)


def read_object(
    named: str,
    side: tuple[int, int] | None,
    classes: tuple[str, ...],
    likely: tuple[str, ...] = (),
    fit: PictureFit = SQUASH,
) -> Pictures:
    """Pictures of the `torch.utils.data.Dataset` that `named` (MODULE:FUNCTION) gives.

    It gives (picture, label) by number. A picture is Pillow's, uint8 (H, W, 3) or (3, H, W), or
    what torchvision's `ToTensor` gives of one: floats (3, H, W) from 0 to 1. `classes` else are the
    model's (`likely`) where the set's are among them, else the set's own (its attribute `classes`).
    Made to `fit` `side` (height, width), or of one size.
    """
    made = imported("data", named)
    try:
        found = made() if isinstance(made, type) or not hasattr(made, "__getitem__") else made
        count = len(found)
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        raise UsageError(
            f"data '{named}': found {type(error).__name__}: {error}, expected a function that "
            "gives a torch.utils.data.Dataset with a length"
        ) from None
    own = getattr(found, "classes", ())
    own = tuple(map(str, own)) if isinstance(own, list | tuple) else ()

    def rows() -> Iterator[Row]:
        for number in range(count):
            picture, label = found[number]
            yield picture, label

    def refuse(row: int, said: str, expected: str) -> CoinferError:
        return UsageError(f"data '{named}', item {row}: found {said}, expected {expected}")

    return _gathered(Path(named), count, rows(), (side, fit), (classes, own, likely), refuse)


def _split(path: Path) -> Path:
    """The one split of a folder of several; where there are more, each is named."""
    splits = sorted(p for p in path.iterdir() if (p / SAVED).is_file())
    if len(splits) != 1:
        named = first_of([str(p) for p in splits], 5)
        raise ArtefactError(
            path, found=f"{len(splits)} splits", expected=f"one of them ({named})"
        )  # fmt: skip
    return splits[0]


def _column(path: Path, features: dict[str, Any], names: Sequence[str], kind: str) -> str:
    """The column of a kind of feature, else the first of these names."""
    of_kind = [name for name, feature in features.items() if type(feature).__name__ == kind]
    named = [name for name in names if name in features]
    if len(of_kind) == 1 or (of_kind and not named):
        return of_kind[0]
    if not named:
        raise ArtefactError(
            path, found=f"columns {', '.join(features)}",
            expected=f"one of type {kind}, or called {', '.join(names[:4])}",
        )  # fmt: skip
    return named[0]


def _gathered(
    source: Path,
    count: int,
    rows: Iterator[Row],
    size: tuple[tuple[int, int] | None, PictureFit],
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    refuse: Refuse,
) -> Pictures:
    """All rows as pictures of a size (None: their own), and how they are made to fit it.

    `names`: given, the set's own, likely; `refuse`: a row's error.
    """
    if count == 0:
        raise UsageError(f"data '{source}': found no rows, expected labelled pictures")
    x: npt.NDArray[np.uint8] | None = None
    labels: list[str | int] = []
    for number in range(count):
        try:
            picture, label = next(rows)
            one = _as_picture(picture, *size)
        except StopIteration:
            raise refuse(number, "no more rows", f"{count}, its length") from None
        except Exception as error:  # whatever a set of the user's raises, or a damaged picture
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise refuse(number, said, "a picture and its label") from None
        if x is None:
            x = room_for(source, count, (one.shape[0], one.shape[1]))
        if one.shape != x.shape[1:]:
            (h, w), (other_h, other_w) = x.shape[1:3], one.shape[:2]
            raise several_sizes((h, w), "row 0", (other_h, other_w), f"row {number}")
        x[number] = one
        labels.append(_as_label(label, number, refuse))
    assert x is not None
    classes, own, likely = names
    return Pictures(x, *numbered(labels, classes, own, refuse, likely))


def _as_label(label: Any, row: int, refuse: Refuse) -> str | int:
    if isinstance(label, str):
        return label
    try:
        value = label.item() if hasattr(label, "item") else label
        if isinstance(value, bool) or int(value) != value:
            raise ValueError
    except (TypeError, ValueError, RuntimeError):
        raise refuse(row, f"label {label!r}"[:80], "a whole number or a name") from None
    return int(value)


def _as_picture(given: Any, side: tuple[int, int] | None, fit: PictureFit) -> npt.NDArray[np.uint8]:
    """One picture of any of the kinds (H, W, 3), made to `fit` `side` where one is given."""
    from PIL import Image

    if isinstance(given, Image.Image):
        return upright(given, side, fit)
    array = np.asarray(given.numpy() if hasattr(given, "numpy") else given)
    if array.ndim != 3:
        raise ValueError(f"a picture of shape {array.shape}, expected (H, W, 3) or (3, H, W)")
    if array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if array.dtype.kind == "f":
        if not (array.min() >= 0.0 and array.max() <= 1.0):
            raise ValueError(
                f"floats from {array.min():g} to {array.max():g}, expected 0 to 1 (leave out "
                "Normalize: --mean and --std are given to the command)"
            )
        array = np.rint(255.0 * array).astype(np.uint8)
    if array.dtype != np.uint8 or array.shape[2] != 3:
        raise ValueError(f"a picture as {array.dtype} {array.shape}, expected uint8 (H, W, 3)")
    if side is None or array.shape[:2] == side:
        return np.ascontiguousarray(array)
    return upright(Image.fromarray(np.ascontiguousarray(array)), side, fit)
