"""The clairvoyant optimum of a frame stream over its coupled queue, by dynamic programming.

It knows the whole trace, but neither which samples will be right nor the frames' compute times, and
plays the plan of greatest expected reward from every state of the queue to the stretch's end. The
per-frame bound (`experiments.evaluation.evaluator`) is above it, every controller below.

What couples one frame with the next, at its arrival: seconds until the device is free, and when the
uplink is. The second is kept as seconds up to the previous frame's deadline and beyond it as bytes
still owed, because an upload either ends before its deadline or leaves at most the send buffer: so
the state is bounded, an outage of any length changes nothing while nothing passes, and a frame's
transitions depend on the rates between its arrival and its deadline alone. Frames that see one rate
until then share them, and so do all states whose upload waits for the device rather than the link.

In a scenario's `[world]` it also knows, for every frame, how slow device and edge are, what others
have asked of the edge, and the picture's bytes (`experiments.evaluation.known_world`): the very
draw that controllers run in. Overheads count by their means, spreads by their distributions.

Left out: the queues of edge and downlink (idle at every arrival, but for what others ask), TCP's
window (open), the spread of edge times (median, or the measured spread's mean), time kept for
fallbacks (each is the device's next job), how long a device takes to notice its pace, and what a
scene tells of its next frame's gates. The true optimum lies between this one, but for the grid's
error, and what the same policy earns in the whole physics
(`experiments.evaluation.optimum_play.earned`). Both are printed by `coinfer bench optimum
--scenario lte-mobilenet --frames 600 --refine`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from time import perf_counter

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.physics import TraceBank
from controller.scenarios import Setting
from experiments.evaluation.known_world import KnownWorld
from experiments.evaluation.optimum_grid import Step
from experiments.evaluation.optimum_queue import CoupledQueue
from traces.trace import BandwidthTrace

Progress = Callable[[int, int, float], None]
"""Hears of the frames done, of how many, and of frames per second."""

CHUNK = 256
"""Frames whose transitions are held in memory at a time."""
KEPT = 8
"""Chunks whose values are kept from the first pass: 15 MB for a camera scenario's log."""


class Optimum:
    """The optimum of `frames` frames of one trace from `start_s` on, all resources idle there.

    Memory holds the values at the chunks' ends and those of the first `KEPT` chunks; once `after`
    is asked for a later one, it is worked out again and takes their place.
    """

    def __init__(
        self,
        queue: CoupledQueue,
        trace: BandwidthTrace,
        start_s: float,
        frames: int,
        progress: Progress = lambda done, of, per_second: None,
        known: KnownWorld | None = None,
    ) -> None:
        """`known` is what the frames meet; None where nothing beyond means is known."""
        self.queue, self.trace, self.bank = queue, trace, TraceBank([trace])
        self.arrival_s: Floats = start_s + np.arange(frames, dtype=np.float64) * queue.interval_s
        self.known = (KnownWorld.calm(1) if known is None else known).take(np.arange(frames))
        self._progress = progress
        self._kept: dict[int, Floats] = {}

    @property
    def frames(self) -> int:
        """Frames of the stretch."""
        return len(self.arrival_s)

    @property
    def expected(self) -> float:
        """Expected sum of the rewards of all frames."""
        return float(self._ends[0][0, 0])

    @property
    def per_frame(self) -> float:
        """Expected reward of a frame."""
        return self.expected / max(self.frames, 1)

    def after(self, frame: int) -> Floats:
        """Value (D, U) of the states at the arrival of the frame after `frame`."""
        following = frame + 1
        if following >= self.frames:
            return np.zeros(self.queue.shape)
        chunk = following // CHUNK
        ends = self._ends
        if chunk not in self._kept:
            self._kept = {chunk: np.stack(self._solve(chunk, ends[chunk + 1]))}
        return np.asarray(self._kept[chunk][following - chunk * CHUNK])

    @cached_property
    def _ends(self) -> list[Floats]:
        """Values at the first frame of every chunk, and beyond the last frame."""
        count = -(-self.frames // CHUNK)
        ends = [np.zeros(self.queue.shape)] * (count + 1)
        began, done = perf_counter(), 0
        for chunk in reversed(range(count)):
            values = self._solve(chunk, ends[chunk + 1])
            ends[chunk] = values[0]
            if chunk < KEPT:
                self._kept[chunk] = np.stack(values)
            done += min(CHUNK, self.frames - chunk * CHUNK)
            self._progress(done, self.frames, done / max(perf_counter() - began, 1e-9))
        return ends

    def _solve(self, chunk: int, value: Floats) -> list[Floats]:
        """Values of a chunk's frames, first to last, from that of the frame behind it."""
        frames = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, self.frames))
        arrival_s, known = self.arrival_s[frames], self.known.take(frames)
        alike = np.column_stack([self._alike(arrival_s), known.columns])
        _, first, which = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        steps: dict[int, tuple[CoupledQueue, Step]] = {}
        for pace in np.unique(known.pace[first]).tolist():
            queue, same = self.queue.at_pace(pace), np.flatnonzero(known.pace[first] == pace)
            some = first[same]
            made = queue.steps(self.bank, arrival_s[some], known.take(some))
            steps.update(zip(same.tolist(), ((queue, step) for step in made), strict=True))
        values = []
        for k in reversed(which.ravel().tolist()):
            queue, step = steps[k]
            value = queue.before(step, value)
            values.append(value)
        return values[::-1]

    def _alike(self, arrival_s: Floats) -> Ints:
        """For each frame the first one that sees the same single rate until its deadline."""
        edges, rates = self.trace.times_s, self.trace.rates_bps
        level = np.concatenate([[0], np.cumsum(np.diff(rates) != 0)])
        until_s = arrival_s + self.queue.deadline_s
        begin = np.searchsorted(edges, arrival_s, side="right") - 1
        end = np.searchsorted(edges, until_s, side="right") - 1
        steady = (level[begin] == level[end]) & (until_s <= self.trace.duration_s)
        found = np.arange(len(arrival_s))
        _, first, which = np.unique(rates[begin[steady]], return_index=True, return_inverse=True)
        found[steady] = np.flatnonzero(steady)[first][which]
        return found


def frames_of(setting: Setting, trace: BandwidthTrace, start_s: float, most: int | None) -> int:
    """Frames that the evaluator runs on a trace from `start_s` on, `most` at most.

    `setting` says how many frames come a second and when one ends; `trace` how long there is a
    link.
    """
    room_s = trace.duration_s - setting.scenario.frames.deadline_s - start_s
    fit = max(int(np.floor(room_s / setting.interval_s + 1e-9)), 0) + 1
    return fit if most is None else min(fit, most)


def refined(optimum: Optimum) -> Optimum:
    """The same stretch on a grid of half the steps: what it differs by is the grid's error."""
    queue = optimum.queue
    finer = CoupledQueue(queue.setting, queue.half, queue.grid.refined())
    start_s = float(optimum.arrival_s[0])
    return Optimum(finer, optimum.trace, start_s, optimum.frames, known=optimum.known)
