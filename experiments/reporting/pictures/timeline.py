"""One frame's work over time: a row for every resource, a bar for every stage, the deadline.

Durations come from a scenario's plan table at a constant bandwidth and idle resources, so that a
picture says what `coinfer plan` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.scenarios import Setting
from experiments.reporting.pictures.svg import (
    DEVICE,
    EDGE,
    GRID,
    INK,
    LATE,
    LINK,
    LOCAL,
    PALE,
    Drawing,
)

ROWS = ("device", "uplink", "edge", "downlink")
COLOURS = {"device": DEVICE, "uplink": LINK, "edge": EDGE, "downlink": LINK, "local": LOCAL}
LEFT, RIGHT, ROW, TOP = 120.0, 40.0, 26.0, 56.0
NARROW = 60.0
"""Pixels below which a bar's label stands beside it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Work on one resource from `begin_s` to `end_s`; `spare`: it may turn out not to be needed."""

    row: str
    begin_s: float
    end_s: float
    label: str = ""
    spare: bool = False
    local: bool = False
    """It makes an answer of the device's own."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one plan does with one frame, and when its answer is there."""

    heading: str
    stages: tuple[Stage, ...]
    answered_s: float


def plan_row(setting: Setting, plan: str) -> int:
    """Where the plan that prints as `plan` stands in the scenario's table."""
    return [str(p) for p in setting.table.plans].index(plan)


def frame_of(setting: Setting, plan: str, rate_bps: float, heading: str = "") -> Frame:
    """The stages of a plan on idle resources at a constant rate; without what runs meanwhile.

    `plan` is one of `setting` as it is written, `rate_bps` the link's in bit/s; `heading` stands
    above it.
    """
    table, row = setting.table, plan_row(setting, plan)
    prefix_s = float(table.prefix_s[row])
    heading = heading or plan
    first = Stage("device", 0.0, prefix_s, "prefix")
    if table.local[row]:
        return Frame(heading, (Stage("device", 0.0, prefix_s, "whole branch"),), prefix_s)
    flight_s = setting.scenario.link.rtt_s / 2
    sent_s = prefix_s + 8.0 * float(table.up_bytes[row]) / rate_bps
    arrived_s = sent_s + flight_s
    computed_s = arrived_s + float(table.remote_s[row])
    back_s = computed_s + 8.0 * float(table.down_bytes[row]) / rate_bps + flight_s
    stages = (
        first,
        Stage("uplink", prefix_s, sent_s, f"{table.up_bytes[row]:,.0f} bytes"),
        Stage("edge", arrived_s, computed_s, "hop"),
        Stage("downlink", computed_s, back_s, "answer"),
    )
    return Frame(heading, stages, back_s)


def local_jobs(setting: Setting, plan: str, begin_s: float) -> tuple[Stage, ...]:
    """The device's own answers of a plan while its upload is under way, from `begin_s` on."""
    table, row = setting.table, plan_row(setting, plan)
    stages, at = [], begin_s
    for exit_, seconds in zip(table.wait_exit[row], table.wait_s[row], strict=True):
        if exit_ >= 0:
            label = f"exit {exit_ + 1}"
            stages.append(Stage("device", at, at + float(seconds), label, local=True))
            at += float(seconds)
    return tuple(stages)


def timeline(
    title: str, frames: tuple[Frame, ...], until_s: float, deadline_s: float | None = None
) -> Drawing:
    """The frames below one another on one axis of time, 0 to `until_s`.

    `title` is read aloud to those who cannot see; `frames` have their own headings. A line stands
    at `deadline_s` seconds (None: none).
    """
    used = [tuple(r for r in ROWS if any(s.row == r for s in f.stages)) for f in frames]
    heights = [TOP + ROW * len(rows) for rows in used]
    drawing = Drawing(720, sum(heights) + 44, title)
    scale = (drawing.width - LEFT - RIGHT) / until_s
    top = 0.0
    for frame, rows, height in zip(frames, used, heights, strict=True):
        drawing.words(12, top + 24, frame.heading, bold=True)
        for k, name in enumerate(rows):
            _row(drawing, frame, name, top + TOP + ROW * k, scale, until_s)
        x, bottom = LEFT + scale * frame.answered_s, top + TOP + ROW * len(rows)
        drawing.line(x, top + TOP - 6, x, bottom, ink=INK)
        drawing.words(
            x, top + TOP - 10, f"answer {1e3 * frame.answered_s:.0f} ms", size=11, anchor="middle"
        )
        top += height
    _axis(drawing, top, scale, until_s, deadline_s)
    return drawing


def _row(drawing: Drawing, frame: Frame, name: str, y: float, scale: float, until_s: float) -> None:
    drawing.words(12, y + 17, name, size=12, ink=PALE)
    drawing.line(LEFT, y + ROW, LEFT + scale * until_s, y + ROW)
    for stage in frame.stages:
        if stage.row != name:
            continue
        x, width = LEFT + scale * stage.begin_s, scale * (stage.end_s - stage.begin_s)
        colour = COLOURS["local"] if stage.local else COLOURS[name]
        drawing.box(x, y + 4, width, ROW - 8, colour, dashed=stage.spare)
        if width >= NARROW:
            ink = INK if stage.spare else "white"
            drawing.words(x + width / 2, y + 17, stage.label, size=11, ink=ink, anchor="middle")
        else:
            drawing.words(x + width + 4, y + 17, stage.label, size=11)


def _axis(
    drawing: Drawing, y: float, scale: float, until_s: float, deadline_s: float | None
) -> None:
    step_s = 0.02
    for k in range(int(until_s / step_s + 1e-9) + 1):
        x = LEFT + scale * step_s * k
        drawing.line(x, y + 6, x, y + 12, ink=GRID)
        drawing.words(x, y + 28, f"{1e3 * step_s * k:.0f}", size=11, ink=PALE, anchor="middle")
    drawing.words(12, y + 28, "ms from arrival", size=11, ink=PALE)
    if deadline_s is not None:
        x = LEFT + scale * deadline_s
        drawing.line(x, 8, x, y + 12, ink=LATE, dashed=True)
        drawing.words(x - 4, 16, "deadline", size=11, ink=LATE, anchor="end")
