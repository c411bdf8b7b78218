"""What the device computes of a frame itself: prefix, gates, local answers, fallback and suffix.

Everything here becomes jobs of the device's CPU (`cpu`), whose ends are reported as events. What an
end means for the frame is the engine's. Anytime answers and rescues as in `controller.physics`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from controller.admission import Admission
from controller.device.cpu import CpuDone, CpuJob, DeviceCpu, Reservation
from controller.device.frame import Event, Floats, Frame, Prefix
from controller.physics import PlanTable
from controller.plans import passed_exits
from models.codecs import Encoded, codec_named
from models.facts.cards import Model
from models.facts.profiles import Profile
from models.graphs.executors import Executor, softmax_answer

WAKING_S = 0.001
"""What the engine may take to wake."""


@dataclass
class LocalAnswers:
    """Queues frames' local work. All but what the CPU runs is for the engine's thread.

    `post` takes the events, from any thread. `closed`: frames wait for their plan's answer (the
    closed loop), so that none is prepared meanwhile.
    """

    model: Model
    executor: Executor
    profile: Profile
    table: PlanTable
    cpu: DeviceCpu
    admission: Admission
    clock: Callable[[], float]
    post: Callable[[Event], None]
    closed: bool = False

    def __post_init__(self) -> None:
        """What the table says once and for all."""
        self._mean_prefix_s = self.table.mean_prefix_s

    # -- the plan's own parts --------------------------------------------------------------------

    def has_prefix(self, frame: Frame) -> bool:
        """Whether the device computes anything before it sends."""
        return bool(self.table.prefix_s[frame.plan_index] > 0)

    def start(self, frame: Frame) -> None:
        """Queue the plan's first part, gate by gate; its end is a `prefix` event."""
        plan, row = frame.plan, frame.plan_index
        if not self.closed and self.table.wait_exit[row, 0] >= 0:
            # its local answer is asked for when the prefix has ended, and another frame's job must
            # not slip in between
            seconds, due = float(self.table.wait_s[row, 0]), frame.limit_s
            begin_s = self.clock() + float(self.table.prefix_s[row])
            frame.reservation = Reservation(begin_s, due - seconds, seconds, due)
            self.cpu.reserve(frame.reservation)
        # which way its gates send a frame is not known: it counts as its plan's do on average
        first = float(self.table.early_s[row, 0]) if plan.gates else None
        seconds = float(self._mean_prefix_s[row])
        self._job(frame, "prefix", lambda: self._prefix(frame), seconds, plan.exit, first)

    def _prefix(self, frame: Frame) -> Prefix:
        """Run the first part, keeping the tensor at the last exit's point (on the CPU's thread)."""
        plan, spec = frame.plan, self.model.spec
        if plan.start == 0:
            return Prefix(None, None, self.encode(frame, None))
        x, at, confident = self._ask_gates(frame)
        if x is None or confident is not None:
            return Prefix(None, None, None, confident)
        if plan.is_local:
            length = len(spec.branches[plan.exit])
            return Prefix(None, self.executor.run(plan.exit, at, length, x), None)
        passed = passed_exits(spec, plan)
        point = spec.exits[passed[-1]].after if passed else plan.start
        kept = self.executor.run(plan.exit, at, point, x) if at < point else x
        cut = self.executor.run(plan.exit, point, plan.start, kept) if point < plan.start else kept
        return Prefix(kept, cut, self.encode(frame, cut))

    def _ask_gates(self, frame: Frame) -> tuple[Floats | None, int, int | None]:
        """The tensor at the last gate's point, that point, and the exit that was sure enough.

        No tensor where what remains cannot be done by the deadline. Runs on the CPU's thread; what
        a gate says is reported at once.
        """
        plan, spec, row = frame.plan, self.model.spec, frame.plan_index
        upto = [*self.table.early_s[row, : len(plan.gates)], self.table.prefix_s[row]]
        x, at = self._input(frame), 0
        for number, gate in enumerate(plan.gates):
            after = spec.exits[gate].after
            x = self.executor.run(plan.exit, at, after, x) if at < after else x
            at = after
            logits = self.executor.run(gate, after, len(spec.branches[gate]), x)
            answer = self.answer(gate, logits)
            self.post(Event("gate", frame, answer, gate))
            if answer[1] >= plan.threshold:
                return x, at, gate
            if self.clock() + float(upto[number + 1] - upto[number]) > frame.limit_s:
                return None, at, None
        if plan.gates:
            self.cpu.revise(float(upto[-1] - upto[-2]))
        return x, at, None

    def encode(self, frame: Frame, tensor: Floats | None) -> Encoded:
        """What crosses at the plan's cut: of `tensor`, or of the picture where that is None."""
        plan = frame.plan
        if codec_named(plan.codec).carries == "picture":
            return self.executor.encode(plan.codec, plan.exit, plan.start, frame.picture)
        source = self._input(frame) if tensor is None else tensor
        return self.executor.encode(plan.codec, plan.exit, plan.start, source)

    def go_on(self, frame: Frame, tensor: Floats) -> None:
        """Queue what is left of the plan after the edge's `tensor`; its end is `suffix`."""
        plan = frame.plan
        length = len(self.model.spec.branches[plan.exit])
        seconds = self.profile.interval_s(plan.exit, plan.stop, length)

        def work() -> Floats:
            return self.executor.run(plan.exit, plan.stop, length, tensor)

        self._job(frame, "suffix", work, seconds, plan.exit)

    def answer(self, exit_: int, logits: Floats) -> tuple[int, float]:
        """Label and calibrated confidence; not finite where no network gives such logits."""
        with np.errstate(all="ignore"):  # of what no network gives, nothing is printed
            return softmax_answer(logits, self.model.temperatures[exit_])

    # -- answers beside the plan's ---------------------------------------------------------------

    def answer_meanwhile(self, frame: Frame, kept: Floats | None, tensor: Floats | None) -> bool:
        """What the device does of its own while the edge is awaited.

        `kept` and `tensor` as in `Prefix`. Gives False where nothing more is to come of the frame.
        """
        plan, spec = frame.plan, self.model.spec
        reached = passed_exits(spec, plan)
        passed = reached[-1] if reached else None
        if self.closed:
            if frame.remote_failed:
                self.complete(frame, plan.exit, plan.start, tensor)
        elif passed is not None and passed in plan.gates:
            # it has answered already; what a hedge goes on with is the next
            if frame.remote_failed:
                return False
            if plan.hedge:
                self.complete(frame, passed + 1, plan.start, tensor)
        elif passed is not None:
            start = plan.start if passed == plan.exit else spec.exits[passed].after
            self.complete(frame, passed, start, tensor if passed == plan.exit else kept)
        elif plan.hedge or frame.remote_failed:
            # nothing comes from the edge: the promise is a local answer, rescue or not
            self.complete(frame, 0, plan.start, tensor)
        elif plan.rescue or self.admission.always_rescue:
            self._plan_rescue(frame)
        return True

    def _plan_rescue(self, frame: Frame) -> None:
        """Settle when the first exit has to be computed if the edge has not answered by then."""
        start, first = frame.plan.start, len(self.model.spec.branches[0])
        now, p95_s = self.clock(), self.profile.interval_p95_s(0, start, first)
        frame.rescue_at_s = max(frame.limit_s - p95_s - self.admission.rescue_margin_s, now)
        frame.rescue_s = self.profile.interval_s(0, start, first)
        if self.admission.reserves(frame.plan, now):
            self.keep_time(frame)

    def keep_time(self, frame: Frame) -> None:
        """Have the CPU keep the time that a frame's rescue takes."""
        assert frame.rescue_at_s is not None
        due = frame.limit_s
        frame.reservation = Reservation(
            frame.rescue_at_s, due - frame.rescue_s, frame.rescue_s, due,
            lambda: self.post(Event("call", None, lambda: self.rescue(frame))),
        )  # fmt: skip
        self.cpu.reserve(frame.reservation)

    def rescue(self, frame: Frame) -> None:
        """Have the device answer by its first exit, unless the edge has or that is under way."""
        if frame.over or frame.rescue_at_s is None:
            return
        if frame.reservation is None:
            # no time was kept: the frame whose turn it is goes first, and may end sooner than said
            now, last_s = self.clock(), frame.limit_s - frame.rescue_s - WAKING_S
            busy_s = self.cpu.backlog_s()
            if busy_s > 0 or now > last_s + WAKING_S:
                frame.rescue_at_s = min(now + busy_s, last_s) if now < last_s else None
                return
        frame.rescue_at_s = None
        self.complete(frame, 0, frame.plan.start, frame.x)
        self.release(frame)

    def release(self, frame: Frame) -> None:
        """The CPU need not wait for this frame's rescue any more."""
        if frame.reservation is not None:
            self.cpu.release(frame.reservation)
            frame.reservation = None

    def last_resort(self, frame: Frame) -> None:
        """What was planned can no longer be done in time; perhaps the first exit can."""
        self.release(frame)
        length = len(self.model.spec.branches[0])
        left = frame.limit_s - self.clock()
        begun = frame.local_pending > 0 or frame.local_answer is not None
        if not begun and self.profile.interval_s(0, 0, length) <= left:
            self.complete(frame, 0, 0, self.model.normalise(frame.picture[None]))

    def complete(self, frame: Frame, exit_: int, start: int, tensor: Floats | None) -> None:
        """Complete an exit on the device from the tensor before layer `start` (None: the input).

        Its end is a `local` event, whose result is (point, trunk's tensor there, logits).
        """
        frame.local_begun = True
        frame.local_pending += 1
        spec = self.model.spec
        point = max(spec.exits[exit_].after, start)
        length = len(spec.branches[exit_])

        def work() -> tuple[int, Floats, Floats] | None:
            x = self._input(frame) if tensor is None else tensor
            trunk = self.executor.run(exit_, start, point, x) if start < point else x
            if frame.over:
                return None  # answered meanwhile: the rest would keep others waiting
            return point, trunk, self.executor.run(exit_, point, length, trunk)

        self._job(frame, "local", work, self.profile.interval_s(exit_, start, length), exit_)

    # -- jobs ------------------------------------------------------------------------------------

    def _input(self, frame: Frame) -> Floats:
        """The network's input of a frame that no layer has run on."""
        if frame.x is None:
            frame.x = self.model.normalise(frame.picture[None])
        return frame.x

    def _job(
        self,
        frame: Frame,
        kind: Literal["prefix", "local", "suffix"],
        work: Callable[[], Any],
        expected_s: float,
        exit_: int,
        first_s: float | None = None,
    ) -> None:
        """Queue work of `expected_s`, which is of use if its `first_s` end by the deadline."""

        def done(result: CpuDone) -> None:
            self.post(Event(kind, frame, result, exit_))

        due = frame.limit_s
        latest = due - (expected_s if first_s is None else first_s)
        self.cpu.submit(CpuJob(work, done, expected_s, due, latest, lambda: not frame.over))
