"""The Edgent paper's experiments, recomputed: what is chosen, how fast it is, and how accurate.

(Li et al., IEEE TWC 2020, section VI: the static figures on its own regression profiles, the
dynamic one from throughputs that a simulation gives.) Owns the sweeps and the drawings; choosing
is `controller.planners.algorithm1`'s, running is the simulator's. Numbers and pictures are kept
side by side: every PNG has a CSV of the same name. matplotlib is imported only to draw.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artefacts import UsageError, atomic_write
from artefacts.arrays import Floats
from controller.planners.algorithm1 import (
    Order,
    PlanningInputs,
    algorithm1,
    fastest,
    partition_latencies,
    planning_inputs,
)
from models.facts.branchy import BranchySpec
from models.facts.reference import reference_profile
from models.facts.regression import Reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BANDWIDTHS_BPS = tuple(50e3 * k for k in range(1, 31))
"""50 kbit/s to 1.5 Mbit/s, the paper's range."""

REQUIREMENTS_S = tuple(0.05 * k for k in range(2, 21))
"""0.1 s to 1 s."""

REQUIREMENT_S, BANDWIDTH_BPS = 1.0, 500e3
METHODS = ("device-only", "edge-only", "partition-only", "right-sizing-only", "edgent")
QUANTILE = 0.6
"""The quantile at which the paper compares throughputs (27 against 20 frames/s, as recalled)."""

PAPER_DEVICE_ONLY_S = 2.0
"""The paper's Raspberry Pi takes more than this for the whole network (section III, figure 2)."""


@dataclass(frozen=True, slots=True)
class StaticChoice:
    """What Algorithm 1 chooses at one bandwidth and requirement.

    `exit` and `partition` count from 1 as in the paper. `met` is False where it returns NULL; the
    figures are then those of the fastest plan.
    """

    bandwidth_bps: float
    requirement_s: float
    met: bool
    exit: int
    partition: int
    layers: int
    latency_s: float
    edge_s: float
    device_s: float
    uplink_s: float
    downlink_s: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class MethodPoint:
    """What a method gives at one requirement: seconds, and accuracy or None for a miss."""

    method: str
    requirement_s: float
    latency_s: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class StaticFigures:
    """The three static figures' numbers."""

    by_bandwidth: tuple[StaticChoice, ...]
    by_requirement: tuple[StaticChoice, ...]
    methods: tuple[MethodPoint, ...]


def edgent_inputs(
    spec: BranchySpec, accuracies: Sequence[float], reading: Reading = "maps"
) -> PlanningInputs:
    """A network on the paper's profiles (`edgent-pi3`, `edgent-pc`), with its exits' accuracies."""
    device = reference_profile("edgent-pi3", spec, reading)
    edge = reference_profile("edgent-pc", spec, reading)
    return planning_inputs(spec, device, edge, accuracies)


def device_only_s(spec: BranchySpec) -> dict[Reading, float]:
    """Seconds of the whole network on `edgent-pi3` under both readings of conv's x1.

    Neither comes near `PAPER_DEVICE_ONLY_S`: the published coefficients cannot be those of the
    paper's own measurements, and with them 1 s is no hard requirement.
    """
    readings: tuple[Reading, ...] = ("maps", "elements")
    last = len(spec.exits) - 1
    return {
        r: float(reference_profile("edgent-pi3", spec, r).layer_s(last).sum()) for r in readings
    }


def static_choice(
    inputs: PlanningInputs, bandwidth_bps: float, requirement_s: float, order: Order = "edge-first"
) -> StaticChoice:
    """Algorithm 1's choice at one point; the fastest plan where it gives none.

    `inputs` are network, profiles and accuracies; the point is `bandwidth_bps` in bit/s and
    `requirement_s` in seconds. `order` says which plans there are.
    """
    choice = algorithm1(inputs, bandwidth_bps, requirement_s, order)
    met = choice is not None
    if choice is None:
        choice = fastest(inputs, bandwidth_bps, order)
    return StaticChoice(
        bandwidth_bps=bandwidth_bps,
        requirement_s=requirement_s,
        met=met,
        exit=choice.plan.exit + 1,
        partition=choice.partition,
        layers=len(inputs.branches[choice.plan.exit].edge_s),
        latency_s=choice.latency_s,
        edge_s=choice.edge_s,
        device_s=choice.device_s,
        uplink_s=choice.uplink_s,
        downlink_s=choice.downlink_s,
        accuracy=choice.accuracy,
    )


def method_points(
    inputs: PlanningInputs, bandwidth_bps: float, requirement_s: float, order: Order = "edge-first"
) -> tuple[MethodPoint, ...]:
    """All five methods at one bandwidth and requirement.

    device-only and edge-only run the whole network on one side; partition-only cuts the whole
    network where it is fastest; right-sizing-only stays on the device and takes the deepest exit
    in time; edgent does both. One that misses shows its (fastest) seconds and no accuracy.

    `inputs` are network, profiles and accuracies, at `bandwidth_bps` in bit/s and `requirement_s`
    in seconds. `order` says which plans there are.
    """
    last = len(inputs.branches) - 1
    everything = partition_latencies(inputs, last, bandwidth_bps)
    local = [float(branch.device_s.sum()) for branch in inputs.branches]
    fitting = [i for i, seconds in enumerate(local) if seconds <= requirement_s]
    sized = fitting[-1] if fitting else int(np.argmin(local))
    cut = float(partition_latencies(inputs, last, bandwidth_bps, order).min())
    edgent = static_choice(inputs, bandwidth_bps, requirement_s, order)
    found = (
        (local[last], last),
        (float(everything[-1]), last),
        (cut, last),
        (local[sized], sized),
        (edgent.latency_s, edgent.exit - 1),
    )
    return tuple(
        MethodPoint(
            method,
            requirement_s,
            seconds,
            inputs.branches[exit_].accuracy if seconds <= requirement_s else None,
        )
        for method, (seconds, exit_) in zip(METHODS, found, strict=True)
    )


def static_figures(
    inputs: PlanningInputs, order: Order = "edge-first", requirement_s: float = REQUIREMENT_S
) -> StaticFigures:
    """All three static figures' numbers on the paper's grids; the first at `requirement_s`."""
    return StaticFigures(
        tuple(static_choice(inputs, b, requirement_s, order) for b in BANDWIDTHS_BPS),
        tuple(static_choice(inputs, BANDWIDTH_BPS, r, order) for r in REQUIREMENTS_S),
        tuple(
            point
            for r in REQUIREMENTS_S
            for point in method_points(inputs, BANDWIDTH_BPS, r, order)
        ),
    )


def write_static_figures(figures: StaticFigures, folder: str | Path) -> tuple[Path, ...]:
    """Draw and write the static figures: PNG and CSV of each; returns what was written."""
    folder = Path(folder)
    drawn = (
        ("edgent-bandwidth", figures.by_bandwidth, _draw_bandwidth(figures.by_bandwidth)),
        ("edgent-requirement", figures.by_requirement, _draw_requirement(figures.by_requirement)),
        ("edgent-accuracy", figures.methods, _draw_methods(figures.methods)),
    )
    written: list[Path] = []
    for name, rows, figure in drawn:
        written.append(write_csv(folder / f"{name}.csv", rows))
        written.append(_save(figure, folder / f"{name}.png"))
    return tuple(written)


def throughput_cdf_plot(samples: Mapping[str, Floats], path: str | Path) -> dict[str, float]:
    """Draw the distribution of throughput (frames/s) of each named set of samples.

    Writes `path` (PNG) and a CSV beside it of 101 quantiles each; returns the `QUANTILE` of each.
    Raises `UsageError` for a name without samples or with one that is no throughput.
    """
    if not samples:
        raise UsageError("throughput figure: found no samples, expected at least one controller's")
    levels = np.linspace(0.0, 1.0, 101)
    table: dict[str, Floats] = {}
    for name, values in samples.items():
        if not len(values) or not np.all(np.isfinite(values) & (np.asarray(values) >= 0)):
            raise UsageError(
                f"throughput figure, '{name}': found {len(values)} samples, not all of them "
                "finite and at least 0; expected some, all so"
            )
        table[name] = np.quantile(values, levels)
    figure, (axes,) = _figure(1)
    for name, quantiles in table.items():
        axes.plot(quantiles, levels, label=name)
    axes.axhline(QUANTILE, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="throughput, frames/s", ylabel="share of frames at or below", ylim=(0, 1))
    axes.legend()
    rows = [
        {"quantile": float(level), **{n: float(q[k]) for n, q in table.items()}}
        for k, level in enumerate(levels)
    ]
    _write_rows(Path(path).with_suffix(".csv"), list(rows[0]), rows)
    _save(figure, Path(path))
    return {name: float(np.quantile(values, QUANTILE)) for name, values in samples.items()}


def write_csv(path: str | Path, rows: Sequence[StaticChoice] | Sequence[MethodPoint]) -> Path:
    """Write dataclasses as CSV, atomically: a row each, their fields as columns."""
    names = [field.name for field in fields(rows[0])]
    return _write_rows(Path(path), names, (asdict(row) for row in rows))


def _write_rows(path: Path, names: list[str], rows: Iterable[dict[str, Any]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue())
    return path


def _figure(rows: int) -> tuple[Figure, list[Any]]:
    # the object interface with its own canvas: no pyplot, so no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 1.4 + 2.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, 1, sharex=True))
    for each in axes:
        each.grid(alpha=0.3)
    return figure, list(axes)


def _save(figure: Figure, path: Path) -> Path:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path, "wb") as stream:
        stream.write(picture.getvalue())
    return path


def _draw_bandwidth(rows: Sequence[StaticChoice]) -> Figure:
    x = [row.bandwidth_bps / 1e6 for row in rows]
    figure = _draw_choices(rows, x, f"requirement {1000 * rows[0].requirement_s:g} ms")
    figure.axes[-1].set_xlabel("bandwidth, Mbit/s")
    return figure


def _draw_requirement(rows: Sequence[StaticChoice]) -> Figure:
    x = [1000 * row.requirement_s for row in rows]
    figure = _draw_choices(rows, x, f"bandwidth {BANDWIDTH_BPS / 1e3:g} kbit/s")
    figure.axes[-1].set_xlabel("latency requirement, ms")
    return figure


def _draw_choices(rows: Sequence[StaticChoice], x: Sequence[float], title: str) -> Figure:
    figure, (choice, latency) = _figure(2)
    choice.step(x, [row.exit for row in rows], where="mid", marker="o", label="exit")
    choice.step(x, [row.partition for row in rows], where="mid", marker="s", label="partition p")
    choice.set(ylabel="chosen", title=f"Edgent, {title}")
    parts = ("device_s", "edge_s", "uplink_s", "downlink_s")
    names = ("device", "edge", "uplink", "downlink")
    seconds = [[1000 * getattr(row, part) for row in rows] for part in parts]
    latency.stackplot(x, seconds, labels=names, alpha=0.8)
    latency.plot(x, [1000 * r.requirement_s for r in rows], color="black", label="requirement")
    missed = [(a, 1000 * row.latency_s) for a, row in zip(x, rows, strict=True) if not row.met]
    if missed:
        latency.scatter(*zip(*missed, strict=True), marker="x", color="red", label="missed")
    latency.set(ylabel="predicted latency, ms", ylim=(0, None))
    choice.legend()
    latency.legend(fontsize="small")
    return figure


def _draw_methods(points: Sequence[MethodPoint]) -> Figure:
    figure, (axes,) = _figure(1)
    known = [p.accuracy for p in points if p.accuracy is not None]
    # misses stand in rows of their own below the accuracies: a miss is no accuracy of 0
    floor = (min(known) if known else 1.0) - 0.02
    for k, method in enumerate(METHODS):
        mine = [p for p in points if p.method == method]
        x = [1000 * p.requirement_s for p in mine]
        y = [math.nan if p.accuracy is None else p.accuracy for p in mine]
        (line,) = axes.plot(x, y, marker="o", markersize=4, label=method)
        missed = [a for a, p in zip(x, mine, strict=True) if p.accuracy is None]
        axes.scatter(missed, [floor - 0.008 * k] * len(missed), marker="x", color=line.get_color())
    axes.set(
        xlabel="latency requirement, ms",
        ylabel="accuracy (x: requirement missed)",
        title=f"Edgent, bandwidth {BANDWIDTH_BPS / 1e3:g} kbit/s",
    )
    axes.legend(fontsize="small")
    return figure
