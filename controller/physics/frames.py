"""One frame through the chain device CPU -> uplink -> edge CPU -> downlink -> device CPU.

Vectorised over lanes of any shape: the environment passes (L,), the clairvoyant bound (frames, P).
Every resource is first-come: a job starts when it is ready and the resource is free. With a
deadline, what is in flight at the deadline is cancelled; without one (closed loop) a frame runs to
its end. The device's answer on the way, its hedges and its rescue are device jobs like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.physics.links import Floats, Ints, Link, LinkModel
from controller.physics.table import PlanTable

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
    asked its last gate at `asked_s`, and takes `device_head_s` (0 where it is not begun).
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
    device_head_s: Floats
    parts_s: dict[str, Floats]


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
    local = table.local[plan]
    # a plan without a device part goes straight to the link, whatever the device is doing
    computes = table.head_s[plan] > 0
    start = np.where(computes, np.maximum(arrival_s, resources.device_s), arrival_s)
    begun, runs, head, early, asked = _head(table, plan, start, limit, device_noise)
    handed = np.where(runs, start + head, np.inf)

    # uplink: what is not sent by the deadline is cancelled, but the send buffer is still owed
    offloads = runs & ~local & (handed < limit)
    up = _upload(table.up_bytes[plan], handed, offloads, resources, link, model, limit)
    reached = np.where(up.end_s < limit, up.end_s + model.rtt_s / 2, np.inf)
    edge_start = np.maximum(reached, resources.edge_s)
    edge_end = edge_start + table.edge_s[plan] * edge_noise
    down_start = np.maximum(edge_end, resources.downlink_s)
    down_bytes = model.on_wire(np.where(np.isfinite(down_start), table.down_bytes[plan], 0.0))
    down_end = link.transfer_end(down_start, down_bytes)
    back = down_end + model.rtt_s / 2

    device_at = np.where(computes & runs, handed, resources.device_s)
    jobs = _LocalJobs(table, plan, device_at, offloads, back, limit, device_noise, early)
    jobs.run(arrival_s, timing, table)
    tail = table.tail_s[plan] * device_noise
    has_tail = tail > 0
    tail_start = np.maximum(back, jobs.free_s)
    tail_runs = offloads & has_tail & (tail_start < limit)
    by_edge = np.where(has_tail, tail_start + tail, back)
    by_plan_s = np.where(local, handed, np.where(offloads, by_edge, np.inf))
    in_time = by_plan_s <= limit
    by_plan = in_time & np.isfinite(by_plan_s)
    answer_exit = np.where(by_plan, table.exit[plan], jobs.exit)
    # a local answer is given at the deadline: until then the deeper one may still come
    answered = np.where(by_plan, by_plan_s, np.where(jobs.exit >= 0, limit, np.inf))

    device_free = np.where(computes & begun, start + head, resources.device_s)
    device_free = np.maximum(device_free, np.where(offloads, jobs.free_s, 0.0))
    device_free = np.where(tail_runs, tail_start + tail, device_free)
    device_used = np.where(begun, head, 0.0) + jobs.spent_s + np.where(tail_runs, tail, 0.0)
    finished = np.isfinite(edge_end)
    fresh = Resources(
        device_s=device_free,
        uplink_s=np.where(offloads, up.free_s, resources.uplink_s),
        edge_s=np.where(finished, edge_end, resources.edge_s),
        downlink_s=np.where(
            finished, np.where(np.isfinite(down_end), down_end, limit), resources.downlink_s
        ),
        window_bytes=up.window_bytes,
    )
    complete = offloads & (up.end_s < limit)
    known = np.where(
        complete & np.isfinite(back), back, np.where(np.isfinite(limit), limit, np.inf)
    )
    # what was never begun the device knows of itself; of the rest the edge's word must come back
    sent = up.sent_bytes > 0
    known = known + np.where(sent & ~complete, model.rtt_s, 0.0)
    outcome = FrameOutcome(
        answered_s=answered,
        answer_exit=answer_exit,
        by_plan=by_plan,
        latency_s=answered - arrival_s,
        device_s=device_used,
        bytes_sent=up.sent_bytes,
        measured_bytes=np.where(complete, table.up_bytes[plan], up.payload_bytes),
        measured_duration_s=np.where(offloads, up.duration_s, 0.0),
        measured_known_s=np.where(offloads, known, np.inf),
        measured_complete=complete,
        handed_s=np.where(offloads, handed, np.inf),
        asked_s=start + asked,
        device_start_s=start,
        device_head_s=np.where(begun, head, 0.0),
        parts_s={
            "queue": start - arrival_s,
            "device": head + np.where(by_plan, tail, 0.0),
            "uplink": _between(handed, up.end_s),
            "edge": _between(reached, edge_end),
            "downlink": _between(edge_end, down_end),
        },
    )
    return outcome, fresh


def _head(
    table: PlanTable,
    plan: Ints,
    start: Floats,
    limit: Floats | float,
    noise: Floats | float,
) -> tuple[Bools, Bools, Floats, Ints, Floats]:
    """The device's first part: begun, ended, its seconds, its answer, and its gates' seconds.

    A gated plan's goes from gate to gate. A stretch whose median would miss the deadline is not
    begun: a frame that waited too long is dropped, one that has asked a gate keeps its answer.
    """
    early = np.full(start.shape, -1, dtype=np.int64)
    spent, asked = np.zeros(start.shape), np.zeros(start.shape)
    runs, first = np.ones(start.shape, dtype=np.bool_), table.head_s[plan]
    for g in range(table.early_exit.shape[1]):
        exit_, upto = table.early_exit[plan, g], table.early_s[plan, g]
        here = exit_ >= 0
        stretch = upto - asked
        first = np.where(here, upto, first) if g == 0 else first
        runs = runs & ~(here & (start + spent + stretch > limit))
        spent = np.where(here & runs, spent + stretch * noise, spent)
        asked = np.where(here, upto, asked)
        early = np.where(here & runs & (start + spent <= limit), exit_, early)
    last = table.head_s[plan] - asked
    ends = runs & (start + spent + last <= limit)
    begun = start + first <= limit
    return begun, ends, np.where(ends, spent + last * noise, spent), early, spent


def _between(begin: Floats, end: Floats) -> Floats:
    """End - begin where both happened, else inf."""
    happened = np.isfinite(begin) & np.isfinite(end)
    return np.where(happened, np.where(happened, end, 0.0) - np.where(happened, begin, 0.0), np.inf)


@dataclass(frozen=True, slots=True)
class _Upload:
    end_s: Floats
    free_s: Floats
    sent_bytes: Floats
    payload_bytes: Floats
    duration_s: Floats
    window_bytes: Floats


def _upload(
    payload: Floats,
    handed: Floats,
    offloads: Bools,
    resources: Resources,
    link: Link,
    model: LinkModel,
    limit: Floats | float,
) -> _Upload:
    wire = np.where(offloads, model.on_wire(payload), 0.0)
    ready = np.where(offloads, np.maximum(handed, resources.uplink_s), np.inf)
    idle = ready > resources.uplink_s + model.idle_reset_s
    cold = np.minimum(resources.window_bytes, model.initial_window_bytes)
    window = np.where(idle, cold, resources.window_bytes)
    end = model.transfer_end(link, ready, wire, window)
    end = np.where(offloads, end, np.inf)
    begun = offloads & (ready < limit)
    cancelled = begun & ~(end < limit) & np.isfinite(limit)
    free, sent = end, np.where(begun, wire, 0.0)
    if np.any(cancelled):
        stop = np.where(cancelled, limit, 0.0)
        begin = np.where(cancelled, ready, 0.0)
        passed = np.minimum(link.bytes_between(np.minimum(begin, stop), stop), wire)
        owed = np.minimum(wire - passed, model.send_buffer_bytes)
        free = np.where(cancelled, link.transfer_end(stop, owed), end)
        sent = np.where(cancelled, passed + owed, sent)
        received = np.maximum(passed * payload / np.maximum(wire, 1.0), 0.0)
    else:
        received = np.zeros_like(wire)
    waited = np.where(offloads & ~begun, resources.uplink_s, free)
    duration = np.where(cancelled, limit - np.where(begun, ready, 0.0), _between(ready, end))
    return _Upload(
        end_s=end,
        free_s=waited,
        sent_bytes=sent,
        payload_bytes=np.where(cancelled, received, 0.0),
        duration_s=np.where(begun, np.nan_to_num(duration, posinf=0.0), 0.0),
        window_bytes=np.where(begun, model.window_after(window, wire), resources.window_bytes),
    )


class _LocalJobs:
    """The device's own answers while the edge is awaited: anytime head, hedges, rescue."""

    def __init__(
        self,
        table: PlanTable,
        plan: Ints,
        free_s: Floats,
        offloads: Bools,
        back: Floats,
        limit: Floats | float,
        noise: Floats | float,
        early: Ints,
    ) -> None:
        self.free_s: Floats = np.where(offloads, free_s, 0.0)
        self.exit: Ints = early
        self.spent_s: Floats = np.zeros(free_s.shape)
        self._plan, self._offloads, self._noise = plan, offloads, noise
        # a job may begin only while the edge's answer is not there and the frame is alive
        self._closed = np.minimum(back, limit)
        self._limit = limit

    def run(self, arrival_s: Floats, timing: Timing, table: PlanTable) -> None:
        wait_s = table.wait_s[self._plan]
        wait_exit = table.wait_exit[self._plan]
        # each goes on from the tensor that the one before it left
        reached = np.ones(wait_s.shape[:-1], dtype=np.bool_)
        for k in range(wait_s.shape[-1]):
            exists = reached & (wait_exit[..., k] >= 0)
            reached = self._job(exists, self.free_s, wait_s[..., k], wait_exit[..., k])
        if timing.deadline_s is None:
            return
        rescue = table.rescue_s[self._plan]
        exists = np.isfinite(rescue)
        seconds = np.where(exists, rescue, 0.0)
        keep = np.where(exists, table.rescue_p95_s[self._plan], 0.0)
        # an idle device's clock stands in the past, and nothing begins before its frame is there
        latest = arrival_s + np.maximum(timing.deadline_s - keep - timing.rescue_margin_s, 0.0)
        self._job(exists, np.maximum(self.free_s, latest), seconds, np.zeros_like(self._plan))

    def _job(self, exists: Bools, start: Floats, seconds: Floats, exit_: Ints) -> Bools:
        taken = seconds * self._noise
        # not begun where the median itself would miss the deadline: it could answer nobody
        useful = start + seconds <= self._limit
        runs = exists & self._offloads & (start < self._closed) & useful
        end = np.where(runs, start + taken, self.free_s)
        answers = runs & (end <= self._limit)
        self.exit = np.where(answers, exit_, self.exit)
        self.spent_s = self.spent_s + np.where(runs, taken, 0.0)
        self.free_s = np.where(runs, end, self.free_s)
        return np.asarray(runs)
