"""Playing the optimum forward: as a controller, and as a measure of what it really earns.

Each decision looks one frame ahead with the true trace: every plan, every way it may end, at some
compute times, plus the stored value of where that leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.physics import FrameOutcome, Resources, TraceBank, run_frames
from envs.simulator import Simulator
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.known_world import KnownWorld, foreseen
from experiments.evaluation.met_world import MetWorld
from experiments.evaluation.optimum import Optimum, frames_of, refined
from experiments.evaluation.optimum_queue import CoupledQueue
from traces.trace import BandwidthTrace

NODES = 16
"""Equally likely compute times that a decision looks at."""
LANES = 16
"""Streams played side by side to tell what the policy earns."""


@dataclass(frozen=True, slots=True)
class Lookahead:
    """What each plan is worth (L, P), and what may become of it: arrays (L, R, N)."""

    value: Floats
    outcome: FrameOutcome
    resources: Resources


def look_ahead(optimum: Optimum, frame: int, arrival_s: Floats, resources: Resources) -> Lookahead:
    """One frame's plans at the `resources` (L,) of L lanes.

    `optimum` is solved; `frame` is the number of the one that arrives at `arrival_s` (L,), in
    seconds.
    """
    known = optimum.known.take(frame)
    queue = optimum.queue.at_pace(float(known.pace))
    table = queue.table
    factors = queue.spread.equally_likely(NODES)
    shape = (len(arrival_s), len(table), len(factors))
    lane, row, node = (part.ravel() for part in np.indices(shape))
    link = optimum.bank.lanes(np.zeros(len(lane), dtype=np.int64))
    arrival = arrival_s[lane]
    reward, outcome, fresh = queue.run(
        row, arrival, resources.take(lane), link, factors[node], known
    )
    reward = reward - _taken(queue, outcome)
    value = queue.land(link, arrival, reward, fresh).value(optimum.after(frame))
    rows = value.reshape(shape).mean(axis=2)
    mixed = queue.rows.gate_rows.mixed(rows, queue.rows.share)
    # time kept for a fallback that is never computed delays what comes meanwhile
    return Lookahead(np.where(queue.hindering, -np.inf, mixed), outcome, fresh)


def _taken(queue: CoupledQueue, outcome: FrameOutcome) -> Floats:
    """What answers are worth that frames' jobs take from frames before, by their exits' accuracies.

    The optimum itself counts a fallback as the next job, so that none is ever taken.
    """
    exits = queue.rows.means[: queue.rows.exits]
    lost = outcome.lost
    return np.asarray(np.where(lost >= 0, exits.take(np.maximum(lost, 0)), 0.0).sum(axis=0))


def earned(
    optimum: Optimum,
    lanes: int,
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda frame: None,
) -> Floats:
    """Mean reward per frame of the optimum's policy in the whole physics, one value a lane (L,).

    Compute times of device and edge are drawn, overheads' jitter, and which samples gates stop; the
    queues of edge and downlink and TCP's window are as they come. What the optimum knows of a world
    is the same in all lanes; of its pace a device knows what its own jobs tell. A frame counts by
    the mean over the samples, as in the optimum, so that the lanes differ little.

    `optimum` is solved; `rng` draws for so many `lanes`. `progress` is called with the frame.
    """
    queue, setting = optimum.queue, optimum.queue.setting
    table, rows = queue.table, queue.rows
    every = len(table)
    ways = np.broadcast_to(np.arange(every), (lanes, every))
    met = MetWorld(setting, optimum.known, queue.half, lanes, rng)
    link = optimum.bank.lanes(np.zeros(ways.size, dtype=np.int64))
    start = np.full(lanes, optimum.arrival_s[0])
    state = setting.idle(lanes)
    state.free_s[:] = start
    total, lane = np.zeros(lanes), np.arange(lanes)
    for frame, at_s in enumerate(optimum.arrival_s.tolist()):
        plan = look_ahead(optimum, frame, np.full(lanes, at_s), state).value.argmax(axis=1)
        ending = rows.ending(plan, rng.integers(0, rows.samples, lanes))
        noise = rng.standard_normal((len(table.sigmas), lanes))
        factors, beyond = met.draw(frame, at_s, noise, ways)
        # every way each plan may end, for its mean; then the one that the drawn sample takes
        before = state.take(np.repeat(lane, every))
        outcome, fresh = run_frames(
            table, ways.ravel(), np.full(ways.size, at_s), before,
            setting.links(link), setting.link_models, setting.timing,
            *factors, **beyond,
        )  # fmt: skip
        reward = (queue.reward(ways.ravel(), outcome) - _taken(queue, outcome)).reshape(ways.shape)
        total += rows.gate_rows.mixed(reward, rows.share)[lane, plan]
        state = fresh.take(lane * every + ending)
        met.ended(outcome, at_s, lane * every + ending)
        progress(frame + 1)
    return total / optimum.frames


@dataclass(frozen=True, slots=True)
class OptimumRow:
    """The optimum of one trace's stretch, rewards per frame.

    `grid_error` is signed, as a share of the refined grid's; `earned` is what its policy earns in
    the whole physics, give or take `earned_error` (one standard error); None where not asked for.
    """

    trace: str
    frames: int
    bound: float
    optimum: float
    grid_error: float | None
    earned: float
    earned_error: float
    frames_per_s: float


def optimum_row(
    queue: CoupledQueue, trace: BandwidthTrace, frames: int, refine: bool
) -> OptimumRow:
    """The first frames of a trace, at no phase: bound, optimum, its error, and what it earns.

    `queue` is the scenario's, `frames` the most of `trace`; with `refine` a finer grid says the
    error.
    """
    count = frames_of(queue.setting, trace, 0.0, frames)
    optimum = Optimum(queue, trace, 0.0, count, known=_drawn(queue, trace, count))
    began = perf_counter()
    value = optimum.per_frame
    per_second = count / (perf_counter() - began)
    played = earned(optimum, LANES, np.random.default_rng(queue.setting.scenario.seeds.evaluate))
    fine = refined(optimum).per_frame if refine else None
    return OptimumRow(
        trace.name,
        count,
        float(bound_per_frame(queue.setting, trace, optimum.arrival_s, queue.half).mean()),
        value,
        (value - fine) / fine if fine else None,
        float(played.mean()),
        float(played.std(ddof=1) / np.sqrt(LANES)),
        per_second,
    )


def _drawn(queue: CoupledQueue, trace: BandwidthTrace, frames: int) -> KnownWorld:
    """What the first frames of a trace meet, by the scenario's evaluation seed."""
    rng = np.random.default_rng(queue.setting.scenario.seeds.evaluate)
    simulator = Simulator(queue.setting, TraceBank([trace]), 1, queue.half, rng)
    simulator.place(np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.int64), np.zeros(1))
    return foreseen(simulator, frames)[0]


@dataclass(frozen=True, slots=True)
class _Beliefs:
    """What may have become of the last frame: resources and hand-over times (B,), by weight."""

    resources: Resources
    handed_s: Floats
    weight: Floats


class OptimumController:
    """Plays the optimum of its trace; simulation only.

    In a world that is not tidy it knows what its frames will meet, and how the queue stands. Else
    it sees of the queue what every controller sees. When the link is free it works out from what it
    decided: the way the last frame may have gone that explains the device's backlog best. How a
    gated frame ends, and an upload's part in its compute time, it thus guesses: it may earn a
    little less than the optimum says. The stretch's values are worked out at the first frame.
    """

    def __init__(
        self,
        queue: CoupledQueue,
        trace: BandwidthTrace,
        max_frames: int | None = None,
        progress: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.name = "optimum"
        self.initial_probe_bytes = 0
        self.optimum: Optimum | None = None
        self._queue, self._trace, self._most = queue, trace, max_frames
        self._progress = progress
        self._known: KnownWorld | None = None
        self._true: Callable[[], Resources] | None = None
        self.reset()

    def reset(self) -> None:
        """A new stream; values of the same start stay."""
        self._begun = False
        self._beliefs: _Beliefs | None = None

    def foresee(self, known: KnownWorld, resources: Callable[[], Resources]) -> None:
        """What the stream's frames will meet, and the true `resources`: values of others go."""
        self.optimum, self._known, self._true = None, known, resources

    def observe(self, measurement: Measurement) -> None:
        """It knows the trace already."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The plan of greatest value at this moment."""
        now_s = situation.now_s
        optimum = self._solved(now_s)
        frame = round((now_s - float(optimum.arrival_s[0])) / self._queue.interval_s)
        ahead = look_ahead(optimum, frame, np.array([now_s]), self._resources(situation))
        plan = int(ahead.value[0].argmax())
        rows, each = self._queue.rows, len(ahead.outcome.handed_s) // len(self._queue.table)
        mine = np.flatnonzero(np.repeat(rows.gate_rows.owner == plan, each))
        share = np.repeat(rows.share, each)[mine]
        self._beliefs = _Beliefs(ahead.resources.take(mine), ahead.outcome.handed_s[mine], share)
        return plan

    def _solved(self, now_s: float) -> Optimum:
        known = self.optimum
        if known is not None and (self._begun or known.arrival_s[0] == now_s):
            self._begun = True
            return known
        trace = self._trace
        frames = frames_of(self._queue.setting, trace, now_s, self._most)

        def report(done: int, of: int, per_second: float) -> None:
            self._progress(f"{trace.name}: {done:,} of {of:,} frames, {per_second:,.0f} frames/s")

        self.optimum = Optimum(self._queue, trace, now_s, frames, report, self._known)
        self._begun = True
        return self.optimum

    def _resources(self, situation: Situation) -> Resources:
        """The chain as it most likely stands, the device as it is said to."""
        if self._true is not None:
            return self._true()
        now_s, beliefs = situation.now_s, self._beliefs
        device_s = np.array([now_s + situation.device_backlog_s])
        if beliefs is None:
            idle = self._queue.setting.idle(1)
            idle.free_s[:] = now_s
            idle.device_s = device_s
            return idle
        free_s = beliefs.resources.computes_until_s(np.full(len(beliefs.weight), now_s))
        off = np.abs(np.maximum(free_s - now_s, 0.0) - situation.device_backlog_s)
        # an upload that has begun would be seen: bytes handed over and not yet acknowledged
        if situation.uplink_backlog_bytes == 0:
            seen = (beliefs.handed_s <= now_s) & (beliefs.resources.uplink_s > now_s)
            off = off + np.where(seen, self._queue.deadline_s, 0.0)
        likeliest = np.lexsort((-beliefs.weight, off.round(6)))[:1]
        found = beliefs.resources.take(likeliest)
        found.device_s = device_s
        return found
