"""Plots of evaluations as matplotlib figures, and their bytes: the same figures, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.registry import colour_of, is_drawn
from envs.records import GOOD_QUALITY, drawn_words
from experiments.reporting.drawing import new_figure
from experiments.studies.results import QUANTILES, ControllerResult, Evaluation, MapFigure, Series
from traces.plots import plain_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, LATE = "#2ca02c", "#ff7f0e", "#d62728"


def series_figure(series: Series, deadline_s: float) -> Figure:
    """The true rate, and under it every controller's plans, frame by frame."""
    plans = {n: sorted(set(own.plans)) for n, own in series.controllers.items()}
    heights = [2.0, *(0.6 + 0.22 * len(p) for p in plans.values())]
    figure = new_figure(9.0, 0.8 + sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    edges = [*series.rate_at_s, series.start_s + series.seconds]
    rows[0].stairs([r / 1e6 for r in series.rate_bps], edges, color="black", linewidth=0.8)
    rows[0].set(ylabel="Mbit/s", title=f"true rate of {plain_label(series.trace)}", ylim=(0, None))
    every = [own.quality for own in series.controllers.values()]
    better, worse, _ = drawn_words(np.concatenate([np.array(own) for own in every]))
    for axes, (name, own) in zip(rows[1:], series.controllers.items(), strict=True):
        at, index = np.array(own.at_s), np.array(own.plan, dtype=int)
        height = np.array([plans[name].index(p) for p in own.plans] or [0])
        good = np.array(own.in_time, dtype=bool)
        right = good & (np.array(own.quality) >= GOOD_QUALITY)
        for mask, colour, marker, label in (
            (right, RIGHT, "|", f"{better}, in time"),
            (good & ~right, WRONG, "|", f"in time, {worse}"),
            (~good, LATE, "x", "not in time"),
        ):
            axes.plot(at[mask], height[index[mask]], marker, color=colour, label=label,
                      markersize=5, linestyle="none")  # fmt: skip
        axes.set_yticks(range(len(plans[name])), plans[name], fontsize=6)
        axes.set(title=name, ylim=(-0.6, max(len(plans[name]), 1) - 0.4))
    rows[-1].set(xlabel=f"s (deadline {1000 * deadline_s:g} ms)")
    figure.legend(*rows[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  fontsize="small")  # fmt: skip
    return figure


def latency_figure(found: Evaluation) -> Figure:
    """Share of all frames answered by then (closed loop: of all inferences)."""
    figure = new_figure(8.0, 4.0)
    axes = figure.subplots()
    levels = np.linspace(0.0, 1.0, QUANTILES)
    for name, own in _drawn(found).items():
        if own.latency_quantiles_s:
            reached = levels if found.closed_loop else levels * (1.0 - own.late_share)
            at = [1000 * q for q in own.latency_quantiles_s]
            if not found.closed_loop:  # nothing more is answered up to the deadline
                at, reached = [*at, 1000 * found.deadline_s], np.append(reached, reached[-1])
            axes.plot(at, reached, label=name, **_style(name))
    if found.closed_loop:
        axes.set_xscale("log")
    else:
        axes.axvline(1000 * found.deadline_s, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="latency, ms", ylabel="share of frames answered by then", ylim=(0, 1.01))
    _legend(figure)
    return figure


def differences_figure(found: Evaluation) -> Figure:
    """Distribution over test files of every controller's difference to the best baseline."""
    figure = new_figure(8.0, 4.0)
    axes = figure.subplots()
    scale = 1.0 if found.closed_loop else 100.0
    best = next(
        (c.against_best.over for c in found.controllers.values() if c.against_best is not None), ""
    )
    for name, own in _drawn(found).items():
        if own.against_best is None:
            continue
        theirs = found.controllers[best].per_trace
        off = np.sort([scale * (own.per_trace[t] - theirs[t]) for t in found.traces])
        axes.plot(np.repeat(off, 2), _steps(len(off)), label=name, **_style(name))
    axes.axvline(0.0, color="black", linewidth=0.8, linestyle=":")
    unit = "mean reward" if found.closed_loop else "points per frame"
    axes.set(xlabel=f"a test file's difference to {best}, {unit}", ylabel="share of test files",
             ylim=(0, 1.01))  # fmt: skip
    _legend(figure)
    return figure


def _steps(count: int) -> Any:
    level = np.arange(count + 1) / count
    return np.repeat(level, 2)[1:-1]


def deadline_figure(found: Evaluation) -> Figure:
    """Goodput accuracy over the deadline, with intervals over test files."""
    figure = new_figure(8.0, 4.0)
    axes = figure.subplots()
    for name in dict.fromkeys(point.controller for point in found.deadlines):
        own = [p for p in found.deadlines if p.controller == name]
        y = np.array([100 * p.goodput_accuracy for p in own])
        ends = np.array([[100 * end for end in p.interval95] for p in own])
        spread = np.maximum([y - ends[:, 0], ends[:, 1] - y], 0.0)
        axes.errorbar([1000 * p.deadline_s for p in own], y, yerr=spread, marker="o", markersize=4,
                      capsize=2, label=name, **_style(name))  # fmt: skip
    axes.axvline(1000 * found.deadline_s, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="deadline, ms", ylabel="goodput accuracy, %")
    _legend(figure)
    return figure


def map_plot(found: MapFigure) -> Figure:
    """Expected reward of every exit and partition in every bandwidth state; dots: the map."""
    figure = new_figure(8.0, 1.4 + 0.22 * len(found.rows))
    axes = figure.subplots()
    values = np.array(found.values)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis",
                        origin="lower")  # fmt: skip
    axes.plot(range(len(found.chosen)), found.chosen, ".", color="#d62728", label="chosen",
              markersize=6 if len(found.chosen) < 100 else 2)  # fmt: skip
    axes.set_yticks(range(len(found.rows)), found.rows, fontsize=7)
    ticks = np.unique(np.linspace(0, len(found.bandwidths_bps) - 1, 9).round().astype(int))
    axes.set_xticks(ticks, [f"{found.bandwidths_bps[k] / 1e6:.2g}" for k in ticks])
    axes.set(xlabel="bandwidth state, mean Mbit/s")
    figure.colorbar(image, label="expected reward")
    figure.legend(loc="outside upper right", fontsize="small")
    return figure


def front_figure(evaluations: Sequence[Evaluation]) -> Figure:
    """Goodput accuracy against device energy and against bytes; a column an evaluation."""
    count = max(len(evaluations), 1)
    figure = new_figure(max(3.3 * count, 9.0) if count > 1 else 9.0, 6.4 if count > 1 else 3.8)
    grid = figure.subplots(2, count, squeeze=False) if count > 1 else figure.subplots(
        1, 2, squeeze=False
    ).T  # fmt: skip
    for k, found in enumerate(evaluations):
        own = _drawn(found)
        energies = {n: c.energy_j_per_frame for n, c in own.items()}
        known = {n: 1000 * e for n, e in energies.items() if e is not None}
        _front(grid[0, k], found, known, "device energy beyond idling, mJ/frame")
        sizes = {n: c.bytes_per_frame / 1000 for n, c in own.items()}
        _front(grid[1, k], found, sizes, "kB/frame")
        title = f"{found.scenario}, {len(found.traces)} test files"
        grid[0, k].set_title(title + (" (GENERATED)" if found.generated else ""), fontsize="medium")
    _legend(figure, "outside lower center", 6)
    return figure


def _front(axes: Any, found: Evaluation, costs: Mapping[str, float], label: str) -> None:
    if not costs:
        axes.set_axis_off()
        unknown = "energy unknown:\nthe device's profile\nhas no power model"
        axes.text(0.5, 0.5, unknown, ha="center", transform=axes.transAxes, fontsize="small")
        return
    axes.set(xlabel=label, ylabel="goodput accuracy, %")
    at = {n: (cost, 100 * found.controllers[n].goodput_accuracy) for n, cost in costs.items()}
    deployable = {n: p for n, p in at.items() if found.controllers[n].deployable}
    front = sorted(deployable[n] for n in front_of(deployable))
    if front:
        axes.plot(*zip(*front, strict=True), color="#bbbbbb", linewidth=1.0, zorder=0)
    for name, (x, y) in at.items():
        mine = name == "learned"
        marker = "*" if mine else "o" if name in deployable else "D"
        # the star is wide and lies below, so that a rival at the same place is seen
        label = name if name in deployable else f"{name} (knows the trace)"
        axes.plot([x], [y], marker, color=colour_of(name), label=label,
                  markersize=16 if mine else 5, zorder=1 if mine else 3)  # fmt: skip


def _legend(figure: Any, place: str = "outside right upper", ncols: int = 1) -> None:
    """One legend for all axes, beside what is drawn: every name once."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc=place, fontsize="small", ncols=ncols)


def front_of(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points that no other has both at less cost and greater accuracy."""
    return [
        name
        for name, (cost, accuracy) in points.items()
        if not any(
            c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points.values()
        )
    ]


def _drawn(found: Evaluation) -> dict[str, ControllerResult]:
    return {n: own for n, own in found.controllers.items() if is_drawn(n)}


def _style(name: str) -> dict[str, Any]:
    own = {"color": colour_of(name), "linewidth": 2.4 if name == "learned" else 1.1}
    return own | ({"zorder": 5} if name == "learned" else {})
