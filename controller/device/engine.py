"""The device's engine: every frame gets a plan, is run for real, and gets one answer at most.

Anytime answers and rescues as in `controller.physics`, here with real clocks, threads and sockets.
Imports nothing that a Pi does not need (no torch, gymnasium, pandas, matplotlib).
"""

from __future__ import annotations

import logging
import math
import queue
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import CoinferError
from controller.device.cpu import CpuDone, CpuJob, DeviceCpu, Reservation
from controller.device.link_monitor import LinkMonitor, ProbeSettings
from controller.interface import (
    Controller,
    FrameResult,
    Measurement,
    Overruled,
    Situation,
)
from controller.link.edge_link import Reply
from controller.link.health import Breakers, EdgeReliability
from controller.link.pool import Link
from controller.physics import PlanTable
from controller.plans import Plan, passed_exits
from controller.policies.probing import probe_plan
from controller.wire import RemoteProtocolError
from controller.wire.messages import meta_int, meta_number, meta_within
from models.codecs import Encoded, carries_picture, decode
from models.facts.cards import Model
from models.facts.profiles import Profile
from models.graphs.executors import Executor, softmax_answer

log = logging.getLogger("coinfer.device")
STAGES = {"receive": "receive_s", "edge queue": "queue_s", "edge compute": "compute_s"}
SILENCE_MARGIN_S = 0.04
"""Beyond a round trip after the deadline: an edge that has not spoken by then got nothing."""

USUAL = 0.9
"""A deadline of more than this share of the stream's is the usual one: whoever passes answers on
keeps a few milliseconds of it for that."""
WAKING_S = 0.001
"""What the engine may take to wake."""

Pictures = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class FrameRecord(msgspec.Struct, frozen=True):
    """How one frame went; times in seconds from the stream's start. `label` is the answered class.

    `exit` is 0-based, None (with `latency_s` None) where no answer came in time; `where` is where
    the answer's last layer was computed.
    """

    frame: int
    plan: int
    arrival_s: float
    latency_s: float | None
    exit: int | None
    by_plan: bool
    where: Literal["device", "edge"] | None
    label: int | None
    confidence: float | None
    bytes_sent: int
    device_s: float
    error: str | None
    stages_s: dict[str, float] = {}
    """Of an edge's answer: receiving, waiting and computing there."""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """How long frames may take.

    `closed`: nothing is cancelled at the deadline, only after `give_up_s` (Edgent's closed loop).
    """

    deadline_s: float
    closed: bool = False
    rescue_margin_s: float = 0.005
    rtt_s: float = 0.0
    give_up_s: float = 60.0
    always_rescue: bool = False
    """Have a local answer also where a plan would not (a scenario may allow that): time is kept for
    it, or, while the edge answers (`EdgeReliability`), it is made where the CPU is idle.
    """
    measured_rtt: bool = False
    """Decide by the link's own round trip once it is known (`rtt_s` until then)."""


@dataclass
class Frame:
    """A frame that is under way. It may bring a deadline and a confidence of its own."""

    number: int
    plan_index: int
    plan: Plan
    arrival_s: float
    picture: Pictures
    deadline_s: float
    threshold: float | None = None
    """An own answer at least this confident ends the frame at once."""
    done: Callable[[FrameRecord], None] | None = None
    x: Floats | None = None
    """The tensor at the cut, or the network's input; made where it is first needed, on the CPU's
    own time: a camera's picture takes a millisecond to scale, a raw one that is sent needs none.
    """
    lane: int = 0
    """The edge it is for."""
    request: int | None = None
    local_exit: int = -1
    local_answer: tuple[int, float] | None = None
    answer: tuple[int, float] | None = None
    answer_exit: int = -1
    answered_s: float | None = None
    answered_by_edge: bool = False
    stages_s: dict[str, float] = field(default_factory=dict)
    over: bool = False
    traceparent: str | None = None
    """How the edge's part of this frame finds its trace."""
    rescue_at_s: float | None = None
    rescue_s: float = 0.0
    """What the rescue takes."""
    reservation: Reservation | None = None
    """What the CPU keeps free for the rescue (None: it is made only where the CPU is idle)."""
    bytes_sent: int = 0
    device_s: float = 0.0
    remote_failed: bool = False
    local_begun: bool = False
    local_pending: int = 0
    """Local jobs queued or running."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first part of a plan gave: the tensor at the last exit's point, that at the cut (or
    a local plan's logits), what crosses; or the gate that was sure enough, and nothing else.
    """

    kept: Floats | None
    tensor: Floats | None
    encoded: Encoded | None
    confident: int | None = None


@dataclass(frozen=True, slots=True)
class _Awaited:
    """What is still to be heard of a frame that is over; `in_vain`: no answer came in its time."""

    until_s: float
    frame: Frame
    in_vain: bool


@dataclass(frozen=True, slots=True)
class _Event:
    kind: Literal["head", "local", "tail", "reply", "gate", "call"]
    frame: Frame | None
    value: Any
    exit: int = -1


@dataclass
class FrameEngine:
    """Runs frames through a controller's plans. All but `on_reply` and `post` is for one thread."""

    model: Model
    executor: Executor
    profile: Profile
    table: PlanTable
    controller: Controller
    link: Link
    args: EngineArgs
    clock: Callable[[], float] = time.monotonic
    on_record: Callable[[FrameRecord], None] = lambda record: None
    breaker: Breakers | None = None
    """Keeps frames on the device while the link gives nothing back (None: the controller's own
    affair, as in simulation)."""
    measured: Measurement | None = None
    """The newest."""
    on_begun: Callable[[Frame], str | None] = lambda frame: None
    """Told of every frame whose plan is decided; gives its traceparent where it is traced."""
    monitor: LinkMonitor | None = None
    """Follows the link beside the controller, and may probe it (None: nobody does)."""

    def __post_init__(self) -> None:
        """Threads report here."""
        self._events: queue.Queue[_Event] = queue.Queue()
        self._cpu = DeviceCpu(self.clock)
        self._mean_head_s = self.table.mean_head_s
        self._light = probe_plan(self.table)
        self._first_exit_s = self.profile.interval_p95_s(0, 0, len(self.model.spec.branches[0]))
        self.live: dict[int, Frame] = {}
        self._by_request: dict[int, Frame] = {}
        self._silent: dict[int, _Awaited] = {}
        self._greetings = dict(self.link.greetings)
        self.begin_s = self.clock()
        self.end_s = float("inf")
        self.probe_bytes_sent = 0
        self._asked_at_s = float("-inf")
        self._reliability = EdgeReliability()

    def on_reply(self, reply: Reply) -> None:
        """The link's callback (its own thread)."""
        self._events.put(_Event("reply", None, reply))

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made on the engine's thread, as soon as it waits."""
        self._events.put(_Event("call", None, call))

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
        self.breaker, self.monitor = Breakers(rng), LinkMonitor(probes)

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

    def limit_s(self, frame: Frame) -> float:
        """When a frame is given up, on the engine's clock."""
        if self.args.closed:
            return min(frame.arrival_s + self.args.give_up_s, self.end_s)
        return frame.arrival_s + frame.deadline_s

    def _next_moment(self, latest: float) -> float:
        moments = [latest]
        for frame in self.live.values():
            moments.append(self.limit_s(frame))
            if frame.rescue_at_s is not None:
                moments.append(frame.rescue_at_s)
        moments += [awaited.until_s for awaited in self._silent.values()]
        return min(moments)

    def wait(self, until_s: float, frame: Frame | None = None) -> None:
        """Handle events, rescues and deadlines until `until_s`, or until `frame` is over."""
        while True:
            # what has come is looked at before what is due: an answer in time is an answer
            self._drain()
            self._due()
            if frame is not None and frame.over:
                return
            now = self.clock()
            pause = min(self._next_moment(until_s), until_s) - now
            if now >= until_s and self._events.empty():
                return
            try:
                event = (
                    self._events.get(timeout=max(pause, 0.0))
                    if pause > 0
                    else (self._events.get_nowait())
                )
            except queue.Empty:
                continue
            self._handle(event)

    def _drain(self) -> None:
        for _ in range(self._events.qsize()):
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            self._handle(event)

    def _due(self) -> None:
        now = self.clock()
        for frame in list(self.live.values()):
            if frame.rescue_at_s is not None and now >= frame.rescue_at_s:
                self._rescue(frame)
            if now >= self.limit_s(frame):
                self._end(frame, None)
        for request, awaited in list(self._silent.items()):
            if now >= awaited.until_s:
                del self._silent[request]
                self._nothing_came(awaited.frame)

    # -- one frame -------------------------------------------------------------------------------

    def start(
        self,
        number: int,
        arrival_s: float,
        picture: Pictures,
        deadline_s: float | None = None,
        threshold: float | None = None,
        done: Callable[[FrameRecord], None] | None = None,
    ) -> Frame:
        """Decide a frame's plan and set about it; `done` is told of its one answer."""
        deadline_s = self.args.deadline_s if deadline_s is None else deadline_s
        self._asked_at_s = arrival_s
        lanes = self._lanes()
        situation = Situation(
            arrival_s - self.begin_s,
            number,
            deadline_s,
            max(self._cpu.backlog_s() - max(arrival_s - self.clock(), 0.0), 0.0),
            self.link.backlog_bytes,
            self.rtt_s,
        )
        chosen = self.controller.decide(situation)
        allowed, lane = self._allowed(chosen, lanes, situation)
        index = self._keeping_time(allowed, situation)
        if self.breaker is not None and self.table.local[index] and not self.table.local[allowed]:
            self.breaker.abandoned(lane)
        if index != chosen and isinstance(self.controller, Overruled):
            self.controller.overruled(number, index)
        plan = self.table.plans[index]
        frame = Frame(
            number, index, plan, arrival_s, picture, deadline_s, threshold=threshold, done=done,
            lane=lane,
        )  # fmt: skip
        self.live[number] = frame
        frame.traceparent = self.on_begun(frame)
        if self.table.head_s[index] > 0:
            self._run_head(frame)
        else:
            self._hand_over(frame, None, None, self._encode(frame, None))
        return frame

    def _lanes(self) -> tuple[int, ...]:
        """The edges in the order of preference; the one that works and is preferred serves."""
        lanes = self.link.lanes
        if self.breaker is None:
            self.link.serve(lanes[0])
            return lanes
        for lane, count in self.link.greetings.items():
            if count != self._greetings.get(lane):
                self._greetings[lane] = count
                self.breaker.renewed(lane, self.clock())
        self.link.serve(self.breaker.first(lanes))
        return lanes

    def _allowed(self, index: int, lanes: Sequence[int], situation: Situation) -> tuple[int, int]:
        """The plan decided, or a local one while the breakers hold frames back; and the edge."""
        if self.breaker is None or self.table.local[index]:
            return index, lanes[0]
        lane = self.breaker.allows(lanes, self.clock())
        return (self._own(situation), lanes[0]) if lane is None else (index, lane)

    def _own(self, situation: Situation) -> int:
        """The local plan that suits best."""
        local = np.flatnonzero(self.table.local)
        ready = self.table.head_s[local] + situation.device_backlog_s
        fits = local[ready <= situation.deadline_s]
        if not len(fits):
            return int(local[np.argmin(ready)])
        return int(fits[np.argmax(self.table.accuracy[fits])])

    def _keeping_time(self, index: int, situation: Situation) -> int:
        """The plan decided; where its own local answer would come too late, one that sends the
        picture as it is and keeps time for a rescue, or the first exit.
        """
        table, plan = self.table, self.table.plans[index]
        if not self.args.always_rescue or plan.is_local or not table.head_s[index] > 0:
            return index
        spare = situation.deadline_s - situation.device_backlog_s - self.args.rescue_margin_s
        if table.wait_exit[index, 0] >= 0 or plan.gates:
            own_s = float(table.head_s[index] + table.wait_s[index, 0])
        else:
            own_s = float(self._mean_head_s[index]) + self._first_exit_s
        if own_s <= spare:
            return index
        if self._light is not None and self._first_exit_s <= spare:
            return self._light
        first = np.flatnonzero(table.local & (table.exit == 0) & ~table.gated)
        return int(first[0]) if len(first) else index

    def _input(self, frame: Frame) -> Floats:
        """The network's input of a frame that no layer has run on."""
        if frame.x is None:
            frame.x = self.model.normalise(frame.picture[None])
        return frame.x

    def _encode(self, frame: Frame, tensor: Floats | None) -> Encoded:
        plan = frame.plan
        if carries_picture(plan.codec):
            return self.executor.encode(plan.codec, plan.exit, plan.start, frame.picture)
        source = self._input(frame) if tensor is None else tensor
        return self.executor.encode(plan.codec, plan.exit, plan.start, source)

    def _job(
        self,
        frame: Frame,
        kind: Literal["head", "local", "tail"],
        work: Callable[[], Any],
        expected_s: float,
        exit_: int,
        first_s: float | None = None,
    ) -> None:
        """Queue work of `expected_s`, which is of use if its `first_s` end by the deadline."""

        def done(result: CpuDone) -> None:
            self._events.put(_Event(kind, frame, result, exit_))

        due = self.limit_s(frame)
        latest = due - (expected_s if first_s is None else first_s)
        self._cpu.submit(CpuJob(work, done, expected_s, due, latest, lambda: not frame.over))

    def _run_head(self, frame: Frame) -> None:
        """The plan's first part, gate by gate, keeping the tensor at the last exit's point."""
        plan, row = frame.plan, frame.plan_index
        stop = len(self.model.spec.branches[plan.exit]) if plan.is_local else plan.start
        passed = passed_exits(self.model.spec, plan)

        def work() -> _Head:
            if plan.start == 0:
                return _Head(None, None, self._encode(frame, None))
            x, at, confident = self._ask_gates(frame)
            if x is None or confident is not None:
                return _Head(None, None, None, confident)
            if plan.is_local:
                return _Head(None, self.executor.run(plan.exit, at, stop, x), None)
            point = self.model.spec.exits[passed[-1]].after if passed else stop
            kept = self.executor.run(plan.exit, at, point, x) if at < point else x
            tensor = self.executor.run(plan.exit, point, stop, kept) if point < stop else kept
            return _Head(kept, tensor, self._encode(frame, tensor))

        if not self.args.closed and self.table.wait_exit[row, 0] >= 0:
            # its local answer is asked for when the head has ended, and another frame's job must
            # not slip in between
            seconds, due = float(self.table.wait_s[row, 0]), self.limit_s(frame)
            begin_s = self.clock() + float(self.table.head_s[row])
            frame.reservation = Reservation(begin_s, due - seconds, seconds, due)
            self._cpu.reserve(frame.reservation)
        # which way its gates send a frame is not known: it counts as its plan's do on average
        first = float(self.table.early_s[row, 0]) if plan.gates else None
        self._job(frame, "head", work, float(self._mean_head_s[row]), plan.exit, first)

    def _ask_gates(self, frame: Frame) -> tuple[Floats | None, int, int | None]:
        """The tensor at the last gate's point, that point, and the exit that was sure enough.

        No tensor where what remains cannot be done by the deadline. Runs on the CPU's thread; what
        a gate says is told to the loop at once.
        """
        plan, spec, row = frame.plan, self.model.spec, frame.plan_index
        upto = [*self.table.early_s[row, : len(plan.gates)], self.table.head_s[row]]
        x, at = self._input(frame), 0
        for number, gate in enumerate(plan.gates):
            after = spec.exits[gate].after
            x = self.executor.run(plan.exit, at, after, x) if at < after else x
            at = after
            logits = self.executor.run(gate, after, len(spec.branches[gate]), x)
            answer = softmax_answer(logits, self.model.temperatures[gate])
            self._events.put(_Event("gate", frame, answer, gate))
            if answer[1] >= plan.threshold:
                return x, at, gate
            if self.clock() + float(upto[number + 1] - upto[number]) > self.limit_s(frame):
                return None, at, None
        if plan.gates:
            self._cpu.revise(float(upto[-1] - upto[-2]))
        return x, at, None

    def _hand_over(
        self, frame: Frame, kept: Floats | None, tensor: Floats | None, encoded: Encoded
    ) -> None:
        """Give what crosses to the link, then see to the local answers (None: from the picture)."""
        plan = frame.plan
        shape: Sequence[int] = self.model.spec.shapes[plan.exit][plan.start]
        if carries_picture(plan.codec):
            shape = frame.picture.shape
        meta = {
            "model": self.model.digest,
            "exit": plan.exit,
            "start": plan.start,
            "stop": plan.stop,
            "codec": plan.codec,
            "shape": list(shape),
        } | encoded.meta
        if frame.traceparent is not None:
            meta["traceparent"] = frame.traceparent
        if tensor is not None:
            frame.x = tensor
        self.link.serve(frame.lane)
        frame.request = self.link.upload(meta, encoded.data, self.limit_s(frame))
        if frame.request is None:
            frame.remote_failed = True
            frame.error = self.link.last_error or "no connection to the edge"
            self._distrust()
            if self.breaker is not None:
                self.breaker.failed(frame.lane, self.clock())
        else:
            self._by_request[frame.request] = frame
            frame.bytes_sent = len(encoded.data)
        held, frame.reservation = frame.reservation, None
        self._answer_meanwhile(frame, kept, tensor)
        if held is not None:
            self._cpu.release(held)

    def _answer_meanwhile(self, frame: Frame, kept: Floats | None, tensor: Floats | None) -> None:
        """What the device does of its own while the edge is awaited."""
        plan, now = frame.plan, self.clock()
        reached = passed_exits(self.model.spec, plan)
        passed = reached[-1] if reached else None
        if self.args.closed:
            if frame.remote_failed:
                self._local_job(frame, plan.exit, plan.start, tensor)
        elif passed is not None and passed in plan.gates:
            # it has answered already; what a hedge goes on with is the next
            if frame.remote_failed:
                self._end(frame, now)
            elif plan.hedge:
                self._local_job(frame, passed + 1, plan.start, tensor)
        elif passed is not None:
            start = plan.start if passed == plan.exit else self.model.spec.exits[passed].after
            self._local_job(frame, passed, start, tensor if passed == plan.exit else kept)
        elif plan.hedge or frame.remote_failed:
            # nothing comes from the edge: the promise is a local answer, rescue or not
            self._local_job(frame, 0, plan.start, tensor)
        elif plan.rescue or self.args.always_rescue:
            first = len(self.model.spec.branches[0])
            due = self.limit_s(frame)
            p95_s = self.profile.interval_p95_s(0, plan.start, first)
            frame.rescue_at_s = max(due - p95_s - self.args.rescue_margin_s, now)
            frame.rescue_s = self.profile.interval_s(0, plan.start, first)
            if plan.rescue or not self._reliability.holds(now):
                self._keep_time(frame)

    def _keep_time(self, frame: Frame) -> None:
        """Have the CPU keep the time that a frame's rescue takes."""
        assert frame.rescue_at_s is not None
        due = self.limit_s(frame)
        frame.reservation = Reservation(
            frame.rescue_at_s, due - frame.rescue_s, frame.rescue_s, due,
            lambda: self.post(lambda: self._rescue(frame)),
        )  # fmt: skip
        self._cpu.reserve(frame.reservation)

    def _rescue(self, frame: Frame) -> None:
        """Have the device answer by its first exit, unless the edge has or that is under way."""
        if frame.over or frame.rescue_at_s is None:
            return
        if frame.reservation is None:
            # no time was kept: the frame whose turn it is goes first, and may end sooner than said
            now, last_s = self.clock(), self.limit_s(frame) - frame.rescue_s - WAKING_S
            busy_s = self._cpu.backlog_s()
            if busy_s > 0 or now > last_s + WAKING_S:
                frame.rescue_at_s = min(now + busy_s, last_s) if now < last_s else None
                return
        frame.rescue_at_s = None
        self._local_job(frame, 0, frame.plan.start, frame.x)
        self._release(frame)

    def _release(self, frame: Frame) -> None:
        """The CPU need not wait for this frame's rescue any more."""
        if frame.reservation is not None:
            self._cpu.release(frame.reservation)
            frame.reservation = None

    def _local_job(self, frame: Frame, exit_: int, start: int, tensor: Floats | None) -> None:
        """Complete an exit on the device from the tensor before layer `start`."""
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

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, event: _Event) -> None:
        if event.kind == "reply":
            self._replied(event.value)
            return
        if event.kind == "call":
            event.value()
            return
        frame, result = event.frame, event.value
        assert frame is not None
        if event.kind == "gate":
            if not frame.over:
                frame.local_exit, frame.local_answer = event.exit, result
                self._end_if_sure(frame, self.clock())
            return
        frame.device_s += result.spent_s
        frame.local_pending -= event.kind == "local"
        if result.error is not None:
            frame.error = result.error
        undone = result.skipped or result.error is not None
        if undone and self.args.always_rescue and not frame.over:
            self._last_resort(frame)
            return
        if frame.over or result.result is None:
            return
        if event.kind == "head":
            self._head_done(frame, result)
        elif event.kind == "tail":
            self._tail_done(frame, result)
        else:
            self._local_done(frame, event.exit, result)

    def _tail_done(self, frame: Frame, result: CpuDone) -> None:
        """The device has gone on with the edge's tensor."""
        with np.errstate(all="ignore"):  # of what no network gives, nothing is printed
            answer = softmax_answer(result.result, self.model.temperatures[frame.plan.exit])
        if math.isfinite(answer[1]):
            self._answer(frame, answer, result.ended_s)
            return
        # numbers, but such as no network gives
        self._remote_lost(frame, "the edge's tensor: it gives no answer", result.ended_s)
        self._in_vain(frame, result.ended_s)

    def _last_resort(self, frame: Frame) -> None:
        """What was planned can no longer be done in time; perhaps the first exit can."""
        self._release(frame)
        length = len(self.model.spec.branches[0])
        left = self.limit_s(frame) - self.clock()
        begun = frame.local_pending > 0 or frame.local_answer is not None
        if not begun and self.profile.interval_s(0, 0, length) <= left:
            self._local_job(frame, 0, 0, self.model.normalise(frame.picture[None]))

    def fail(self, number: int, why: str) -> bool:
        """End a frame that something unforeseen befell; whether it was under way."""
        frame = self.live.get(number)
        if frame is None:
            return False
        frame.error = why
        self._end(frame, self.clock())
        return True

    def _head_done(self, frame: Frame, result: CpuDone) -> None:
        head: _Head = result.result
        if head.confident is not None:
            assert frame.local_answer is not None  # the gate told it before the head ended
            self._answer(frame, frame.local_answer, result.ended_s, head.confident)
        elif frame.plan.is_local and head.tensor is not None:
            temperature = self.model.temperatures[frame.plan.exit]
            self._answer(frame, softmax_answer(head.tensor, temperature), result.ended_s)
        elif head.encoded is not None:
            self._hand_over(frame, head.kept, head.tensor, head.encoded)
        else:
            # no time for what lies behind the gates: their answer is the best there will be
            self._end(frame, result.ended_s)

    def _local_done(self, frame: Frame, exit_: int, result: CpuDone) -> None:
        point, trunk, logits = result.result
        frame.local_exit = exit_
        frame.local_answer = softmax_answer(logits, self.model.temperatures[exit_])
        if self.args.closed:
            self._answer(frame, frame.local_answer, result.ended_s)
        elif (
            frame.plan.is_local  # a last resort: nothing better is on its way
            or frame.remote_failed
            or self._end_if_sure(frame, result.ended_s)
        ):
            self._end(frame, result.ended_s)
        elif frame.plan.hedge and exit_ < frame.plan.exit:
            self._local_job(frame, exit_ + 1, point, trunk)

    def _end_if_sure(self, frame: Frame, at_s: float) -> bool:
        """End a frame whose own answer is as confident as was asked for."""
        sure = frame.local_answer is not None and frame.threshold is not None
        if sure and frame.local_answer[1] >= frame.threshold:  # type: ignore[index,operator]
            self._end(frame, at_s)
        return frame.over

    def _replied(self, reply: Reply) -> None:
        now = reply.at_s - self.begin_s
        if reply.measurement is not None:
            self._learn(replace(reply.measurement, known_s=now))
        awaited = self._silent.pop(reply.request_id, None)
        frame = self._by_request.pop(reply.request_id, None)
        self._heard_of(reply, awaited, frame)
        if frame is None or frame.over or reply.cancelled:
            return
        if reply.error is not None:
            self._remote_lost(frame, reply.error, reply.at_s)
            return
        try:
            self._use(frame, reply)
        except CoinferError as error:
            self._remote_lost(frame, f"the edge's answer: {error}", reply.at_s)
            self._in_vain(frame, reply.at_s)
        else:
            if self.breaker is not None and reply.at_s <= self.limit_s(frame):
                self.breaker.answered(frame.lane)

    def _heard_of(self, reply: Reply, awaited: _Awaited | None, frame: Frame | None) -> None:
        """What a reply says of its edge, as long as it is no answer that is still awaited."""
        if self.breaker is None:
            return
        lane = self.link.lane(reply.request_id)
        if reply.error is not None:
            # the connection went, or the edge has no time: frames need not be sent for that
            self.breaker.failed(lane, self.clock())
        elif awaited is not None and awaited.in_vain:
            self.breaker.carried(lane, self.clock())
        elif frame is None:
            self.breaker.heard(lane)
        elif reply.cancelled or reply.at_s > self.limit_s(frame):
            self._in_vain(frame, reply.at_s)

    def _in_vain(self, frame: Frame, at_s: float) -> None:
        """A frame's edge has said something, but gave no answer that is of use."""
        if self.breaker is None:
            return
        if self._usual(frame) or at_s < self.limit_s(frame):
            self.breaker.carried(frame.lane, self.clock())
        else:
            self.breaker.heard(frame.lane)

    def _usual(self, frame: Frame) -> bool:
        """Whether a frame was given the time that frames have here, or more."""
        return frame.deadline_s > USUAL * self.args.deadline_s

    def _remote_lost(self, frame: Frame, why: str, at_s: float) -> None:
        """No answer will come from the edge: the frame is the device's own from now on."""
        frame.error, frame.remote_failed, frame.rescue_at_s = why, True, None
        self._release(frame)
        self._distrust()
        if frame.local_answer is not None and not self._computing(frame):
            self._end(frame, at_s)
        elif not frame.local_begun:
            exit_ = frame.plan.exit if self.args.closed else 0
            self._local_job(frame, exit_, frame.plan.start, frame.x)

    def _computing(self, frame: Frame) -> bool:
        """Whether a deeper local answer than the one there is is on its way."""
        return frame.local_pending > 0

    def _use(self, frame: Frame, reply: Reply) -> None:
        """The edge's answer, or the tensor that the device goes on with; refuses anything else."""
        plan, spec = frame.plan, self.model.spec
        length = len(spec.branches[plan.exit])
        longest_s = max(reply.at_s - frame.arrival_s, 0.0)
        for stage, key in STAGES.items():
            seconds = meta_number(reply.meta, key, 0.0)
            if 0.0 <= seconds <= longest_s:  # others are no reason to refuse an answer
                frame.stages_s[stage] = seconds
        if plan.stop == length:
            label = meta_int(reply.meta, "class", 0, spec.classes - 1)
            confidence = meta_within(reply.meta, "confidence", 0.0, 1.0)
            frame.answered_by_edge = reply.at_s <= self.limit_s(frame)
            self._answer(frame, (label, confidence), reply.at_s)
            return
        shape = spec.shapes[plan.exit][plan.stop]
        tensor = np.asarray(decode("float32", {}, reply.data, shape)[None], dtype=np.float32)
        if not np.isfinite(tensor).all():
            raise RemoteProtocolError("tensor: found values that are not finite, expected numbers")

        def work() -> Floats:
            return self.executor.run(plan.exit, plan.stop, length, tensor)

        seconds = self.profile.interval_s(plan.exit, plan.stop, length)
        self._job(frame, "tail", work, seconds, plan.exit)

    def _answer(
        self, frame: Frame, answer: tuple[int, float], at_s: float, exit_: int | None = None
    ) -> None:
        """The plan's own answer: of its exit, or of the gate that was sure enough."""
        if at_s <= self.limit_s(frame):
            frame.answer, frame.answered_s = answer, at_s
            frame.answer_exit = frame.plan.exit if exit_ is None else exit_
        self._end(frame, at_s)

    def _end(self, frame: Frame, at_s: float | None) -> None:
        """Close a frame: by its plan's answer, else by the deepest local one, else late."""
        if frame.over:
            return
        frame.over = True
        self._release(frame)
        del self.live[frame.number]
        limit = self.limit_s(frame)
        if frame.request is not None:
            self._by_request.pop(frame.request, None)
        elif self.breaker is not None and not self.table.local[frame.plan_index]:
            self.breaker.abandoned(frame.lane)
        given_up = at_s is None or at_s >= limit
        if frame.request is not None and frame.answer is None:
            self._take_back(frame, given_up)
        self._judge(frame, given_up)
        by_plan = frame.answer is not None
        answer = frame.answer or frame.local_answer
        ended = frame.answered_s if by_plan else (min(at_s, limit) if at_s is not None else limit)
        assert ended is not None
        latency = None if answer is None else ended - frame.arrival_s
        exit_ = None
        if answer is not None:
            exit_ = frame.answer_exit if by_plan else frame.local_exit
        record = FrameRecord(
            frame.number,
            frame.plan_index,
            frame.arrival_s - self.begin_s,
            latency,
            exit_,
            by_plan,
            None if answer is None else "edge" if frame.answered_by_edge else "device",
            None if answer is None else answer[0],
            None if answer is None else answer[1],
            frame.bytes_sent,
            frame.device_s,
            frame.error,
            frame.stages_s,
        )
        if frame.done is not None:
            frame.done(record)
        self.on_record(record)
        known = self.clock() - self.begin_s
        if latency is not None and latency > frame.deadline_s + 1e-6:
            latency = exit_ = None  # the closed loop waits longer, but late is late
        self.controller.record(
            FrameResult(frame.number, frame.plan_index, known, latency, exit_, by_plan)
        )

    def _judge(self, frame: Frame, given_up: bool) -> None:
        """What a frame's end says about relying on the edge, by the stream's own deadline."""
        if frame.answered_by_edge:
            if self.clock() - frame.arrival_s <= self.args.deadline_s:
                self._reliability.answered(self.clock())
        elif frame.request is not None and given_up and self._usual(frame):
            self._distrust()

    def _distrust(self) -> None:
        """A frame's answer did not come: whoever relied on the edge with it does so no more."""
        self._reliability.missed()
        for frame in self.live.values():
            if frame.rescue_at_s is not None and frame.reservation is None:
                self._keep_time(frame)

    def _take_back(self, frame: Frame, given_up: bool) -> None:
        """Cancel what was sent of a frame that needs no answer any more, or `given_up` on it."""
        assert frame.request is not None
        handed = self.link.cancel(frame.request)
        frame.bytes_sent = frame.bytes_sent if handed is None else handed
        # one that was given less time than frames have here says nothing about the link yet
        in_vain = given_up and self._usual(frame)
        if handed == 0 and in_vain:
            # not a byte went out in its time: the link stands still, and the controller must
            # hear of it now, not when the queue before it has drained (as in the simulation)
            self._nothing_came(frame)
        elif handed and not self.args.closed:
            # to whatever was sent the edge says a word, of how much had come if of nothing else:
            # that takes a round trip beyond the time that frames have here
            due_s = max(self.limit_s(frame), frame.arrival_s + self.args.deadline_s)
            until_s = due_s + self.rtt_s + SILENCE_MARGIN_S
            self._silent[frame.request] = _Awaited(until_s, frame, in_vain)

    def _nothing_came(self, frame: Frame) -> None:
        now = self.clock()
        spent = max(now - frame.arrival_s, 1e-3)
        self._distrust()
        self._learn(Measurement(now - self.begin_s, 0, spent, False))
        if self.breaker is not None:
            self.breaker.failed(frame.lane, now)

    def _learn(self, measurement: Measurement) -> None:
        """Whoever follows the link hears of a transfer."""
        self.measured = measurement
        try:
            self.controller.observe(measurement)
            if self.monitor is not None:
                self.monitor.observe(measurement)
        except Exception:  # a frame's answer does not depend on what is learnt
            log.exception("measurement %s", measurement)

    # -- measurements that no frame asked for ----------------------------------------------------

    def look_around(self) -> None:
        """Probe the link where frames come, none is sent, and the budget allows it."""
        now, link = self.clock(), self.link
        known = self.monitor
        if known is None or now - self._asked_at_s > known.probes.blind_s:
            return  # nobody asks for anything: the link need not be known
        if link.connected and not link.backlog_bytes:
            size = known.probe_bytes(now - self.begin_s)
            if size:
                link.upload({"model": self.model.digest, "probe": True}, bytes(size))

    def probe(self) -> None:
        """The transfer a controller asks for at the start; awaited in the closed loop."""
        size = self.controller.initial_probe_bytes
        if size <= 0 or not self.link.connected:
            return
        meta = {"model": self.model.digest, "probe": True}
        if self.link.upload(meta, bytes(size)) is None:
            return
        self.probe_bytes_sent = size
        if not self.args.closed:
            return
        until = self.clock() + self.args.give_up_s
        while self.clock() < until:
            try:
                event = self._events.get(timeout=until - self.clock())
            except queue.Empty:
                return
            self._handle(event)
            if event.kind == "reply":
                return
