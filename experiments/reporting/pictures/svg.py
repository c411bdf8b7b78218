"""A drawing as SVG text: rectangles, lines, arrows and words at fixed places, the same every time.

Knows nothing of what is drawn. Coordinates are pixels from the upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

INK, PALE, GRID = "#263238", "#607d8b", "#cfd8dc"
DEVICE, LINK, EDGE, LOCAL, LATE = "#3f7fbf", "#e0a030", "#4c9f70", "#9c6fb5", "#c8503c"
FONT = "font-family='system-ui, sans-serif'"


def _number(value: float) -> str:
    """One decimal is finer than a pixel, and the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


@dataclass
class Drawing:
    """A canvas of `width` x `height` pixels; `title` is what a screen reader says of it."""

    width: float
    height: float
    title: str
    _parts: list[str] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, *, dashed: bool = False
    ) -> None:
        """A filled rectangle; `dashed` only outlines it: work that may not be needed.

        `x` and `y` are its upper left corner, `width` and `height` its size in pixels, `fill` a
        colour.
        """
        look = (
            f"fill='white' stroke='{fill}' stroke-dasharray='4 3'" if dashed else f"fill='{fill}'"
        )
        place = f"x='{_number(x)}' y='{_number(y)}'"
        size = f"width='{_number(max(width, 1.0))}' height='{_number(height)}'"
        self._parts.append(f"<rect {place} {size} rx='3' {look}/>")

    def line(
        self, x: float, y: float, to_x: float, to_y: float, *, ink: str = GRID, dashed: bool = False
    ) -> None:
        """A straight line.

        From (`x`, `y`) to (`to_x`, `to_y`) in pixels, in colour `ink`, or `dashed`.
        """
        dash = " stroke-dasharray='5 4'" if dashed else ""
        ends = f"x1='{_number(x)}' y1='{_number(y)}' x2='{_number(to_x)}' y2='{_number(to_y)}'"
        self._parts.append(f"<line {ends} stroke='{ink}' stroke-width='1.5'{dash}/>")

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """A line with a head at its end.

        From (`x`, `y`) to (`to_x`, `to_y`) in pixels.
        """
        ends = f"x1='{_number(x)}' y1='{_number(y)}' x2='{_number(to_x)}' y2='{_number(to_y)}'"
        look = f"stroke='{PALE}' stroke-width='1.5' marker-end='url(#head)'"
        self._parts.append(f"<line {ends} {look}/>")

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        ink: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Text on a base line at y; `anchor` is start, middle or end.

        `text` stands at (`x`, `y`) in pixels, letters of `size` pixels in colour `ink`, or `bold`.
        """
        weight = " font-weight='600'" if bold else ""
        place = f"x='{_number(x)}' y='{_number(y)}' text-anchor='{anchor}'"
        look = f"{FONT} font-size='{_number(size)}' fill='{ink}'{weight}"
        self._parts.append(f"<text {place} {look}>{escape(text)}</text>")

    def __str__(self) -> str:
        size = f"viewBox='0 0 {_number(self.width)} {_number(self.height)}'"
        head = (
            "<marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
            f"markerHeight='7' orient='auto'><path d='M0 0L8 4L0 8z' fill='{PALE}'/></marker>"
        )
        lines = [
            f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'>",
            f"<title>{escape(self.title)}</title>",
            f"<defs>{head}</defs>",
            f"<rect width='{_number(self.width)}' height='{_number(self.height)}' fill='white'/>",
            *self._parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"
