"""Boxes drawn onto pictures: what a detector found, with names and scores. Torch-free."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from artefacts import UsageError
from artefacts.arrays import Float32s

LEAST_TEXT = 10
"""Pixels of the names' height."""
TEXT_SHARE = 0.035
"""Of a picture's shorter side."""


def draw_boxes(
    picture: Image.Image,
    boxes: Float32s,
    labels: Sequence[int],
    scores: Sequence[float] = (),
    names: Sequence[str] = (),
) -> Image.Image:
    """A copy of `picture` with `boxes` (K, 4) on it: left, top, right, bottom within 0 and 1.

    `labels` are their classes, a colour each; `names` and `scores` (0 to 1) stand beside each box
    where they are given, one a box.
    """
    for what, given in (("labels", labels), ("scores", scores), ("names", names)):
        if len(given) != len(boxes) and (len(given) or what == "labels"):
            raise UsageError(f"{what}: found {len(given)}, expected one for each of {len(boxes)}")
    drawn = picture.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    small = min(drawn.size)
    font = ImageFont.load_default(size=max(LEAST_TEXT, round(TEXT_SHARE * small)))
    thick = max(1, round(small / 150))
    # the surest box is drawn last: nothing lies over it
    for k in reversed(range(len(boxes))):
        left, top, right, bottom = _pixels(boxes[k], drawn.size)
        colour = class_colour(int(labels[k]))
        draw.rectangle((left, top, right, bottom), outline=colour, width=thick)
        words = [names[k] if names else f"class {labels[k]}"]
        words += [f"{100 * scores[k]:.0f} %"] if len(scores) else []
        _name(draw, " ".join(words), (left, top), font, colour, drawn.size)
    return drawn


def class_colour(label: int) -> tuple[int, int, int]:
    """The colour of a class: neighbouring numbers lie far apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + 0.618 * label) % 1.0, 0.9, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _pixels(box: Float32s, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    across, down = max(width - 1, 0), max(height - 1, 0)
    left, top, right, bottom = (min(max(float(v), 0.0), 1.0) for v in box)
    found = round(left * across), round(top * down), round(right * across), round(bottom * down)
    return found[0], found[1], max(found[0], found[2]), max(found[1], found[3])


def _name(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    """A name on a ground of its box's colour, above the box, or where there is room for it."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = round(right - left) + 4, round(bottom - top) + 4
    x = max(0, min(corner[0], size[0] - wide))
    y = corner[1] - high if corner[1] >= high else corner[1]
    draw.rectangle((x, y, x + wide, y + high), fill=colour)
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    draw.text(
        (x + 2 - left, y + 2 - top), text, font=font, fill="black" if light > 120 else "white"
    )
