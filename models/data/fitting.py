"""Pictures of any size drawn at a network's: pixels, by what `models.facts.picture_fit` says.

Torch-free: a daemon does it with every picture that it is asked with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.facts.picture_fit import Placement

if TYPE_CHECKING:
    from PIL import Image


def fitted(picture: Image.Image, place: Placement) -> Image.Image:
    """An upright RGB picture as one of `place.side` (bilinear); of that size it comes as it is.

    `picture` may have been decoded smaller than the one that `place` is of.
    """
    from PIL import Image as Pillow

    left, top, right, bottom = place.pixels
    size, box = (right - left, bottom - top), None
    if place.part != (0.0, 0.0, 1.0, 1.0):
        x0, y0, x1, y1 = place.part
        box = (x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height)
    if box is not None or picture.size != size:
        picture = picture.resize(size, Pillow.Resampling.BILINEAR, box=box)
    if place.at is None:
        return picture
    whole = Pillow.new("RGB", place.side[::-1], (place.fill,) * 3)
    whole.paste(picture, (left, top))
    return whole
