"""What the device computes of a frame itself: prefix, gates, local answers, fallback and suffix.

A plan's stages (`controller.physics.stages`) become jobs of the device's CPU (`cpu`), whose ends
are reported as events. What an end means for the frame is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from artefacts.arrays import Float32s
from controller.admission import Admission
from controller.device.cpu import ENOUGH, CpuDone, CpuJob, DeviceCpu, Reservation
from controller.device.frame import Event, Frame, Prefix
from controller.physics import PlanStages, PlanTable, plan_stages
from controller.physics.costs import compute_s
from controller.physics.stages import Stage, last_resort
from controller.plans import Plan, passed_exits
from controller.sensing.pace import CLEARLY_SLOW
from models.codecs import Encoded, codec_named
from models.executors import Executor
from models.facts.answers import ExitAnswer
from models.facts.cards import Model
from models.facts.made_up import made_up_input
from models.facts.profiles import Profile

WAKING_S = 0.001
"""What the engine may take to wake."""
LEARNING_S = 10.0
"""What a made-up sample may take."""


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
        spec, topology = self.model.spec, self.table.topology
        self._mean_prefix_s = self.table.mean_prefix_s
        self._stages = [
            plan_stages(spec, plan, topology, anytime=not self.closed) for plan in self.table.plans
        ]
        self._last_resort = last_resort(spec, topology)

    def stages(self, frame: Frame) -> PlanStages:
        """What the frame's plan makes each machine do."""
        return self._stages[frame.plan_index]

    # -- the plan's own parts --------------------------------------------------------------------

    def has_prefix(self, frame: Frame) -> bool:
        """Whether the device computes anything before it sends."""
        return bool(self.table.prefix_s[frame.plan_index] > 0)

    def start(self, frame: Frame) -> None:
        """Queue the plan's first part, gate by gate; its end is a `prefix` event."""
        plan, row = frame.plan, frame.plan_index
        # its local answer is asked for when the prefix has ended, and another frame's job must not
        # slip in between
        if not self.closed and self.table.wait_exit[row, 0] >= 0:
            seconds, due = float(self.table.wait_s[row, 0]), frame.limit_s
            begin_s = self.clock() + float(self.table.prefix_s[row])
            frame.reservation = Reservation(begin_s, due - seconds, seconds, due)
            self.cpu.reserve(frame.reservation)
        elif not plan.is_local and self._rescues(plan):
            self._see_to_rescue(frame)
        # which way its gates send a frame is not known: it counts as its plan's do on average
        first = float(self.table.early_s[row, 0]) if plan.gates else None
        seconds = float(self._mean_prefix_s[row])
        self._job(frame, "prefix", lambda: self._prefix(frame), seconds, plan.exit, first)

    def _prefix(self, frame: Frame) -> Prefix:
        """Run the first part stage by stage, a gate at the end of each but the last.

        Runs on the CPU's thread; what a gate says is reported at once.
        """
        plan, row = frame.plan, frame.plan_index
        frame.passes("begun", self.clock())
        stages = self.stages(frame)
        *asking, last = stages.prefix
        upto = [*self.table.early_s[row, : len(asking)], self.table.prefix_s[row]]
        for number, stage in enumerate(asking):
            gate = plan.gates[number]
            logits = self._run(frame, stage)
            if logits is None:
                return Prefix()
            answer = self.answer(gate, logits)
            self.post(Event("gate", frame, answer, gate))
            if answer.confidence >= plan.threshold:
                return Prefix(confident=gate)
            further_s = self.cpu.pace * float(upto[number + 1] - upto[number])
            if self.clock() + further_s > frame.limit_s:
                return Prefix()
        if asking:
            self.cpu.revise(float(upto[-1] - upto[-2]))
        if plan.is_local:
            return Prefix(logits=self._run(frame, last))
        self._run(frame, last)
        if frame.over:
            return Prefix()
        encoded = self.encode(frame)
        beside = () if stages.fallback is None else (stages.fallback,)
        begins = {stage.layers[0].start for stage in (*stages.meanwhile, *beside)}
        frame.tensors = {at: x for at, x in frame.tensors.items() if at in begins}
        return Prefix(encoded=encoded)

    def encode(self, frame: Frame) -> Encoded:
        """What crosses at the plan's cut: of the tensor there, or of the raw sample."""
        hop = frame.plan.hops[0]
        frame.passes("encoding", self.clock())
        source = frame.sample if codec_named(hop.codec).raw else self._tensor(frame, hop.start)
        return self.executor.encode(hop.codec, frame.plan.exit, hop.start, source)

    def go_on(self, frame: Frame, tensor: Float32s) -> None:
        """Queue what is left of the plan after the edge's `tensor`; its end is `suffix`."""
        suffix = self.stages(frame).suffix
        assert suffix is not None  # no tensor comes back for another plan
        (piece,) = suffix.layers

        def work() -> Float32s:
            return self.executor.run(piece.branch, piece.start, piece.stop, tensor)

        seconds = compute_s(self.profile, suffix.work)
        self._job(frame, "suffix", work, seconds, frame.plan.exit)

    def answer(self, exit_: int, logits: Float32s) -> ExitAnswer:
        """What an exit says; its confidence is not finite where no network gives such logits."""
        with np.errstate(all="ignore"):  # of what no network gives, nothing is printed
            return self.model.answer(exit_, logits)

    # -- answers beside the plan's ---------------------------------------------------------------

    def answer_meanwhile(self, frame: Frame) -> bool:
        """What the device does of its own while the edge is awaited.

        Gives False where nothing more is to come of the frame.
        """
        plan, stages = frame.plan, self.stages(frame)
        passed = passed_exits(self.model.spec, plan)
        if frame.remote_failed and passed and passed[-1] in plan.gates:
            return False  # the deepest exit there is has answered already
        if stages.meanwhile:
            self.complete(frame, stages.meanwhile[0])
        elif frame.remote_failed:
            # nothing comes from the edge: the promise is a local answer, rescue or not
            self.fall_back(frame)
        elif self._rescues(plan):
            frame.rescue_at_s = self._see_to_rescue(frame)
        return True

    def _rescues(self, plan: Plan) -> bool:
        """Whether a frame of this plan gets a local answer while its edge is awaited."""
        return not self.closed and (plan.rescue or self.admission.always_rescue)

    def go_deeper(self, frame: Frame, exit_: int) -> None:
        """Behind the own answer of an exit the next one that a hedge has, if it can be begun."""
        deeper = next((s for s in self.stages(frame).meanwhile if (s.answers or 0) > exit_), None)
        if deeper is not None and deeper.layers[0].start in frame.tensors:
            self.complete(frame, deeper)

    def fall_back(self, frame: Frame) -> None:
        """Have the device answer by itself: no one else will."""
        fallback = self.stages(frame).fallback
        self.complete(frame, self._last_resort if fallback is None else fallback)

    def _see_to_rescue(self, frame: Frame) -> float | None:
        """When the fallback has to be computed if the edge has not answered by then; None: never.

        Its time is kept where the rules want it.
        """
        fallback, now, pace = self.stages(frame).fallback, self.clock(), self.cpu.newest_pace
        if fallback is None:
            return None
        frame.rescue_s = compute_s(self.profile, fallback.work)
        p95_s = frame.rescue_s * self.profile.spread * (pace if pace > CLEARLY_SLOW else 1.0)
        at_s = max(frame.limit_s - p95_s - self.admission.rescue_margin_s, now)
        if self.admission.reserves(frame.plan, now, pace):
            self.keep_time(frame, at_s)
        return at_s

    def keep_time(self, frame: Frame, at_s: float) -> None:
        """Have the CPU keep the time that a frame's rescue takes, from `at_s` on, in seconds."""
        due, frame.reserved = frame.limit_s, True
        before, frame.reservation = frame.reservation, Reservation(
            at_s, due - frame.rescue_s, frame.rescue_s, due,
            lambda: self.post(Event("call", None, lambda: self.rescue(frame))),
        )  # fmt: skip
        self.cpu.reserve(frame.reservation, before)

    def rescue(self, frame: Frame) -> None:
        """Have the device answer by its fallback, unless the edge has or that is under way."""
        if frame.over or frame.rescue_at_s is None:
            return
        if frame.reservation is None:
            # no time was kept: the frame whose turn it is goes first, and may end sooner than said
            now = self.clock()
            last_s = frame.limit_s - self.cpu.pace * frame.rescue_s - WAKING_S
            busy_s = self.cpu.backlog_s()
            if busy_s > 0 or now > last_s + WAKING_S:
                frame.rescue_at_s = min(now + busy_s, last_s) if now < last_s else None
                return
        frame.rescue_at_s = None
        self.fall_back(frame)
        self.release(frame)

    def release(self, frame: Frame) -> None:
        """The CPU need not wait for this frame's rescue any more."""
        if frame.reservation is not None:
            self.cpu.release(frame.reservation)
            frame.reservation = None

    def last_resort(self, frame: Frame) -> None:
        """What was planned can no longer be done in time; perhaps the first exit can."""
        self.release(frame)
        left = frame.limit_s - self.clock()
        begun = frame.local_pending > 0 or frame.local_answer is not None
        if not begun and self.cpu.pace * compute_s(self.profile, self._last_resort.work) <= left:
            self.complete(frame, self._last_resort)

    def complete(self, frame: Frame, stage: Stage) -> None:
        """Queue an own answer of the device; its end is a `local` event with the logits."""
        assert stage.answers is not None
        frame.local_begun = True
        frame.local_pending += 1
        seconds = compute_s(self.profile, stage.work)
        self._job(frame, "local", lambda: self._run(frame, stage), seconds, stage.answers)

    # -- jobs ------------------------------------------------------------------------------------

    def learn_pace(self) -> None:
        """Queue the last resort of made-up samples, so that the CPU's pace is known from them."""
        stage, seconds = self._last_resort, compute_s(self.profile, self._last_resort.work)
        given = made_up_input(self.model.preprocessing, self.model.spec.input_shape)

        def work() -> Float32s:
            x = given
            for piece in stage.layers:
                x = self.executor.run(piece.branch, piece.start, piece.stop, x)
            return x

        due_s = self.clock() + ENOUGH * LEARNING_S
        for _ in range(ENOUGH):
            self.cpu.submit(CpuJob(work, lambda done: None, seconds, due_s, due_s, lambda: True))

    def _run(self, frame: Frame, stage: Stage) -> Float32s | None:
        """Run a stage's layers, and keep what later ones may begin with; gives the last tensor.

        None where the frame has been answered meanwhile: the rest would keep others waiting. Runs
        on the CPU's thread.
        """
        found: Float32s | None = None
        for number, piece in enumerate(stage.layers):
            if number and frame.over:
                return None
            x = self._tensor(frame, piece.start)
            found = self.executor.run(piece.branch, piece.start, piece.stop, x)
            # beyond its point a branch has tensors of its own
            if piece.branch == frame.plan.exit or piece.stop <= self._after(piece.branch):
                frame.tensors[piece.stop] = found
        return found

    def _after(self, exit_: int) -> int:
        return self.model.spec.exits[exit_].after

    def _tensor(self, frame: Frame, at: int) -> Float32s:
        """The tensor before a layer of the frame's branch: the network's input, or one kept.

        The input is made where it is first needed, on the CPU's own time: a camera's picture takes
        a millisecond to scale, a raw sample that is sent needs none.
        """
        if at == 0 and 0 not in frame.tensors:
            frame.tensors[0] = self.model.normalise(frame.sample[None])
        return frame.tensors[at]

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
        steady = first_s is None
        self.cpu.submit(CpuJob(work, done, expected_s, due, latest, lambda: not frame.over, steady))
