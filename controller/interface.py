"""What every controller is: it gets measurements and results, and plans every frame.

One `Protocol` for Algorithm 1, the configuration map, learned policies and the rest; the simulator,
the testbed and the daemon drive them alike. A controller answers with an index into the plan list
it was built with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Measurement:
    """One transfer that happened, as the edge's receive times tell it.

    `payload_bytes` arrived within `duration_s`; known to the device at `known_s` (the trace's or
    the device's monotonic clock). `complete` is False for an upload that was cancelled: what had
    arrived by then still says how fast the link was.
    """

    known_s: float
    payload_bytes: int
    duration_s: float
    complete: bool = True

    @property
    def rate_bps(self) -> float:
        """Measured bandwidth in bit/s."""
        return 8.0 * self.payload_bytes / max(self.duration_s, 1e-6)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What a frame has shown of the world beside its answer; None where it showed nothing.

    `size`: the bytes that crossed, over their mean by its plan. `edge_queue_s`: how long the edge
    says that it waited there. `confidence`: of the answer, where an exit on the device gave it.
    """

    size: float | None = None
    edge_queue_s: float | None = None
    confidence: float | None = None


NOTHING = Noticed()


@dataclass(frozen=True, slots=True)
class FrameResult:
    """How one frame ended: the plan used, and when and by which exit it was answered.

    `latency_s` is None where no answer came in time; `exit` is the exit whose answer the user got;
    `by_plan` is False where that was an earlier local answer (anytime or rescue). `noticed` is what
    it has shown beside.
    """

    frame: int
    plan: int
    known_s: float
    latency_s: float | None
    exit: int | None
    by_plan: bool
    noticed: Noticed = NOTHING


@dataclass(frozen=True, slots=True)
class Situation:
    """What the device itself knows when a frame arrives; no link state in it (censored bandwidth).

    `now_s`: arrival; `frame`: its number; `deadline_s`: seconds it may take; `device_backlog_s`:
    seconds until the device CPU is free; `uplink_backlog_bytes`: bytes handed to the link and not
    yet acknowledged; `rtt_s`: round-trip time from keep-alives; `device_pace`: what the device's
    newest jobs took, over what its profile expects of them.
    """

    now_s: float
    frame: int
    deadline_s: float
    device_backlog_s: float
    uplink_backlog_bytes: int
    rtt_s: float
    device_pace: float = 1.0


class Controller(Protocol):
    """Decides one plan per frame. One instance serves one stream, from `reset` on."""

    name: str
    initial_probe_bytes: int
    """Bytes of the one charged transfer it wants before the first frame (0: none)."""

    def reset(self) -> None:
        """Forget everything seen; a new stream begins."""

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended (or was cancelled) and its figures arrived."""

    def record(self, result: FrameResult) -> None:
        """A frame ended."""

    def decide(self, situation: Situation) -> int:
        """Index of the plan for the frame that has just arrived."""


@runtime_checkable
class Overruled(Protocol):
    """A controller that remembers what it chose, and must hear where something else was made."""

    def overruled(self, frame: int, plan: int) -> None:
        """The frame just decided runs by `plan`: a breaker or the time left would have it so."""
