"""A replay as one picture: the link's rate, every frame's plan, its latency and what came of it.

    python -m experiments.reporting.replay_picture --scenario camera --out replay.svg

replays a test trace between real processes (`experiments.replay`) and draws that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artefacts import atomic_write
from controller.plans import Plan
from controller.scenarios import load_setting, read_scenario
from envs.records import GOOD_QUALITY, drawn_words
from experiments.arguments import LineParser, count
from experiments.evaluation.evaluator import TraceRun
from experiments.replay.choosing import liveliest
from experiments.replay.session import ReplayArgs, run_replay
from experiments.reporting.drawing import new_figure, svg_bytes
from experiments.reporting.plots import LATE, RIGHT, WRONG
from traces.trace import BandwidthTrace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEVICE_COLOURS = ("#d9d9d9", "#bdbdbd", "#969696", "#737373", "#525252")
EDGE_COLOURS = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c")
LONGEST = 1.25
"""Of the deadline: how far the axis of latencies goes. A triangle at its end is beyond it."""
MARKS = (
    (RIGHT, ".", "right, in time"), (WRONG, ".", "wrong, in time"), (LATE, "x", "late"),
    (LATE, "^", "beyond the axis, or never"),
)  # fmt: skip
"""A frame's dot: its colour, its marker, and what the legend says of it where a class answers."""
HEIGHTS = (1.1, 0.22, 1.1)
"""Of the rate, and for every controller of its plans and its latencies."""


@dataclass(frozen=True, slots=True)
class Group:
    """Plans that one colour stands for: those that answer by the same exit at the same place."""

    exit: int
    local: bool

    @classmethod
    def of(cls, plan: Plan) -> Group:
        """The group of a plan."""
        return cls(plan.exit, plan.is_local)

    @property
    def label(self) -> str:
        """As the legend says it."""
        return f"exit {self.exit + 1} {'on the device' if self.local else 'with the edge'}"

    @property
    def colour(self) -> str:
        """Grey for the device, blue with the edge; the darker, the deeper the exit."""
        colours = DEVICE_COLOURS if self.local else EDGE_COLOURS
        return colours[min(self.exit, len(colours) - 1)]


def replay_figure(
    trace: BandwidthTrace,
    runs: Mapping[str, TraceRun],
    plans: Sequence[Plan],
    deadline_s: float,
) -> Figure:
    """The picture of several controllers on one trace.

    `runs` are by controller, their `plan` (N,) an index into `plans`; `deadline_s` in seconds.

    `trace` is the link that all of them had.
    """
    rate, *rest = HEIGHTS
    heights = [rate, *(rest * len(runs))]
    figure = new_figure(9.0, 0.9 + 1.15 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    _draw_rate(rows[0], trace)
    groups: dict[Group, None] = {}
    for (name, run), bands, dots in zip(runs.items(), rows[1::2], rows[2::2], strict=True):
        groups |= dict.fromkeys(_draw_plans(bands, run, plans))
        _draw_latencies(dots, run, deadline_s)
        bands.set_title(_title(name, run), fontsize="small", loc="left")
    rows[-1].set_xlabel("s")
    _legend(figure, rows[-1], sorted(groups, key=lambda g: (not g.local, g.exit)))
    return figure


def _title(name: str, run: TraceRun) -> str:
    frames = max(len(run.plan), 1)
    quality, late = run.quality.sum() / frames, 1.0 - run.in_time.sum() / frames
    return f"{name}: {100 * quality:.1f} % {drawn_words(run.quality)[2]}, {100 * late:.1f} % late"


def _draw_rate(axes: Any, trace: BandwidthTrace) -> None:
    seconds = trace.resample(0.25)
    edges = np.append(seconds.times_s, trace.duration_s)
    axes.stairs(seconds.rates_bps / 1e6, edges, color="black", linewidth=0.9, baseline=None)
    axes.set(ylabel="Mbit/s", ylim=(0, None), xlim=(0, trace.duration_s))
    axes.set_title("bandwidth of the link", fontsize="small", loc="left")


def _draw_plans(axes: Any, run: TraceRun, plans: Sequence[Plan]) -> list[Group]:
    """One band for every stretch of frames whose plans are of one group; the groups drawn."""
    axes.set(yticks=[], ylim=(0, 1))
    axes.set_ylabel("plan", rotation=0, ha="right", va="center", fontsize="small")
    groups = [Group.of(plans[k]) for k in run.plan]
    for first, last in stretches(groups):
        end_s = run.arrival_s[last] if last < len(groups) else run.duration_s
        start_s = run.arrival_s[first]
        axes.axvspan(start_s, end_s, color=groups[first].colour, linewidth=0)
    return groups


def stretches(values: Sequence[object]) -> list[tuple[int, int]]:
    """Half-open stretches [first, last) of equal values that follow each other."""
    found, first = [], 0
    for k in range(1, len(values) + 1):
        if k == len(values) or values[k] != values[first]:
            found.append((first, k))
            first = k
    return found


def _draw_latencies(axes: Any, run: TraceRun, deadline_s: float) -> None:
    longest_s = LONGEST * deadline_s
    late, beyond = ~run.in_time, ~(run.latency_s <= longest_s)
    right = run.quality >= GOOD_QUALITY
    masks = (
        run.in_time & right & ~beyond, run.in_time & ~right & ~beyond, late & ~beyond,
        beyond,
    )  # fmt: skip
    good, poor, _ = drawn_words(run.quality)
    called = (f"{good}, in time", f"{poor}, in time", *(label for *_, label in MARKS[2:]))
    shown_s = np.where(beyond, longest_s, run.latency_s)
    for mask, (colour, marker, _), label in zip(masks, MARKS, called, strict=True):
        axes.plot(run.arrival_s[mask], 1000 * shown_s[mask], marker, color=colour, label=label,
                  markersize=3.5, linestyle="none")  # fmt: skip
    axes.axhline(1000 * deadline_s, color="black", linewidth=0.8, linestyle=":", label="deadline")
    axes.set(ylabel="latency, ms", ylim=(0, 1040 * longest_s))


def _legend(figure: Figure, axes: Any, groups: Sequence[Group]) -> None:
    from matplotlib.patches import Patch

    dots, labels = axes.get_legend_handles_labels()
    patches = [Patch(facecolor=g.colour, label=g.label) for g in groups]
    figure.legend([*patches, *dots], [*(g.label for g in groups), *labels],
                  loc="outside lower center", ncols=4, fontsize="small")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Replay and draw."""
    parser = LineParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenario", default="3g-mobilenet")
    parser.add_argument("--controllers", default="learned")
    parser.add_argument("--seconds", type=count, default=40)
    parser.add_argument("--method", default="auto", help="link: auto, cell, tc or relay")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    setting = load_setting(read_scenario(args.scenario))
    trace = liveliest(setting.traces("test").traces, float(args.seconds))
    runs = {}
    for name in args.controllers.split(","):
        asked = ReplayArgs(args.scenario, name, None, args.method, 1, as_daemon=True)
        runs[name] = run_replay(setting, trace, asked, print).measured
    deadline_s = setting.scenario.frames.deadline_s
    figure = replay_figure(trace, runs, setting.table.plans, deadline_s)
    with atomic_write(args.out, "wb") as stream:
        stream.write(svg_bytes(figure, "replay"))
    print(f"{args.out}: {trace.name}, {args.seconds} s")


if __name__ == "__main__":
    main()
