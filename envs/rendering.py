"""The last seconds of a lane, drawn: the link's rate, the plans, latencies against the deadline.

What is drawn is the truth of the simulation, for people; no observation has it.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from controller.plans import Plan
from envs.observed import ObservedLanes
from envs.records import GOOD_QUALITY, StepResult, drawn_words

WINDOW_S = 6.0
WIDTH, HEIGHT, LEFT, RIGHT = 640, 360, 70, 10
PANELS = {"Mbit/s": (24, 124), "plan": (148, 184), "latency": (208, 318)}
"""Of the picture, by title: first and last row."""
INK, PALE, PAPER = (40, 40, 40), (200, 200, 200), (255, 255, 255)
RIGHT_COLOUR, WRONG_COLOUR, LATE_COLOUR = (44, 140, 80), (230, 160, 40), (200, 60, 60)
PLACES = {"device": (86, 130, 190), "edge": (220, 130, 50), "both": (140, 95, 170)}
"""Colours of who computes a plan."""
BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 60


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it is drawn."""

    arrival_s: float
    until_s: float
    rate_bps: float
    plan: Plan
    latency_s: float
    in_time: bool
    quality: float
    """Of the answer, 0 to 1."""

    @property
    def place(self) -> str:
        """Who computes the plan: a key of `PLACES`."""
        if self.plan.is_local:
            return "device"
        return "edge" if self.plan.hops[0].start == 0 else "both"

    @property
    def colour(self) -> tuple[int, int, int]:
        """Of its outcome."""
        if not self.in_time:
            return LATE_COLOUR
        return RIGHT_COLOUR if self.quality >= GOOD_QUALITY else WRONG_COLOUR


class Recorder:
    """Keeps the frames of the last `WINDOW_S` of one lane, by its place among the lanes."""

    def __init__(self, lanes: ObservedLanes, lane: int = 0) -> None:
        self._lanes, self._lane = lanes, lane
        self.deadline_s = lanes.setting.scenario.frames.deadline_s
        self.frames: deque[Frame] = deque()
        self.shown_s = -np.inf
        """Time of the stream when `show` printed last."""

    def begin(self) -> None:
        """A new episode: nothing has been drawn of it."""
        self.frames.clear()
        self.shown_s = -np.inf

    def record(self, result: StepResult) -> None:
        """Keep a frame that has just been stepped."""
        simulator, setting, lane = self._lanes.simulator, self._lanes.setting, self._lane
        arrival, now = result.arrival_s, np.minimum(simulator.now_s, simulator.link.duration_s)
        until = np.maximum(now, arrival + 1e-6)
        passed = simulator.link.bytes_between(arrival, until)
        latency = float(result.outcome.latency_s[lane])
        for before, gone in enumerate(result.taken.frames[::-1, lane].tolist(), 1):
            if gone and before <= len(self.frames):
                self.frames[-before] = replace(
                    self.frames[-before],
                    latency_s=2.0 * self.deadline_s,
                    in_time=False,
                    quality=0.0,
                )
        self.frames.append(
            Frame(
                float(arrival[lane]), float(until[lane]),
                float(8.0 * (passed / (until - arrival))[lane]),
                setting.table.plans[int(self._lanes.plan[lane])],
                latency if np.isfinite(latency) else 2.0 * self.deadline_s,
                bool(result.in_time[lane]), float(result.quality[lane]),
            )
        )  # fmt: skip
        while self.frames[0].arrival_s < self.frames[-1].until_s - WINDOW_S:
            self.frames.popleft()

    @property
    def good_share(self) -> float:
        """Mean quality of the frames kept: of classes the share that is right and in time."""
        return float(np.mean([f.quality for f in self.frames])) if self.frames else 0.0

    @property
    def words(self) -> tuple[str, str, str]:
        """What the frames kept are called: `drawn_words`."""
        return drawn_words(np.array([f.quality for f in self.frames]))


def draw(recorder: Recorder) -> npt.NDArray[np.uint8]:
    """The last seconds as a picture (HEIGHT, WIDTH, 3)."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    for title, (top, bottom) in PANELS.items():
        pen.rectangle((LEFT, top, WIDTH - RIGHT, bottom), outline=PALE)
        pen.text((6, top), title, fill=INK)
    for k, (place, colour) in enumerate(PLACES.items()):
        pen.rectangle((LEFT + 110 * k, 190, LEFT + 110 * k + 10, 200), fill=colour)
        pen.text((LEFT + 110 * k + 14, 189), place, fill=INK)
    if recorder.frames:
        _fill(pen, recorder)
    return np.asarray(image, dtype=np.uint8).copy()


def _fill(pen: ImageDraw.ImageDraw, recorder: Recorder) -> None:
    frames, deadline_s = list(recorder.frames), recorder.deadline_s
    end_s = max(frames[-1].until_s, frames[0].arrival_s + WINDOW_S)

    def x(at_s: float) -> float:
        return LEFT + (WIDTH - RIGHT - LEFT) * (1.0 - (end_s - at_s) / WINDOW_S)

    fastest = max(max(f.rate_bps for f in frames), 1e5)
    longest = 2.0 * deadline_s
    (top, bottom), (begin, close), (high, low) = PANELS.values()
    for f in frames:
        left, right = max(x(f.arrival_s), LEFT), max(x(f.until_s), LEFT)
        y = bottom - (bottom - top - 4) * f.rate_bps / fastest
        pen.line((left, y, right, y), fill=INK, width=2)
        pen.rectangle((left, begin + 1, max(right - 1, left), close - 1), fill=PLACES[f.place])
        y = low - (low - high) * min(f.latency_s / longest, 1.0)
        pen.rectangle((left, y, max(right - 2, left), low), fill=f.colour)
    y = low - (low - high) * deadline_s / longest
    pen.line((LEFT, y, WIDTH - RIGHT, y), fill=LATE_COLOUR)
    pen.text((6, top + 14), f"0 to {fastest / 1e6:.2f}", fill=INK)
    pen.text((6, y - 5), f"{1e3 * deadline_s:.0f} ms", fill=LATE_COLOUR)
    pen.text((LEFT, 4), f"{frames[-1].plan}", fill=INK)
    called = recorder.words[2]
    said = f"{called}: {100 * recorder.good_share:.0f} % of the last {len(frames)} frames"
    pen.text((LEFT, HEIGHT - 30), said, fill=INK)


def show(recorder: Recorder, stream: TextIO | None = None) -> None:
    """The last seconds as lines of text: at the stream's own pace on a terminal.

    Elsewhere (a log) at most once in a second of the stream.
    """
    out = sys.stdout if stream is None else stream
    if not recorder.frames:
        return
    newest = recorder.frames[-1]
    again = np.isfinite(recorder.shown_s)
    if not out.isatty() and newest.until_s - recorder.shown_s < 1.0:
        return
    lines = text(recorder)
    if out.isatty() and again:
        time.sleep(min(newest.until_s - newest.arrival_s, 0.2))
        out.write(f"\x1b[{len(lines)}F\x1b[J")
    out.write("\n".join(lines) + "\n")
    out.flush()
    recorder.shown_s = newest.until_s


def text(recorder: Recorder) -> list[str]:
    """The last seconds as five lines, a column a frame."""
    frames = list(recorder.frames)[-COLUMNS:]
    newest, fastest = frames[-1], max(max(f.rate_bps for f in frames), 1e5)
    longest = 2.0 * recorder.deadline_s

    def bars(shares: list[float]) -> str:
        return "".join(BARS[min(int(len(BARS) * share), len(BARS) - 1)] for share in shares)

    marks = {"device": "d", "edge": "e", "both": "b"}
    outcome = {RIGHT_COLOUR: "+", WRONG_COLOUR: "x", LATE_COLOUR: "-"}
    good, poor, share = recorder.words
    return [
        f"{newest.until_s:8.2f} s  {newest.rate_bps / 1e6:6.2f} Mbit/s  "
        f"{100 * recorder.good_share:3.0f} % {share}  {newest.plan}",
        f"link     {bars([f.rate_bps / fastest for f in frames])}",
        f"plan     {''.join(marks[f.place] for f in frames)}  (device, edge, both)",
        f"latency  {bars([min(f.latency_s / longest, 1.0) for f in frames])}  "
        f"(full: {1e3 * longest:.0f} ms)",
        f"answers  {''.join(outcome[f.colour] for f in frames)}  (+ {good}, x {poor}, - late)",
    ]
