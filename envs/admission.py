"""A device's own rules in the simulated world: `controller.admission`, one a lane.

A deployed device does not run every plan that its controller chooses. This module has simulated
devices decide by the same code: it reports to an `Admission` what a device would have seen of each
frame, at the time at which it would have seen it, and asks it what becomes of the next choice.

Simulated devices have one edge, and frames of the stream's own deadline. How a frame's fate becomes
reports, in the order of time:

| fate | report |
|---|---|
| nothing was sent (a gate was sure, or there was no time) | `unused` when it ends |
| the edge's answer is here in time | `answered` and `relied` then |
| it is late, or the upload was cancelled | `missed` at the deadline, `in_vain` when it is heard |
| not a byte of it came, or it is not heard in time | `missed` at the deadline; `silent` later |
| its upload was not begun by the deadline | `silent` then |
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.admission import SILENCE_MARGIN_S, Admission
from controller.interface import Situation
from controller.physics import FrameOutcome
from controller.plans import suffix_start
from controller.scenarios import Setting

EDGE = 0
"""The only lane of a simulated device's link."""


@dataclass(frozen=True, slots=True)
class FrameFate:
    """What a device comes to know of one frame that was to be sent; absolute seconds.

    `ended_s` is when the frame is over, `heard_s` when the edge's word of it is here (inf: never).
    `handed`: it was given to the link; `begun`: a byte of it went out; `came`: one arrived;
    `complete`: all did by the deadline. `answer`: the edge's word is the answer, and not a tensor
    that the device goes on with.
    """

    arrival_s: float
    ended_s: float
    heard_s: float
    handed: bool
    complete: bool
    begun: bool
    came: bool
    answer: bool


class DeviceRules:
    """One simulated device: its `Admission`, and the reports that are still to come."""

    def __init__(self, admission: Admission, rtt_s: float) -> None:
        self.admission, self._rtt_s = admission, rtt_s
        self._coming: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    def admit(self, chosen: int, situation: Situation) -> tuple[int, bool]:
        """The plan that runs at `situation.now_s`; whether time is kept for its local fallback."""
        now_s, rules = situation.now_s, self.admission
        while self._coming and self._coming[0][0] <= now_s:
            at_s, _, report = heapq.heappop(self._coming)
            report(at_s)
        lanes = (rules.serving((EDGE,), {EDGE: 1}, now_s),)
        plan = rules.admit(chosen, situation, lanes, now_s).plan
        return plan, rules.reserves(rules.table.plans[plan], now_s, situation.device_pace)

    def ran(self, fate: FrameFate) -> None:
        """A frame of a plan that sends ran so: its reports come in time."""
        rules, limit_s = self.admission, fate.arrival_s + self.admission.deadline_s
        if not fate.handed:
            self._at(fate.ended_s, lambda now_s: rules.unused(EDGE))
        elif fate.complete and fate.heard_s <= limit_s:
            self._answered(fate, limit_s)
        elif not fate.begun:
            self._at(limit_s, self._silent)
        else:
            self._at(limit_s, lambda now_s: rules.missed())
            until_s = limit_s + self._rtt_s + SILENCE_MARGIN_S
            if fate.came and fate.heard_s < until_s:
                late_s = rules.deadline_s
                self._at(
                    fate.heard_s, lambda now_s: rules.in_vain(EDGE, now_s, late_s, early=False)
                )
            else:
                self._at(until_s, self._silent)
                if fate.came and fate.heard_s < np.inf:
                    self._at(fate.heard_s, lambda now_s: rules.heard(EDGE))

    def _answered(self, fate: FrameFate, limit_s: float) -> None:
        rules, spent_s = self.admission, fate.heard_s - fate.arrival_s

        def report(now_s: float) -> None:
            if fate.answer:
                rules.relied(now_s, spent_s)
            rules.answered(EDGE)

        self._at(fate.heard_s, report)
        if not fate.answer and fate.ended_s >= limit_s:
            # the device did not get through with what came
            self._at(limit_s, lambda now_s: rules.missed())

    def _silent(self, now_s: float) -> None:
        self.admission.missed()
        self.admission.failed(EDGE, now_s)

    def _at(self, when_s: float, report: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._coming, (when_s, self._count, report))


class AdmittedLanes:
    """The rules of L simulated devices, all as a daemon applies them.

    `seed` and the lane's number give each its breaker's jitter. Lanes are decided one by one: this
    is for judging controllers, not for training them.
    """

    def __init__(self, setting: Setting, lanes: int, seed: int = 0) -> None:
        self._setting, self._seed = setting, seed
        table, frames = setting.table, setting.scenario.frames
        self._deadline_s = frames.deadline_s
        first = len(setting.spec.branches[0])
        self._first_exit_s = setting.device.interval_p95_s(0, 0, first)
        self._local = table.local
        self._answers = np.array(
            [
                suffix_start(setting.spec, plan) == len(setting.spec.branches[plan.exit])
                for plan in table.plans
            ]
        )
        known = {plan: k for k, plan in enumerate(table.plans)}
        self._with_fallback = np.array(
            [known.get(replace(plan, rescue=True), k) for k, plan in enumerate(table.plans)],
            dtype=np.int64,
        )
        """Where each plan stands with a local fallback; itself where it has one, or none exists."""
        self.devices = [self._device(lane) for lane in range(lanes)]
        self.reserved = np.zeros(lanes, dtype=np.bool_)
        """Of the newest frames: whether time is kept for their local fallback."""

    def _device(self, lane: int) -> DeviceRules:
        admission = Admission(
            self._setting.table, self._deadline_s, self._first_exit_s,
            self._setting.timing.rescue_margin_s, self._setting.interval_s,
        )  # fmt: skip
        admission.guard(random.Random(f"{self._seed} {lane}"))
        return DeviceRules(admission, self._setting.link_model.rtt_s)

    def reset(self, lanes: Bools) -> None:
        """New streams begin in the masked lanes: their devices know nothing."""
        for lane in np.flatnonzero(lanes).tolist():
            self.devices[lane] = self._device(lane)

    def admit(
        self,
        chosen: Ints,
        now_s: Floats,
        frame: Ints,
        device_s: Floats,
        uplink_bytes: Floats,
        device_pace: Floats,
    ) -> Ints:
        """The plans that run, (L,), for those `chosen` at `now_s`.

        `device_s` and `uplink_bytes` are the backlogs as the devices know them.

        `chosen` are indices of the table and `frame` the frames' numbers, `now_s` and `device_s`
        are seconds, `uplink_bytes` bytes, `device_pace` is what the devices' newest jobs took over
        their profile; all are (L,).
        """
        plans, rtt_s = np.empty(len(self.devices), dtype=np.int64), self._setting.link_model.rtt_s
        for lane, device in enumerate(self.devices):
            situation = Situation(
                float(now_s[lane]), int(frame[lane]), self._deadline_s, float(device_s[lane]),
                int(uplink_bytes[lane]), rtt_s, float(device_pace[lane]),
            )  # fmt: skip
            plans[lane], self.reserved[lane] = device.admit(int(chosen[lane]), situation)
        return plans

    def with_fallback(self, plan: Ints) -> Ints:
        """The plans as devices run them: those that time is kept for have a local fallback."""
        return np.where(self.reserved, self._with_fallback.take(plan), plan)

    def ran(self, plan: Ints, arrival_s: Floats, outcome: FrameOutcome) -> None:
        """Frames ran by the plans `plan`, and this became of them."""
        limit_s = arrival_s + self._deadline_s
        ended_s = np.minimum(outcome.answered_s, limit_s)
        heard_s, complete = outcome.measured_known_s, outcome.measured_complete
        # of what arrived and was never answered the physics says that it is over at the deadline
        lost = complete & ~outcome.by_plan & (heard_s == limit_s)
        heard_s = np.where(lost, np.inf, heard_s)
        for lane in np.flatnonzero(~self._local.take(plan)).tolist():
            self.devices[lane].ran(
                FrameFate(
                    float(arrival_s[lane]),
                    float(ended_s[lane]),
                    float(heard_s[lane]),
                    bool(np.isfinite(outcome.measured_known_s[lane])),
                    bool(complete[lane]),
                    bool(outcome.bytes_sent[lane] > 0),
                    bool(outcome.measured_bytes[lane] > 0),
                    bool(self._answers[plan[lane]]),
                )
            )
