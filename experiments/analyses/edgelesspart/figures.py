"""The report's plots: total time by way, over bandwidth and over threshold, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artefacts import atomic_write, ready_folder
from experiments.analyses.edgelesspart.report import Report, named
from experiments.analyses.edgelesspart.tables import Row
from experiments.analyses.edgelesspart.tariffs import MB
from experiments.reporting.drawing import new_figure, png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "device only": "#7f7f7f", "cloud only": "#1f77b4", "split only": "#ff7f0e",
    "exits only, device": "#bcbd22", "exits only, cloud": "#17becf", "split and exits": "#2ca02c",
}  # fmt: skip
"""By way."""
LINES = {"": "-", "linear": "-", "pareto": "--"}


def draw_all(report: Report, folder: Path) -> list[Path]:
    """Write every plot into a folder, and give their paths."""
    ready_folder(folder)
    plots = {
        "edgelesspart-ways": ways_figure(report),
        "edgelesspart-bandwidths": bandwidths_figure(report),
        "edgelesspart-thresholds": thresholds_figure(report),
    }
    written = []
    for name, figure in plots.items():
        path = folder / f"{name}.png"
        with atomic_write(path, "wb") as stream:
            stream.write(png_bytes(figure))
        written.append(path)
    return written


def ways_figure(report: Report) -> Figure:
    """Bars a network: seconds of all requests, and the function's memory; splits the fastest."""
    names = [network.name for network in report.networks]
    figure = new_figure(4.2 * max(len(names), 2), 7.0)
    grid = figure.subplots(2, len(names), squeeze=False, sharex="col")
    shown = [r for r in report.at_both() if r.constraint in ("", "none")]
    for column, name in enumerate(names):
        rows = [r for r in shown if r.network == name and r.figures is not None]
        _bars(grid[0, column], rows, [r.figures.total_s for r in rows if r.figures])
        sizes = [r.figures.function_bytes / MB for r in rows if r.figures]
        _bars(grid[1, column], rows, sizes)
        grid[0, column].set(title=name)
        grid[1, column].tick_params(axis="x", labelrotation=90, labelsize="small")
    grid[0, 0].set(ylabel="s, all requests")
    grid[1, 0].set(ylabel="MiB in the function")
    return figure


def _bars(axes: Any, rows: Sequence[Row], heights: Sequence[float]) -> None:
    labels = [named(row) for row in rows]
    axes.bar(labels, heights, color=[COLOURS[row.way] for row in rows])
    axes.grid(axis="y", alpha=0.3)


def bandwidths_figure(report: Report) -> Figure:
    """Seconds of all requests over the bandwidth, a line a way and placement."""
    rows = [r for r in report.at_threshold() if r.constraint in ("", "none")]
    return _lines(report, rows, lambda row: row.bandwidth_bps / 1e6, "Mbit/s", logarithmic=True)


def thresholds_figure(report: Report) -> Figure:
    """The same over the threshold of the exits."""
    rows = [r for r in report.at_bandwidth() if r.constraint in ("", "none")]
    return _lines(report, rows, lambda row: row.threshold, "threshold", logarithmic=False)


def _lines(report: Report, rows: Sequence[Row], x: Any, label: str, *, logarithmic: bool) -> Figure:
    names = [network.name for network in report.networks]
    figure = new_figure(4.2 * max(len(names), 2), 4.4)
    grid = figure.subplots(1, len(names), squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        own = [r for r in rows if r.network == name and r.figures is not None]
        for line in dict.fromkeys((r.way, r.placement) for r in own):
            points = [r for r in own if (r.way, r.placement) == line]
            y = [r.figures.total_s for r in points if r.figures is not None]
            axes.plot([x(r) for r in points], y, LINES[line[1]], color=COLOURS[line[0]],
                      marker="o", markersize=3, label=named(points[0]))  # fmt: skip
        axes.set(title=name, xlabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
        if logarithmic:
            axes.set_xscale("log")
    grid[0, 0].set(ylabel="s, all requests")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return figure
