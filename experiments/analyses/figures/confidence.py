"""The curves of `bench confidence` as a picture: accuracy against mean compute, by method."""

from __future__ import annotations

import io
from pathlib import Path

from artefacts import atomic_write
from experiments.analyses.confidence.curves import ConfidenceFigures


def draw_confidence(figures: ConfidenceFigures, path: Path) -> None:
    """One line a method: what it gave on the judged pictures, over what it used there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in figures.curves:
        at = sorted(set(zip(curve.compute, curve.accuracy, strict=True)))
        x, y = [100 * a for a, _ in at], [100 * b for _, b in at]
        axes.plot(x, y, marker="o", markersize=3, label=f"{curve.method} ({curve.area:.4f})")
    axes.set(
        xlabel="mean multiply-adds, % of the whole network with every head",
        ylabel="accuracy, %",
        title=f"{figures.model}, {figures.judged_on}",
    )
    axes.grid(alpha=0.3)
    axes.legend(title="method (area)", fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    with atomic_write(path, "wb") as stream:
        stream.write(picture.getvalue())
