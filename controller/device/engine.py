"""The device's event loop: every frame gets a plan, is run for real, and gets one answer at most.

The engine decides each frame's plan (`Controller`, then `Admission`), has the CPU and the edge work
on it (`local_answers`, `edge_answers`), and settles which answer it ends with. One thread runs it;
whatever happens elsewhere reaches it as an `Event`. Imports nothing that a Pi does not need (no
torch, gymnasium, pandas, matplotlib).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace

from artefacts import CoinferError
from controller.admission import Admission, Admitted
from controller.device.cpu import CpuDone, DeviceCpu
from controller.device.edge_answers import EdgeAnswers
from controller.device.event_loop import EventLoop
from controller.device.frame import EngineArgs, Event, ExitAnswer, Frame, FrameRecord, Prefix, Raw
from controller.device.link_monitor import LinkMonitor, ProbeSettings
from controller.device.link_watch import LinkWatch
from controller.device.local_answers import LocalAnswers
from controller.interface import Controller, Measurement, Overruled, Situation
from controller.link.interface import Link, Reply
from controller.physics import PlanTable
from models.executors import Executor
from models.facts.cards import Model
from models.facts.profiles import Profile


@dataclass
class FrameEngine:
    """Runs frames through a controller's plans. All but `on_reply` and `post` is for one thread.

    It does as its controller says, until `guard` has it treat frames as a daemon does.
    """

    model: Model
    executor: InitVar[Executor]
    profile: Profile
    table: PlanTable
    controller: Controller
    link: Link
    args: EngineArgs
    clock: Callable[[], float] = time.monotonic
    on_record: Callable[[FrameRecord], None] = lambda record: None
    on_begun: Callable[[Frame], str | None] = lambda frame: None
    """Hears of every frame whose plan is decided; gives its traceparent where it is traced."""

    def __post_init__(self, executor: Executor) -> None:
        """Threads report here."""
        self._loop: EventLoop[Event] = EventLoop(
            self.clock, self._handle, self._due, self._next_moment_s
        )
        self._cpu = DeviceCpu(self.clock)
        args, first = self.args, len(self.model.spec.branches[0])
        self.admission = Admission(
            self.table, args.deadline_s, self.profile.interval_p95_s(0, 0, first),
            args.rescue_margin_s, args.interval_s, args.always_rescue,
            greetings=dict(self.link.greetings),
        )  # fmt: skip
        self.local = LocalAnswers(
            self.model, executor, self.profile, self.table, self._cpu, self.admission, self.clock,
            self._loop.post, args.closed,
        )  # fmt: skip
        self.edge = EdgeAnswers(self.link, self.model, self.admission, args.deadline_s, args.closed)
        self.watch = LinkWatch(self.link, self.model.digest)
        self.live: dict[int, Frame] = {}
        self.begin_s, self.end_s = self.clock(), float("inf")

    def on_reply(self, reply: Reply) -> None:
        """The link's callback (its own thread)."""
        self._loop.post(Event("reply", None, reply))

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made on the engine's thread, as soon as it waits."""
        self._loop.post(Event("call", None, call))

    @property
    def longest_s(self) -> float:
        """What the longest piece of work on this device should take."""
        branches = self.model.spec.branches
        return max(self.profile.interval_p95_s(k, 0, len(b)) for k, b in enumerate(branches))

    def beat(self, call: Callable[[], None]) -> None:
        """Have `call` made on the thread that computes, as soon as it is free."""
        self._cpu.beat(call)

    def guard(self, probes: ProbeSettings, rng: random.Random) -> None:
        """Treat frames and link as a daemon does: every frame has a local answer, the link its
        breaker and its probes, and decisions go by the round trip that was measured.
        """
        self.args = replace(self.args, always_rescue=True, measured_rtt=True)
        self.admission.guard(rng)
        self.watch.monitor = LinkMonitor(probes)

    def begin(self, at_s: float, end_s: float = float("inf")) -> None:
        """A new stream: times are counted from `at_s`; a closed loop is cut off at `end_s`."""
        self.controller.reset()
        self.begin_s, self.end_s = at_s, end_s

    def close(self) -> None:
        """End the CPU's thread, once what is queued is done."""
        self._cpu.close()

    # -- time ------------------------------------------------------------------------------------

    @property
    def rtt_s(self) -> float:
        """The round trip that decisions and patience go by."""
        known = self.link.rtt_s if self.args.measured_rtt else None
        return self.args.rtt_s if known is None else known

    def _next_moment_s(self, latest_s: float) -> float:
        moments = [self.edge.next_moment_s(latest_s), latest_s]
        for frame in self.live.values():
            moments.append(frame.limit_s)
            if frame.rescue_at_s is not None:
                moments.append(frame.rescue_at_s)
        return min(moments)

    def wait(self, until_s: float, frame: Frame | None = None) -> None:
        """Handle events, rescues and deadlines until `until_s`, or until `frame` is over."""
        self._loop.wait(until_s, lambda: frame is not None and frame.over)

    def _due(self) -> None:
        now = self.clock()
        for frame in list(self.live.values()):
            if frame.rescue_at_s is not None and now >= frame.rescue_at_s:
                self.local.rescue(frame)
            if now >= frame.limit_s:
                self._end(frame, None)
        for frame in self.edge.unanswered(now):
            self._nothing_came(frame)

    # -- a frame begins --------------------------------------------------------------------------

    def start(
        self,
        number: int,
        arrival_s: float,
        sample: Raw,
        deadline_s: float | None = None,
        threshold: float | None = None,
        done: Callable[[FrameRecord], None] | None = None,
    ) -> Frame:
        """Decide a frame's plan and set about it; `done` is given its one record.

        `number` is new among the frames under way, `arrival_s` of the engine's clock, `sample` is
        raw. `deadline_s` (None: the stream's own) and `threshold` are the frame's own.
        """
        deadline_s = self.args.deadline_s if deadline_s is None else deadline_s
        self.watch.asked_s = arrival_s - self.begin_s
        admitted = self._decide(number, arrival_s, deadline_s)
        frame = Frame(
            number, admitted.plan, self.table.plans[admitted.plan], arrival_s, sample, deadline_s,
            self.args.limit_s(arrival_s, deadline_s, self.end_s), threshold=threshold, done=done,
            lane=admitted.lane,
        )  # fmt: skip
        self.live[number] = frame
        frame.traceparent = self.on_begun(frame)
        if self.local.has_prefix(frame):
            self.local.start(frame)
        else:
            self._hand_over(frame, Prefix(self.local.encode(frame)))
        return frame

    def _decide(self, number: int, arrival_s: float, deadline_s: float) -> Admitted:
        """The controller's choice, and what the admission makes of it."""
        now, lanes = self.clock(), self.link.lanes
        # backlog and round trip are those of the edge that serves
        self.link.serve(self.admission.serving(lanes, self.link.greetings, now))
        situation = Situation(
            arrival_s - self.begin_s,
            number,
            deadline_s,
            max(self._cpu.backlog_s() - max(arrival_s - self.clock(), 0.0), 0.0),
            self.link.backlog_bytes,
            self.rtt_s,
            self._cpu.newest_pace,
        )
        wanted, now = self.controller.decide(situation), self.clock()
        chosen = self.edge.further.instead(wanted, situation, self.watch.measured, now)
        admitted = self.admission.admit(chosen, situation, lanes, now)
        if admitted.plan != wanted and isinstance(self.controller, Overruled):
            self.controller.overruled(number, admitted.plan)
        return admitted

    def _hand_over(self, frame: Frame, prefix: Prefix) -> None:
        """Give what crosses to the link, then see to the local answers."""
        assert prefix.encoded is not None
        frame.passes("handed", self.clock())
        frame.size = len(prefix.encoded.data) / float(self.table.up_bytes[frame.plan_index])
        if not self.edge.send(frame, prefix.encoded):
            self._answer_missed()
            self.admission.failed(frame.lane, self.clock())
        held = frame.reservation
        if not self.local.answer_meanwhile(frame):
            self._end(frame, self.clock())
        if frame.reservation is held:  # what it was kept for is queued by now, or not wanted
            self.local.release(frame)

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if event.kind == "reply":
            self._replied(event.value)
        elif event.kind == "call":
            event.value()
        elif event.frame is not None and event.kind == "gate":
            self._gate_answered(event.frame, event.exit, event.value)
        elif event.frame is not None:
            self._job_done(event, event.frame, event.value)

    def _gate_answered(self, frame: Frame, exit_: int, answer: ExitAnswer) -> None:
        if frame.over:
            return
        frame.keep(exit_, answer)
        if frame.sure:
            self._end(frame, self.clock())

    def _job_done(self, event: Event, frame: Frame, result: CpuDone) -> None:
        frame.device_s += result.spent_s
        frame.local_pending -= event.kind == "local"
        if result.error is not None:
            frame.error = result.error
        undone = result.skipped or result.error is not None
        if undone and self.admission.always_rescue and not frame.over:
            self.local.last_resort(frame)
            return
        if frame.over or result.result is None:
            return
        if event.kind == "prefix":
            self._prefix_done(frame, result.result, result.ended_s)
        elif event.kind == "suffix":
            self._suffix_done(frame, result)
        else:
            self._local_done(frame, event.exit, result)

    def _prefix_done(self, frame: Frame, prefix: Prefix, at_s: float) -> None:
        if prefix.confident is not None:
            assert frame.local_answer is not None  # the gate reported it before the prefix ended
            self._answer(frame, frame.local_answer, at_s, prefix.confident)
        elif prefix.logits is not None:
            self._answer(frame, self.local.answer(frame.plan.exit, prefix.logits), at_s)
        elif prefix.encoded is not None:
            self._hand_over(frame, prefix)
        else:
            # no time for what lies behind the gates: their answer is the best there will be
            self._end(frame, at_s)

    def _suffix_done(self, frame: Frame, result: CpuDone) -> None:
        """The device has gone on with the edge's tensor."""
        answer, at_s = self.local.answer(frame.plan.exit, result.result), result.ended_s
        if math.isfinite(answer.confidence):
            self._answer(frame, answer, at_s)
            return
        # numbers, but such as no network gives
        self._edge_lost(frame, "the edge's tensor: it gives no answer", at_s)
        self.edge.in_vain(frame, at_s, self.clock())

    def _local_done(self, frame: Frame, exit_: int, result: CpuDone) -> None:
        answer = self.local.answer(exit_, result.result)
        frame.keep(exit_, answer)
        if self.args.closed:
            self._answer(frame, answer, result.ended_s)
        elif frame.plan.is_local or frame.remote_failed or frame.sure:
            # of a local plan this is a last resort: nothing better is on its way
            self._end(frame, result.ended_s)
        else:
            self.local.go_deeper(frame, exit_)

    # -- the edge --------------------------------------------------------------------------------

    def _replied(self, reply: Reply) -> None:
        if reply.measurement is not None:
            known = replace(reply.measurement, known_s=reply.at_s - self.begin_s)
            self.watch.learn(self.controller, known)
        frame = self.edge.heard(reply, self.clock())
        if frame is None:
            return
        frame.passes("replied", reply.at_s)
        if reply.error is not None:
            self._edge_lost(frame, reply.error, reply.at_s)
            return
        try:
            found = self.edge.read(frame, reply)
        except CoinferError as error:
            self._edge_lost(frame, f"the edge's answer: {error}", reply.at_s)
            self.edge.in_vain(frame, reply.at_s, self.clock())
            return
        if isinstance(found, ExitAnswer):
            frame.answered_by_edge = reply.at_s <= frame.limit_s
            self._answer(frame, found, reply.at_s)
        else:
            self.local.go_on(frame, found)
        if reply.at_s <= frame.limit_s:
            self.admission.answered(frame.lane)

    def _edge_lost(self, frame: Frame, why: str, at_s: float) -> None:
        """No answer will come from the edge: the frame is the device's own from here on."""
        frame.error, frame.remote_failed, frame.rescue_at_s = why, True, None
        self.local.release(frame)
        self._answer_missed()
        if frame.local_answer is not None and not frame.local_pending:
            self._end(frame, at_s)
        elif not frame.local_begun:
            self.local.fall_back(frame)

    def _nothing_came(self, frame: Frame) -> None:
        """The edge has not said a word of a frame whose time is over."""
        now = self.clock()
        spent = max(now - frame.arrival_s, 1e-3)
        self._answer_missed()
        nothing = Measurement(now - self.begin_s, 0, spent, complete=False)
        self.watch.learn(self.controller, nothing)
        self.admission.failed(frame.lane, now)

    def _answer_missed(self) -> None:
        """A frame's answer did not come: whoever relied on the edge with it does so no more."""
        self.admission.missed()
        for frame in self.live.values():
            if frame.rescue_at_s is not None and frame.reservation is None:
                self.local.keep_time(frame, frame.rescue_at_s)

    # -- a frame ends ----------------------------------------------------------------------------

    def fail(self, number: int, why: str) -> bool:
        """End a frame that something unforeseen befell; whether it was under way."""
        frame = self.live.get(number)
        if frame is None:
            return False
        frame.error = why
        self._end(frame, self.clock())
        return True

    def _answer(self, frame: Frame, answer: ExitAnswer, at_s: float, by: int | None = None) -> None:
        """The plan's own answer: of its exit, or of the gate that was sure enough."""
        if at_s <= frame.limit_s:
            frame.answer, frame.answered_s = answer, at_s
            frame.answer_exit = frame.plan.exit if by is None else by
        self._end(frame, at_s)

    def _end(self, frame: Frame, at_s: float | None) -> None:
        """Close a frame: by its plan's answer, else by the deepest local one, else late."""
        if frame.over:
            return
        frame.over = True
        self.local.release(frame)
        del self.live[frame.number]
        self._settle(frame, given_up=at_s is None or at_s >= frame.limit_s)
        record = frame.record(at_s, self.begin_s)
        if frame.done is not None:
            frame.done(record)
        self.on_record(record)
        known_s = self.clock() - self.begin_s
        self.controller.record(record.result(known_s, frame.deadline_s))

    def _settle(self, frame: Frame, given_up: bool) -> None:
        """What a frame's end means for its request, and for relying on the edge.

        `given_up`: it ends because its time is over.
        """
        self.edge.forget(frame)
        if frame.request is None:
            if not self.table.local[frame.plan_index]:
                self.admission.unused(frame.lane)
            return
        # one that was given less time than frames have here says nothing of the edge yet
        in_vain = given_up and self.admission.usual(frame.deadline_s)
        if frame.answer is None and self.edge.take_back(frame, in_vain, self.rtt_s):
            # not a byte went out in its time: the controller must hear of it now, not when the
            # queue before it has drained (as in the simulation)
            self._nothing_came(frame)
        if frame.answered_by_edge:
            now = self.clock()
            self.admission.relied(now, now - frame.arrival_s)
        elif in_vain:
            self._answer_missed()

    # -- measurements that no frame asked for ----------------------------------------------------

    def look_around(self) -> None:
        """Probe the link where frames come, none is sent, and the budget allows it."""
        self.watch.look_around(self.clock() - self.begin_s)

    def probe(self) -> None:
        """The transfer a controller asks for at the start; awaited in the closed loop."""
        if not self.watch.probe(self.controller.initial_probe_bytes) or not self.args.closed:
            return
        until_s = self.clock() + self.args.give_up_s
        while (left_s := until_s - self.clock()) > 0:
            event = self._loop.handle_one(left_s)
            if event is None or event.kind == "reply":
                return
