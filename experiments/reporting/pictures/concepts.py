"""The pictures of the concept pages, each from a shipped scenario's own figures.

`PICTURES` names them by file. Nothing is typed in that a scenario, a policy or a network knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy
from controller.scenarios import Setting, load_setting, priced_copy, read_scenario
from experiments.reporting.pictures.svg import DEVICE, EDGE, GRID, INK, LINK, PALE, Drawing
from experiments.reporting.pictures.timeline import (
    Frame,
    Stage,
    frame_of,
    local_jobs,
    plan_row,
    timeline,
)
from models.codecs import codec_named
from models.graphs.coding import crossing_bytes

CAMERA = "lte-mobilenet"
WHOLE_TO_EDGE = "exit 5, edge [0, 24), jpeg75"
CUT_IN_THE_MIDDLE = "exit 5, edge [5, 24), int4c"
GATED = "exit 5, edge [7, 24), int4c+zstd unless 0.9 sure at exit 2"
FAST_BPS, SLOW_BPS = 1.5e6, 0.3e6
BAR = 22.0


def _setting(name: str = CAMERA) -> Setting:
    return load_setting(read_scenario(name))


def _deadline_s(setting: Setting) -> float:
    return setting.scenario.frames.deadline_s


def plan() -> Drawing:
    """Three plans of the camera scenario at one bandwidth."""
    setting = _setting()
    frames = tuple(
        frame_of(setting, name, FAST_BPS)
        for name in ("exit 1 on the device", CUT_IN_THE_MIDDLE, WHOLE_TO_EDGE)
    )
    title = "Three plans for one frame, stage by stage, at 1.5 Mbit/s"
    return timeline(title, frames, 0.11, _deadline_s(setting))


def exits() -> Drawing:
    """What every exit costs the device, and how often it is right."""
    setting = _setting()
    spec, count = setting.spec, len(setting.spec.exits)
    drawing = Drawing(720, 60 + 34 * count, "Accuracy and device time of the five exits")
    drawing.words(90, 26, "ms on the device alone", ink=PALE)
    drawing.words(560, 26, "right", ink=PALE)
    slowest = max(setting.device.interval_s(k, 0, len(b)) for k, b in enumerate(spec.branches))
    for k, branch in enumerate(spec.branches):
        y, seconds = 44 + 34.0 * k, setting.device.interval_s(k, 0, len(branch))
        drawing.words(12, y + 16, f"exit {k + 1}", bold=True)
        drawing.box(90, y, 380 * seconds / slowest, BAR, DEVICE)
        drawing.words(98 + 380 * seconds / slowest, y + 16, f"{1e3 * seconds:.1f} ms", size=12)
        right = setting.outcomes.accuracy(k, half="report")
        drawing.words(560, y + 16, f"{100 * right:.1f} %", size=12)
    return drawing


def cut() -> Drawing:
    """What would cross at every cut of the deepest exit, as 4-bit numbers, beside the picture."""
    setting = _setting()
    shapes = setting.spec.shapes[-1]
    last = setting.spec.exits[-1].after
    sizes = [math.prod(shapes[k]) / 2.0 for k in range(1, last + 1)]
    picture = setting.outcomes.mean_bytes(len(setting.spec.exits) - 1, "jpeg75", 0)
    drawing = Drawing(720, 250, "Bytes at every cut of the deepest exit, in 4 bits a value")
    drawing.words(12, 24, "bytes that would cross at each cut, 4 bits a value", ink=PALE)
    top, step = max(sizes), 660.0 / len(sizes)
    for k, size in enumerate(sizes):
        height = 160 * size / top
        drawing.box(40 + step * k, 210 - height, step - 4, height, LINK)
        drawing.words(38 + step * (k + 0.5), 226, str(k + 1), size=10, ink=PALE, anchor="middle")
    level = 210 - 160 * picture / top
    drawing.line(40, level, 700, level, ink=DEVICE, dashed=True)
    said = f"dashed: the picture as JPEG of quality 75, {picture:,.0f} bytes"
    drawing.words(700, 24, said, size=12, ink=DEVICE, anchor="end")
    drawing.words(40, 244, "layers before the cut", size=11, ink=PALE)
    return drawing


def hop() -> Drawing:
    """Prefix, hop and suffix of one branch."""
    drawing = Drawing(720, 150, "A branch of layers: the prefix, one hop, the suffix")
    parts = (
        ("prefix", "device: layers [0, a)", DEVICE, 12.0),
        ("hop", "edge: layers [a, b)", EDGE, 266.0),
        ("suffix", "device: layers [b, N)", DEVICE, 520.0),
    )
    for name, where, colour, x in parts:
        drawing.box(x, 48, 184, 46, colour)
        drawing.words(x + 92, 77, name, ink="white", anchor="middle", bold=True)
        drawing.words(x + 92, 116, where, size=12, anchor="middle")
    for x, said in ((196.0, "up, by codec"), (450.0, "down, float32")):
        drawing.arrow(x + 4, 71, x + 66, 71)
        drawing.words(x + 35, 38, said, size=11, ink=PALE, anchor="middle")
    return drawing


def codec() -> Drawing:
    """Bytes of what crosses, by codec, at the picture and at the cut behind layer 5."""
    setting = _setting()
    deepest = len(setting.spec.exits) - 1
    rows = [("the picture", name, 0) for name in ("uint8", "jpeg75", "jpeg35", "webp20")]
    rows += [("after layer 5", name, 5) for name in ("float32", "int8c", "int4c", "int4c+zstd")]
    sizes = [_bytes(setting, deepest, name, at) for _, name, at in rows]
    drawing = Drawing(720, 50 + 30 * len(rows), "Bytes on the wire by codec (logarithmic)")
    drawing.words(200, 24, "bytes on the wire, logarithmic", ink=PALE)
    drawing.words(620, 24, "exit 5 right", ink=PALE)
    for k, ((place, name, at), size) in enumerate(zip(rows, sizes, strict=True)):
        y, width = 36 + 30.0 * k, 90.0 * math.log10(size / 200.0)
        drawing.words(12, y + 16, place, size=12, ink=PALE)
        drawing.words(110, y + 16, name, size=12, bold=True)
        drawing.box(200, y, width, BAR, LINK)
        drawing.words(206 + width, y + 16, f"{size:,.0f}", size=12)
        right = setting.outcomes.accuracy(deepest, codec_named(name).answers_as, at, half="report")
        drawing.words(620, y + 16, f"{100 * right:.1f} %", size=12)
    return drawing


def _bytes(setting: Setting, exit_: int, name: str, cut_: int) -> float:
    """What a codec's tensor weighs: by its shape, or the mean that was recorded."""
    size = crossing_bytes(codec_named(name), setting.spec, exit_, cut_)
    return setting.outcomes.mean_bytes(exit_, name, cut_) if size is None else float(size)


def gate() -> Drawing:
    """A gated plan where its gate is sure, and where it is not."""
    setting = _setting("3g-mobilenet")
    row = plan_row(setting, GATED)
    asked_s = float(setting.table.early_s[row, 0])
    sure = Frame(
        "at least 0.9 sure at exit 2: answered at once",
        (Stage("device", 0.0, asked_s, "up to exit 2, asked"),),
        asked_s,
    )
    unsure = frame_of(setting, GATED, FAST_BPS, "not sure: the plan goes on")
    title = "A gate: a sure exit ends the frame, an unsure one lets the plan go on"
    return timeline(title, (sure, unsure), 0.16, _deadline_s(setting))


def hedge() -> Drawing:
    """A hedged plan on a link too slow for it."""
    setting = load_setting(priced_copy(read_scenario(CAMERA)))
    name, deadline_s = WHOLE_TO_EDGE + ", hedged", _deadline_s(setting)
    late = _cancelled(setting, name, deadline_s)
    jobs = tuple(job for job in local_jobs(setting, name, late[0].end_s) if job.end_s <= deadline_s)
    frame = Frame(f"{name}, at 0.3 Mbit/s", (*late, *jobs), deadline_s)
    return timeline("A hedge: own exits while the upload is under way", (frame,), 0.11, deadline_s)


def local_fallback() -> Drawing:
    """A frame whose edge is late, answered by the local fallback, and one in time."""
    setting = _setting()
    deadline_s = _deadline_s(setting)
    margin_s = setting.timing.rescue_margin_s
    takes_s = float(setting.table.rescue_s[plan_row(setting, WHOLE_TO_EDGE)])
    begin_s = (
        deadline_s - margin_s - float(setting.table.rescue_p95_s[plan_row(setting, WHOLE_TO_EDGE)])
    )
    kept = Stage("device", begin_s, begin_s + takes_s, "time kept free", spare=True)
    used = Stage("device", begin_s, begin_s + takes_s, "exit 1", local=True)
    in_time = frame_of(setting, WHOLE_TO_EDGE, 1.1e6, "1.1 Mbit/s: the edge is in time")
    late = Frame(
        "0.3 Mbit/s: the upload is cancelled, the device answers",
        (*_cancelled(setting, WHOLE_TO_EDGE, deadline_s), used),
        deadline_s,
    )
    frames = (Frame(in_time.heading, (*in_time.stages, kept), in_time.answered_s), late)
    return timeline("The local fallback", frames, 0.11, deadline_s)


def _cancelled(setting: Setting, name: str, deadline_s: float) -> tuple[Stage, Stage]:
    """Prefix and upload of a plan that `SLOW_BPS` does not carry in time."""
    prefix, upload, *_ = frame_of(setting, name, SLOW_BPS).stages
    return prefix, Stage("uplink", upload.begin_s, deadline_s, "upload, cancelled")


def belief() -> Drawing:
    """What the shipped policy believes some time after 1 Mbit/s was measured."""
    setting = _setting()
    known = load_policy(SHIPPED_POLICIES / CAMERA, setting).belief
    edges = np.concatenate([[known.rates_bps[0] / 2], known.edges_bps, [known.rates_bps[-1] * 1.2]])
    logs = np.log10(np.maximum(edges, 1e4))
    drawing = Drawing(720, 330, "The belief 0.1, 1 and 8 seconds after 1 Mbit/s was measured")
    for k, age_s in enumerate((0.1, 1.0, 8.0)):
        base = 100.0 + 95.0 * k
        found = known.of(1e6, age_s)
        drawing.words(12, base - 30, f"after {age_s:g} s", bold=True)
        for level, share in enumerate(found.tolist()):
            left, right = (120 + 570 * (logs[level + j] - 4.0) / 3.0 for j in (0, 1))
            height = min(75.0, 260 * share)
            drawing.box(left, base - height, right - left - 1, height, LINK)
        drawing.line(120, base, 690, base)
    for power in (4, 5, 6, 7):
        x = 120 + 570 * (power - 4.0) / 3.0
        drawing.line(x, 20, x, 296, ink=GRID, dashed=True)
        said = f"{10.0 ** (power - 6):g} Mbit/s"
        drawing.words(x, 314, said, size=11, ink=INK, anchor="middle")
    return drawing


PICTURES: dict[str, Callable[[], Drawing]] = {
    "plan": plan,
    "exit": exits,
    "cut": cut,
    "hop": hop,
    "codec": codec,
    "gate": gate,
    "hedge": hedge,
    "local-fallback": local_fallback,
    "belief": belief,
}
