"""One frame through the chain device CPU -> uplink -> edge CPU -> downlink -> device CPU.

Vectorised over lanes of any shape: the environment passes (L,), the clairvoyant bound (frames, P).
Every resource is first-come: a job starts when it is ready and the resource is free. With a
deadline, what is in flight at the deadline is cancelled; without one (closed loop) a frame runs to
its end. The device's answer on the way, its hedges and its rescue are device jobs like any other.
Plain numpy and not numba by measurement: see `experiments.benches.environment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.physics.links import Floats, Ints, Link, LinkModel
from controller.physics.table import Answers, PlanTable

Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Resources:
    """When each first-come resource is free again (absolute seconds, one per lane)."""

    device_s: Floats
    uplink_s: Floats
    edge_s: Floats
    downlink_s: Floats
    window_bytes: Floats

    @classmethod
    def idle(cls, shape: tuple[int, ...] | int, window_bytes: float = np.inf) -> Resources:
        """All resources free since ever."""
        zero = np.zeros(shape)
        return cls(zero, zero.copy(), zero.copy(), zero.copy(), np.full(shape, window_bytes))


@dataclass(frozen=True, slots=True)
class Timing:
    """The scenario's clock: `deadline_s` None is the closed loop; `rescue_margin_s` see DESIGN."""

    deadline_s: float | None
    rescue_margin_s: float = 0.005


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What became of one frame a lane; times are absolute, inf where it never happens.

    `answer_exit` is -1 for no answer in time; `by_plan` tells the plan's own answer from a local
    one. `measured_*` describe the upload as the edge's receive times will tell it. `handed_s`: when
    what crosses is given to the link. The first part on the device begins at `device_start_s`, has
    asked its last gate at `asked_s`, and takes `device_prefix_s` (0 where it is not begun).
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


def run_frames(
    table: PlanTable,
    plan: Ints,
    arrival_s: Floats,
    resources: Resources,
    link: Link,
    model: LinkModel,
    timing: Timing,
    device_noise: Floats | float = 1.0,
    edge_noise: Floats | float = 1.0,
) -> tuple[FrameOutcome, Resources]:
    """Run one frame a lane with plan indices `plan`; gives what happened and the new resources.

    `device_noise` and `edge_noise` multiply the profile's medians (drawn by the caller).
    """
    limit = np.inf if timing.deadline_s is None else arrival_s + timing.deadline_s
    columns = table.columns
    local = table.local.take(plan)
    # a plan without a device part goes straight to the link, whatever the device is doing
    queued_s = np.maximum(arrival_s, resources.device_s)
    start = np.where(columns.computes.take(plan), queued_s, arrival_s)
    head, ends, early, asked = _head(table, plan, start, limit, device_noise)
    after = start + head
    done = np.where(ends, after, np.inf)
    device_free = np.where(head > 0, after, resources.device_s)

    offloads = (done < limit) & ~local
    handed = np.where(offloads, done, np.inf)
    up = _upload(table, plan, handed, resources, link, model, limit)
    edge_end, down_end = _at_edge(table, plan, up, resources, link, model, edge_noise)
    back = down_end + model.rtt_s / 2

    jobs = _LocalJobs(device_free, early, offloads, back, limit, device_noise)
    jobs.run(table, plan, arrival_s, timing)
    by_edge, suffix_s = jobs.finish(table, plan, back)
    by_plan_s = np.where(local, done, by_edge)
    by_plan = (by_plan_s <= limit) & (by_plan_s < np.inf)
    # a local answer is given at the deadline: until then the deeper one may still come
    answered = np.where(by_plan, by_plan_s, np.where(jobs.exit >= 0, limit, np.inf))

    fresh = Resources(
        device_s=jobs.free_s,
        uplink_s=up.free_s,
        edge_s=np.where(up.complete, edge_end, resources.edge_s),
        downlink_s=np.where(
            up.complete, np.where(down_end < np.inf, down_end, limit), resources.downlink_s
        ),
        window_bytes=up.window_bytes,
    )
    # what was never begun the device knows of itself; of the rest the edge's word must come back
    known = np.where(back < np.inf, back, limit + model.rtt_s * up.cancelled)
    outcome = FrameOutcome(
        answered_s=answered,
        answer_exit=np.where(by_plan, table.exit.take(plan), jobs.exit),
        by_plan=by_plan,
        latency_s=answered - arrival_s,
        device_s=head + jobs.spent_s + suffix_s,
        bytes_sent=up.sent_bytes,
        measured_bytes=up.payload_bytes,
        measured_duration_s=up.duration_s,
        measured_known_s=np.where(offloads, known, np.inf),
        measured_complete=up.complete,
        handed_s=handed,
        asked_s=start + asked,
        device_start_s=start,
        device_prefix_s=head,
    )
    return outcome, fresh


def _head(
    table: PlanTable,
    plan: Ints,
    start: Floats,
    limit: Floats | float,
    noise: Floats | float,
) -> tuple[Floats, Bools, Ints, Floats]:
    """The device's first part: its seconds, whether it ended, its answer, and its gates' seconds.

    A gated plan's goes from gate to gate. A stretch whose median would miss the deadline is not
    begun: a frame that waited too long is dropped, one that has asked a gate keeps its answer.
    """
    early = np.full(start.shape, -1, dtype=np.int64)
    asked, done, at = np.zeros(start.shape), np.zeros(start.shape), start
    runs = np.ones(start.shape, dtype=np.bool_)
    for gate in table.columns.gates:
        upto = gate.seconds.take(plan)
        stretch = upto - done
        runs &= at + stretch <= limit
        asked = asked + stretch * noise * runs
        at, done = start + asked, upto
        np.putmask(early, gate.exists.take(plan) & runs & (at <= limit), gate.exit.take(plan))
    last = table.prefix_s.take(plan) - done
    ends = runs & (at + last <= limit)
    return asked + last * noise * ends, ends, early, asked


@dataclass(frozen=True, slots=True)
class _Upload:
    end_s: Floats
    free_s: Floats
    sent_bytes: Floats
    payload_bytes: Floats
    duration_s: Floats
    window_bytes: Floats
    complete: Bools
    cancelled: Bools


def _upload(
    table: PlanTable,
    plan: Ints,
    handed: Floats,
    resources: Resources,
    link: Link,
    model: LinkModel,
    limit: Floats | float,
) -> _Upload:
    """What is not sent by the deadline is cancelled, but the send buffer is still owed."""
    wire = model.on_wire(table.up_bytes).take(plan)
    ready = np.maximum(handed, resources.uplink_s)
    window = resources.window_bytes
    idle = ready > resources.uplink_s + model.idle_reset_s
    window = np.where(idle, np.minimum(window, model.initial_window_bytes), window)
    end = model.transfer_end(link, ready, wire, window)
    begun, complete = ready < limit, end < limit
    cancelled = begun & ~complete & np.isfinite(limit)
    free = np.where(begun, end, resources.uplink_s)
    sent = wire * begun
    payload = table.up_bytes.take(plan) * complete
    duration = np.subtract(end, ready, out=np.zeros(end.shape), where=complete)
    window = np.where(begun, model.window_after(window, wire), resources.window_bytes)
    lanes = np.flatnonzero(cancelled)
    if len(lanes):
        stop, begin, whole = np.asarray(limit).take(lanes), ready.take(lanes), wire.take(lanes)
        own = link.some(lanes)
        passed = np.minimum(own.bytes_between(begin, stop), whole)
        owed = np.minimum(whole - passed, model.send_buffer_bytes)
        free.put(lanes, own.transfer_end(stop, owed))
        sent.put(lanes, passed + owed)
        payload.put(lanes, passed * table.up_bytes.take(plan.take(lanes)) / np.maximum(whole, 1.0))
        duration.put(lanes, stop - begin)
    return _Upload(end, free, sent, payload, duration, window, complete, cancelled)


def _at_edge(
    table: PlanTable,
    plan: Ints,
    up: _Upload,
    resources: Resources,
    link: Link,
    model: LinkModel,
    noise: Floats | float,
) -> tuple[Floats, Floats]:
    """When the edge has computed what came up, and when all it sends has come down."""
    reached = np.where(up.complete, up.end_s + model.rtt_s / 2, np.inf)
    edge_end = np.maximum(reached, resources.edge_s) + table.edge_s.take(plan) * noise
    down_start = np.maximum(edge_end, resources.downlink_s)
    return edge_end, link.transfer_end(down_start, model.on_wire(table.down_bytes).take(plan))


class _LocalJobs:
    """The device's own work while the edge is awaited and after: anytime head, hedges, rescue."""

    def __init__(
        self,
        free_s: Floats,
        early: Ints,
        offloads: Bools,
        back: Floats,
        limit: Floats | float,
        noise: Floats | float,
    ) -> None:
        self.free_s: Floats = free_s
        self.exit: Ints = early
        self.spent_s: Floats = np.zeros(free_s.shape)
        self._offloads, self._noise = offloads, noise
        # a job may begin only while the edge's answer is not there and the frame is alive
        self._closed = np.minimum(back, limit)
        self._limit = limit

    def run(self, table: PlanTable, plan: Ints, arrival_s: Floats, timing: Timing) -> None:
        """Those that may answer before the edge does, in their order."""
        possible = self._offloads
        for job in table.columns.waits:
            # each goes on from the tensor that the one before it left
            possible = self._job(job, plan, self.free_s, possible)
        rescue = table.columns.rescue
        if timing.deadline_s is None or rescue is None:
            return
        # an idle device's clock stands in the past, and nothing begins before its frame is there
        latest = timing.deadline_s - table.columns.rescue_p95_s - timing.rescue_margin_s
        latest = np.maximum(latest, 0.0).take(plan)
        self._job(rescue, plan, np.maximum(self.free_s, arrival_s + latest), self._offloads)

    def _job(self, job: Answers, plan: Ints, start: Floats, possible: Bools) -> Bools:
        seconds = job.seconds.take(plan)
        # not begun where the median itself would miss the deadline: it could answer nobody
        useful = start + seconds <= self._limit
        runs = job.exists.take(plan) & possible & (start < self._closed) & useful
        taken = seconds * self._noise
        end = start + taken
        np.putmask(self.exit, runs & (end <= self._limit), job.exit.take(plan))
        np.putmask(self.free_s, runs, end)
        self.spent_s += taken * runs
        return np.asarray(runs)

    def finish(self, table: PlanTable, plan: Ints, back: Floats) -> tuple[Floats, Floats | float]:
        """Edge-first plans' last part: when the edge's answer is the user's, and the seconds."""
        if not table.columns.has_suffixes:
            return back, 0.0
        tail = table.suffix_s.take(plan) * self._noise
        start = np.maximum(back, self.free_s)
        end = start + tail
        runs = (tail > 0) & (start < self._limit)
        np.putmask(self.free_s, runs, end)
        return np.where(tail > 0, end, back), tail * runs
