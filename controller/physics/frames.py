"""One frame through the chain of its stages: device, links, other nodes and back.

Vectorised over lanes of any shape: the environment passes (L,), the clairvoyant bound (frames, P).
Every resource is first-come: a job starts when it is ready and the resource is free. With a
deadline, what is in flight at the deadline is cancelled; without one (closed loop) a frame runs to
its end. The device's answer on the way, its hedges and its rescue are device jobs like any other.
Plain numpy and not numba by measurement: see `experiments.benches.environment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.physics.kept import KeptTimes
from controller.physics.links import Link, LinkModel
from controller.physics.resources import Resources
from controller.physics.table import Answers, PlanTable
from controller.physics.trips import Trip, Varied
from controller.sensing.pace import CLEARLY_SLOW

RESCUE_MARGIN_S = 0.005
"""How much sooner than its 95th percentile demands a local fallback is begun."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The scenario's clock. `deadline_s` None: the closed loop.

    `rescue_margin_s`: how much sooner than its 95th percentile demands a rescue is begun.
    """

    deadline_s: float | None
    rescue_margin_s: float = RESCUE_MARGIN_S


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What became of one frame a lane; times are absolute, inf where it never happens.

    `answer_exit` is -1 for no answer in time; `by_plan` tells the plan's own answer from a local
    one. `measured_*` describe the upload as the other end's receive times will tell it.
    `handed_s`: when what crosses is given to the link. The prefix begins at `device_start_s`, has
    asked its last gate at `asked_s`, and takes `device_prefix_s` (0 where it is not begun). What
    crosses is whole at the first node beyond the device at `reached_s`, which begins with it at
    `served_s`.
    """

    answered_s: Floats
    answer_exit: Ints
    by_plan: Bools
    latency_s: Floats
    device_s: Floats
    bytes_sent: Floats
    measured_bytes: Floats
    measured_duration_s: Floats
    measured_known_s: Floats
    measured_complete: Bools
    handed_s: Floats
    asked_s: Floats
    device_start_s: Floats
    device_prefix_s: Floats
    reached_s: Floats
    served_s: Floats
    lost: Ints
    """(K, *lanes): exits of the answers that this frame's jobs have taken from the K frames before
    (the last before at the end; -1: none). They could not wait for the fallbacks of those frames,
    which have no answer then, whatever was said of them."""


def run_frames(
    table: PlanTable,
    plan: Ints,
    arrival_s: Floats,
    resources: Resources,
    link: Link | Sequence[Link],
    model: LinkModel | Sequence[LinkModel],
    timing: Timing,
    *noise: Floats | float,
    overheads_s: Sequence[Floats | float] = (),
    others_s: Floats | float = 0.0,
    weight: Floats | float = 1.0,
    pace: Floats | float = 1.0,
) -> tuple[FrameOutcome, Resources]:
    """Run one frame a lane with plan indices `plan`; gives what happened and the new resources.

    `arrival_s` and `plan` have the lanes' shape. `link` and `model`: of the topology's links in
    their order (one alone where there is one). `noise` multiplies the profiles' medians, a factor
    for each of the topology's nodes in their order (1 where none is given; drawn by the caller).
    `overheads_s`: what each takes beyond its layers and codecs (0), before it begins with them.
    `others_s`: what others have asked of the first node beyond the device before the frame reaches
    it, in seconds of that node. `pace`: what the device knows its computing to take over the
    medians (where that would be late, nothing is begun). `weight` multiplies what crosses an
    uplink: a sample's own bytes over their mean. `table` has the plans' costs in seconds and bytes,
    `resources` says when each resource is free, in seconds of the links' clock, `timing` holds the
    scenario's deadline.
    """
    slower = np.maximum(pace, 1.0)
    limit = np.inf if timing.deadline_s is None else arrival_s + timing.deadline_s
    local = table.local.take(plan)
    factors = (*noise, *(1.0,) * (len(table.sigmas) - len(noise)))
    begin_s = arrival_s + overheads_s[0] if len(overheads_s) else arrival_s
    kept = resources.kept.copy()
    prefix = _Prefix.of(table, plan, begin_s, resources, kept, limit, factors[0], slower)
    offloads = (prefix.done_s < limit) & ~local
    handed = np.where(offloads, prefix.done_s, np.inf)
    varied = Varied(factors, overheads_s, others_s, weight)
    trip = Trip(table, plan, resources, link, model, limit, varied)
    back, up = trip.run(handed)
    jobs = _LocalJobs(prefix.free_s, prefix.answer, kept, offloads, back, limit, factors[0])
    jobs.run(table, plan, arrival_s, timing, slower)
    own_s, suffix_s = jobs.finish(table, plan, back)
    by_plan_s = np.where(local, prefix.done_s, own_s)
    by_plan = (by_plan_s <= limit) & (by_plan_s < np.inf)
    jobs.rely(by_plan)
    # a local answer is given at the deadline: until then the deeper one may still come
    answered = np.where(by_plan, by_plan_s, np.where(jobs.exit >= 0, limit, np.inf))
    outcome = FrameOutcome(
        answered_s=answered,
        answer_exit=np.where(by_plan, table.exit.take(plan), jobs.exit),
        by_plan=by_plan, latency_s=answered - arrival_s,
        device_s=prefix.seconds + jobs.spent_s + suffix_s, bytes_sent=up.sent_bytes,
        measured_bytes=up.payload_bytes, measured_duration_s=up.duration_s,
        measured_known_s=np.where(offloads, trip.known_s(back, up), np.inf),
        measured_complete=up.complete,
        handed_s=handed, asked_s=prefix.start_s + prefix.asked_s,
        device_start_s=prefix.start_s, device_prefix_s=prefix.seconds,
        reached_s=trip.reached_s, served_s=trip.served_s, lost=kept.lost[:-1],
    )  # fmt: skip
    return outcome, trip.after(jobs.free_s, kept)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What the device does before anything crosses.

    It begins at `start_s` and takes `seconds`; it is through at `done_s` (inf where it does not
    end), has asked its gates after `asked_s`, and leaves the exit of the last one asked (`answer`,
    -1 for none). The device is free at `free_s`.
    """

    start_s: Floats
    seconds: Floats
    done_s: Floats
    free_s: Floats
    answer: Ints
    asked_s: Floats

    @classmethod
    def of(
        cls,
        table: PlanTable,
        plan: Ints,
        arrival_s: Floats,
        resources: Resources,
        kept: KeptTimes,
        limit: Floats | float,
        noise: Floats | float,
        slower: Floats | float,
    ) -> _Prefix:
        """Stage by stage, each up to a gate. Nothing is begun before `arrival_s`.

        A stretch whose median, `slower` times as long, would miss the deadline (`limit`) is not
        begun: a frame that waited too long is dropped, one that has asked a gate keeps its answer.
        `table` has the costs of `plan` (L,), `resources` say when the device is free, `noise`
        multiplies seconds; `kept` is changed.
        """
        columns = table.columns
        # a plan without a prefix goes straight to the link, whatever the device is doing
        computes = columns.computes.take(plan)
        queued_s, busy_s = np.maximum(arrival_s, resources.device_s), resources.device_s
        if len(kept):
            expected_s, at_once_s = table.mean_prefix_s.take(plan) * slower, queued_s
            queued_s = kept.begin(computes, queued_s, expected_s, limit)
            # a fallback that went before was computed, whether there is time for this then or not
            busy_s = np.where(queued_s > at_once_s, queued_s, busy_s)
        start = np.where(computes, queued_s, arrival_s)
        early = np.full(start.shape, -1, dtype=np.int64)
        asked, done, at = np.zeros(start.shape), np.zeros(start.shape), start
        runs = np.ones(start.shape, dtype=np.bool_)
        for gate in columns.gates:
            upto = gate.seconds.take(plan)
            stretch = upto - done
            runs &= at + stretch * slower <= limit
            asked = asked + stretch * noise * runs
            at, done = start + asked, upto
            np.putmask(early, gate.exists.take(plan) & runs & (at <= limit), gate.exit.take(plan))
        last = columns.prefix_s.take(plan) - done
        ends = runs & (at + last * slower <= limit)
        seconds = asked + last * noise * ends
        after = start + seconds
        if len(kept):
            kept.ended(seconds > 0, after)
        free = np.where(seconds > 0, after, busy_s)
        return cls(start, seconds, np.where(ends, after, np.inf), free, early, asked)


class _LocalJobs:
    """What the device computes after the first tensor is handed over: own answers, suffix."""

    def __init__(
        self,
        free_s: Floats,
        early: Ints,
        kept: KeptTimes,
        offloads: Bools,
        back: Floats,
        limit: Floats | float,
        noise: Floats | float,
    ) -> None:
        self.free_s: Floats = free_s
        self.exit: Ints = early
        self.spent_s: Floats = np.zeros(free_s.shape)
        self._kept, self._offloads, self._noise = kept, offloads, noise
        # a job may begin only while the reply is not there and the frame is alive
        self._closed = np.minimum(back, limit)
        self._over, self._limit = self._closed, limit

    def run(
        self,
        table: PlanTable,
        plan: Ints,
        arrival_s: Floats,
        timing: Timing,
        slower: Floats | float,
    ) -> None:
        """Those that may answer before the plan does, in their order.

        `table` has the costs of `plan` (L,), whose frames arrived at `arrival_s`; `timing` is the
        scenario's clock, `slower` what its device knows to be slower by.
        """
        self._slower = slower
        suffix = table.columns.suffix_s
        if suffix is not None:
            # a tensor that comes back is no answer yet: what is made meanwhile is still wanted
            self._over = np.where(suffix.take(plan) > 0, self._limit, self._closed)
        possible = self._offloads
        for job in table.columns.waits:
            start = self.free_s
            if len(self._kept):
                wanted = job.exists.take(plan) & possible & (start < self._closed)
                start = self._kept.begin(
                    wanted, start, job.seconds.take(plan) * slower, self._limit
                )
            # each goes on from the tensor that the one before it left
            possible = self._job(job, plan, start, possible)
            if len(self._kept):
                self._kept.ended(possible, self.free_s)
                self.free_s = np.maximum(self.free_s, start)
        rescue = table.columns.rescue
        if timing.deadline_s is None or rescue is None:
            return
        # an idle device's clock stands in the past, and nothing begins before its frame is there
        # of how computing times vary the 95th percentile knows
        held = np.where(np.greater(slower, CLEARLY_SLOW), slower, 1.0)
        needed_s = table.columns.rescue_p95_s.take(plan) * held
        latest = np.maximum(timing.deadline_s - needed_s - timing.rescue_margin_s, 0.0)
        begin_s = np.maximum(self.free_s, arrival_s + latest)
        if not len(self._kept):
            self._job(rescue, plan, begin_s, self._offloads)
            return
        free_s = self.free_s.copy()
        begin_s, before = self._kept.behind(begin_s), self.exit.copy()
        self._job(rescue, plan, begin_s, self._offloads)
        alone = (before < 0) & (self.exit >= 0)
        # the device is not busy before it begins
        self.free_s = free_s
        seconds = rescue.seconds.take(plan)
        last_s = self._limit - seconds * self._slower
        kept = rescue.exists.take(plan) & self._offloads & (begin_s <= last_s)
        cost_s = seconds * self._noise, rescue.pause_s.take(plan) * self._noise
        self._kept.keep(kept, begin_s, last_s, self._closed, *cost_s)
        np.copyto(self._kept.exit[-1], self.exit, where=alone)

    def rely(self, by_plan: Bools) -> None:
        """Who is answered `by_plan` relies on no fallback; whose suffix took its time has none."""
        if len(self._kept):
            exit_, lost = self._kept.exit[-1], self._kept.lost[-1]
            np.putmask(exit_, by_plan, -1)
            np.putmask(lost, by_plan, -1)
            np.putmask(self.exit, lost >= 0, -1)

    def _job(self, job: Answers, plan: Ints, start: Floats, possible: Bools) -> Bools:
        seconds = job.seconds.take(plan)
        # not begun where the median itself would miss the deadline: it could answer nobody
        useful = start + seconds * self._slower <= self._limit
        runs = job.exists.take(plan) & possible & (start < self._closed) & useful
        taken = seconds * self._noise
        pause = job.pause_s.take(plan) * self._noise
        # of a frame that is over by then the device computes no more than that
        given_up = self._over < start + pause
        taken = np.where(given_up, pause, taken)
        end = start + taken
        np.putmask(self.exit, runs & ~given_up & (end <= self._limit), job.exit.take(plan))
        np.putmask(self.free_s, runs, end)
        self.spent_s += taken * runs
        return np.asarray(runs)

    def finish(self, table: PlanTable, plan: Ints, back: Floats) -> tuple[Floats, Floats | float]:
        """The suffix of plans that have one: when the plan's answer is there, and the seconds."""
        suffixes = table.columns.suffix_s
        if suffixes is None:
            return back, 0.0
        suffix = suffixes.take(plan) * self._noise
        ready = start = np.maximum(back, self.free_s)
        if len(self._kept):
            wanted = (suffix > 0) & (start < self._limit)
            start = self._kept.begin(wanted, start, suffixes.take(plan), self._limit)
        end = start + suffix
        runs = (suffix > 0) & (start < self._limit)
        np.putmask(self.free_s, runs, end)
        np.putmask(self.free_s, ~runs & (start > ready), start)
        if len(self._kept):
            self._kept.ended(runs, end)
        return np.where(suffix > 0, end, back), suffix * runs
