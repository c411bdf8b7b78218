"""A frame on its way through the device's engine: what is known of it, and the record it leaves.

Holds facts alone: what is done with a frame lies in `local_answers`, `edge_answers` and `engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy.typing as npt

from artefacts.arrays import Float32s
from controller.device.cpu import Reservation
from controller.interface import FrameResult, Noticed
from controller.physics import RESCUE_MARGIN_S
from controller.plans import Plan
from models.codecs import Encoded
from models.facts.answers import ExitAnswer as ExitAnswer

Raw = npt.NDArray[Any]
"""Samples as they come, of the type that the network's preprocessing takes."""


class FrameRecord(msgspec.Struct, frozen=True):
    """How one frame went; times in seconds from the stream's start. `label` is the answered class.

    `exit` is 0-based, None (with `latency_s` None) where no answer came in time; `where` is where
    the answer's last layer was computed.
    """

    frame: int
    """Its number."""
    plan: int
    """Its plan's number in the scenario's table."""
    arrival_s: float
    """Since the stream's start."""
    latency_s: float | None
    """From arrival to answer (null: none in time)."""
    exit: int | None
    """That answered, from 0."""
    by_plan: bool
    """Whether the plan's own answer came, no local one."""
    where: Literal["device", "edge"] | None
    """Where the answer's last layer ran."""
    label: int | None
    """The class that was answered (null: what was answered is no class)."""
    confidence: float | None
    """How sure it is, 0 to 1."""
    bytes_sent: int
    """Of the tensor or raw sample."""
    device_s: float
    """Computed on the device."""
    error: str | None
    """Why the plan's answer did not come."""
    stages_s: dict[str, float] = {}
    """Of an edge's answer: receiving, waiting and computing there."""
    moments_s: dict[str, float] = {}
    """Since its arrival: when its prefix began ("begun") and its encoding ("encoding"), when what
    crosses was handed to the link ("handed"), and when the edge's answer was here ("replied")."""
    reserved: bool = False
    """Whether time of the CPU was kept for its local fallback."""
    size: float | None = None
    """Bytes that crossed over their mean by its plan (null: nothing was to cross)."""
    values: bytes | None = None
    """What was answered where it is no class: an exit's row, float32, little-endian."""

    def result(self, known_s: float, deadline_s: float) -> FrameResult:
        """What the controller learns of it at `known_s`: late is late, also in the closed loop."""
        late = self.latency_s is not None and self.latency_s > deadline_s + 1e-6
        latency_s, exit_ = (None, None) if late else (self.latency_s, self.exit)
        own = self.confidence if self.where == "device" else None
        noticed = Noticed(self.size, self.stages_s.get("edge queue"), own)
        return FrameResult(self.frame, self.plan, known_s, latency_s, exit_, self.by_plan, noticed)


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """How long frames may take.

    `closed`: nothing is cancelled at the deadline, only after `give_up_s` (Edgent's closed loop).
    """

    deadline_s: float
    closed: bool = False
    rescue_margin_s: float = RESCUE_MARGIN_S
    rtt_s: float = 0.0
    give_up_s: float = 60.0
    always_rescue: bool = False
    """Have a local answer also where a plan would not (a scenario may allow that): time is kept for
    it, or, while the edge answers (`EdgeReliability`), it is made where the CPU is idle.
    """
    interval_s: float = math.inf
    """Between two frames, as the scenario has it; infinite in the closed loop."""
    measured_rtt: bool = False
    """Decide by the link's own round trip once it is known (`rtt_s` until then)."""

    def limit_s(self, arrival_s: float, deadline_s: float, end_s: float) -> float:
        """When a frame is given up; `end_s` is the closed loop's end. All on one clock."""
        return min(arrival_s + self.give_up_s, end_s) if self.closed else arrival_s + deadline_s


@dataclass
class Frame:
    """A frame that is under way. It may bring a deadline and a confidence of its own."""

    number: int
    plan_index: int
    plan: Plan
    arrival_s: float
    sample: Raw
    deadline_s: float
    limit_s: float
    """When it is given up, on the engine's clock."""
    threshold: float | None = None
    """An own answer at least this confident ends the frame at once."""
    done: Callable[[FrameRecord], None] | None = None
    tensors: dict[int, Float32s] = field(default_factory=dict)
    """Of its plan's branch, by the layer that each stands before: what stages go on from."""
    lane: int = 0
    """The edge it is for."""
    request: int | None = None
    local_exit: int = -1
    local_answer: ExitAnswer | None = None
    answer: ExitAnswer | None = None
    answer_exit: int = -1
    answered_s: float | None = None
    answered_by_edge: bool = False
    stages_s: dict[str, float] = field(default_factory=dict)
    moments_s: dict[str, float] = field(default_factory=dict)
    reserved: bool = False
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
    size: float | None = None
    """Bytes that cross over their mean by its plan."""
    remote_failed: bool = False
    local_begun: bool = False
    local_pending: int = 0
    """Local jobs queued or running."""
    error: str | None = None

    @property
    def sure(self) -> bool:
        """Whether its own answer is as confident as was asked for."""
        if self.local_answer is None or self.threshold is None:
            return False
        return self.local_answer.confidence >= self.threshold

    def keep(self, exit_: int, answer: ExitAnswer) -> None:
        """Take an own answer in the place of an earlier exit's, unless it is of no numbers."""
        if answer.of_numbers or self.local_answer is None or not self.local_answer.of_numbers:
            self.local_exit, self.local_answer = exit_, answer

    def passes(self, moment: str, at_s: float) -> None:
        """It reaches a moment of its way (`FrameRecord.moments_s`) at `at_s`; the first counts."""
        self.moments_s.setdefault(moment, at_s - self.arrival_s)

    def record(self, at_s: float | None, begin_s: float) -> FrameRecord:
        """What is left of a frame that ended at `at_s` (None: at its limit).

        It has its plan's answer, else the deepest local one, else none: what are no numbers is no
        answer. `begin_s` is the stream's begin; both times are of the engine's clock.
        """
        ended_s = self.limit_s if at_s is None else min(at_s, self.limit_s)
        answer, exit_, error = self.local_answer, self.local_exit, self.error
        if self.answer is not None and (answer is None or self.answer.of_numbers):
            assert self.answered_s is not None
            answer, exit_, ended_s = self.answer, self.answer_exit, self.answered_s
        if answer is not None and not answer.of_numbers:
            answer, error = None, error or f"found values of exit {exit_ + 1} that are no numbers"
        none = answer is None
        return FrameRecord(
            self.number,
            self.plan_index,
            self.arrival_s - begin_s,
            None if none else ended_s - self.arrival_s,
            None if none else exit_,
            not none and answer is self.answer,
            None if none else "edge" if self.answered_by_edge else "device",
            None if answer is None else answer.label,
            None if answer is None else answer.confidence,
            self.bytes_sent,
            self.device_s,
            error,
            self.stages_s,
            self.moments_s,
            self.reserved,
            self.size,
            None if answer is None or answer.values is None else answer.values.tobytes(),
        )


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the device's first part of a plan gave.

    `encoded` is what crosses, `logits` a local plan's answer, `confident` the gate that was sure
    enough. There is one of them, or none where no time was left behind a gate.
    """

    encoded: Encoded | None = None
    logits: Float32s | None = None
    confident: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something the engine's thread must hear of.

    `prefix`, `local`, `suffix`: the CPU ended a frame's job (`value`: `CpuDone`); `gate`: one of
    its gates has answered (`ExitAnswer`); `reply`: the link's `Reply`; `call`: a function to
    call.
    """

    kind: Literal["prefix", "local", "suffix", "gate", "reply", "call"]
    frame: Frame | None
    value: Any
    exit: int = -1
