"""matplotlib figures without global state, and their bytes: the same figures, the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches."""
    # the object interface with its own canvas: no pyplot, so no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _settle(figure: Figure) -> None:
    """Lay out once and round: the layout's solver gives other last digits from run to run."""
    figure.draw_without_rendering()
    places = [(axes, axes.get_position().bounds) for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, (left, bottom, width, height) in places:
        axes.set_position((round(left, 3), round(bottom, 3), round(width, 3), round(height, 3)))


def svg_bytes(figure: Figure, salt: str) -> bytes:
    """A whole SVG file: no date, ids from `salt`, text as text."""
    import matplotlib

    _settle(figure)
    written = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """A PNG without a note of what wrote it."""
    _settle(figure)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return written.getvalue()


def inline_svg(figure: Figure, name: str, described: str) -> str:
    """SVG to stand inside a page: ids of its own, nothing that points outside, a description."""
    from html import escape

    text = svg_bytes(figure, name).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style [^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    label = escape(described, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
