"""What is decided of a frame after its controller has chosen a plan: a device's own rules.

Three rules stand between a choice and what runs. The breakers hold frames back from an edge that
gives nothing in return (`controller.health`). A plan whose own local answer would come too
late gives way to one that keeps time for the local fallback. A plan without a fallback gets one all
the same while the edge has not proved reliable.

The device's engine and the simulator share one `Admission`, so that both decide alike. It holds no
thread, socket or clock: whoever uses it reports what happened, and passes the time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from controller.health import Breakers, EdgeReliability
from controller.interface import Situation
from controller.physics import RESCUE_MARGIN_S, PlanTable
from controller.plans import Plan
from controller.policies.probing import probe_plan
from controller.sensing.pace import CLEARLY_SLOW

USUAL = 0.9
"""A deadline of more than this share of the stream's is the usual one: whoever passes answers on
keeps a few milliseconds of it for that."""

SILENCE_MARGIN_S = 0.04
"""Beyond a round trip after the deadline: an edge that has not spoken by then got nothing."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The plan that a frame runs by (its index in the table), and the edge (lane) it is for."""

    plan: int
    lane: int


@dataclass
class Admission:
    """The rules for one device and one stream.

    `deadline_s` is the stream's own. `first_exit_s` is what a device needs for the first exit from
    the input, at the 95th percentile. `rescue_margin_s` is kept free beyond a local fallback.
    Times that are passed in are of one clock, whichever; `Situation.now_s` is not used.
    """

    table: PlanTable
    deadline_s: float
    first_exit_s: float
    rescue_margin_s: float = RESCUE_MARGIN_S
    interval_s: float = math.inf
    """Between two frames of the stream; infinite where each comes after the last answer."""
    always_rescue: bool = False
    """Every frame has a local answer, also where its plan would not have one."""
    breakers: Breakers | None = None
    """None: every frame goes where the controller would have it go."""
    reliability: EdgeReliability = field(default_factory=EdgeReliability)
    greetings: Mapping[int, int] = field(default_factory=dict)
    """How often each edge had greeted the device when that was last asked."""

    def __post_init__(self) -> None:
        """What the table says once and for all."""
        self._mean_prefix_s = self.table.mean_prefix_s
        self._light = probe_plan(self.table)

    def guard(self, rng: random.Random) -> None:
        """Apply the rules as a daemon does: every frame has a local answer, every edge its breaker.

        `rng` is of the breakers' jitter.
        """
        self.always_rescue, self.breakers = True, Breakers(rng)

    @property
    def open(self) -> bool:
        """Whether the breakers hold frames back from every edge (a trial aside)."""
        return self.breakers is not None and self.breakers.open

    @property
    def opened(self) -> int:
        """Times that frames were held back from an edge."""
        return 0 if self.breakers is None else self.breakers.opened

    # -- decisions -------------------------------------------------------------------------------

    def serving(self, lanes: Sequence[int], greetings: Mapping[int, int], now_s: float) -> int:
        """The edge that serves, of `lanes` in the order of preference (never none of them).

        `greetings` counts each edge's greetings: one that greets anew may be tried at once.
        """
        if self.breakers is None:
            return lanes[0]
        for lane, count in greetings.items():
            if count != self.greetings.get(lane):
                self.breakers.renewed(lane, now_s)
        self.greetings = dict(greetings)
        return self.breakers.first(lanes)

    def admit(
        self, chosen: int, situation: Situation, lanes: Sequence[int], now_s: float
    ) -> Admitted:
        """What becomes of the plan `chosen` for a frame in this `situation`."""
        allowed, lane = self._allowed(chosen, situation, lanes, now_s)
        plan = self.keeping_time(allowed, situation)
        if self.table.local[plan] and not self.table.local[allowed]:
            self.unused(lane)
        return Admitted(plan, lane)

    def _allowed(
        self, index: int, situation: Situation, lanes: Sequence[int], now_s: float
    ) -> tuple[int, int]:
        """The plan decided, or a local one while the breakers hold frames back; and the edge."""
        if self.breakers is None or self.table.local[index]:
            return index, lanes[0]
        lane = self.breakers.allows(lanes, now_s)
        return (self._own(situation), lanes[0]) if lane is None else (index, lane)

    def _own(self, situation: Situation) -> int:
        """The most accurate local plan that is in time and leaves the next frame time, too.

        Without the second the device would fall behind: the deepest exit that one frame can afford
        leaves those behind it late.
        """
        local = np.flatnonzero(self.table.local)
        slower = max(situation.device_pace, 1.0)
        first_exit_s = slower * self.first_exit_s
        ready = slower * self.table.prefix_s[local] + situation.device_backlog_s
        waits = np.maximum(ready - self.interval_s, 0.0) + first_exit_s
        in_time = ready <= situation.deadline_s
        # a device that not even the first exit lets keep up has nothing to spare
        spare = (waits + self.rescue_margin_s <= self.deadline_s) & (
            first_exit_s <= self.interval_s
        )
        fits = local[in_time & spare]
        if not len(fits):
            return int(local[np.argmin(ready)])
        return int(fits[np.argmax(self.table.accuracy[fits])])

    def keeping_time(self, index: int, situation: Situation) -> int:
        """The plan decided; where its own local answer would come too late, one that sends the
        picture as it is and keeps time for a local fallback, or the first exit.

        A device that cannot give every frame the first exit leaves such a plan as it is.
        """
        table, plan = self.table, self.table.plans[index]
        if not self.always_rescue or plan.is_local or not table.prefix_s[index] > 0:
            return index
        spare = situation.deadline_s - situation.device_backlog_s - self.rescue_margin_s
        spare /= max(situation.device_pace, 1.0)  # in seconds of the profile
        if table.wait_exit[index, 0] >= 0 or plan.gates:
            own_s = float(table.prefix_s[index] + table.wait_s[index, 0])
        else:
            own_s = float(self._mean_prefix_s[index]) + self.first_exit_s
        if own_s <= spare:
            return index
        if self._light is not None and self.first_exit_s <= spare:
            return self._light
        if not self._keeps_up(situation.device_pace):
            # the first exit would hardly be in time, and the frames behind it would wait
            return index
        first = np.flatnonzero(table.local & (table.exit == 0) & ~table.gated)
        return int(first[0]) if len(first) else index

    def reserves(self, plan: Plan, now_s: float, device_pace: float = 1.0) -> bool:
        """Whether the CPU is kept free for a frame's local fallback.

        Otherwise the fallback is computed where the CPU happens to be idle. A device that is slower
        than its profile (`device_pace`), and so cannot give every frame one, keeps no time where
        the plan would not: it would fall behind with what it has to encode.
        """
        if plan.rescue:
            return True
        return self._keeps_up(device_pace) and not self.reliability.holds(now_s)

    def _keeps_up(self, device_pace: float) -> bool:
        """Whether a device at this pace has time for the first exit of every frame."""
        return device_pace <= CLEARLY_SLOW or device_pace * self.first_exit_s <= self.interval_s

    def usual(self, deadline_s: float) -> bool:
        """Whether a frame was given the time that frames have here, or more."""
        return deadline_s > USUAL * self.deadline_s

    # -- what happened ---------------------------------------------------------------------------

    def unused(self, lane: int) -> None:
        """A frame that was admitted for an edge has not been sent after all."""
        if self.breakers is not None:
            self.breakers.abandoned(lane)

    def failed(self, lane: int, now_s: float) -> None:
        """A frame could not be sent, the edge refused it, or the connection went under it."""
        if self.breakers is not None:
            self.breakers.failed(lane, now_s)

    def answered(self, lane: int) -> None:
        """An edge answered a frame within the frame's own time."""
        if self.breakers is not None:
            self.breakers.answered(lane)

    def in_vain(self, lane: int, now_s: float, deadline_s: float, early: bool) -> None:
        """An edge has said something of a frame of `deadline_s`, but gave no answer that is of use.

        `early`: it said so before the frame's time was over.
        """
        if self.breakers is None:
            return
        if early or self.usual(deadline_s):
            self.breakers.carried(lane, now_s)
        else:
            self.breakers.heard(lane)

    def heard(self, lane: int) -> None:
        """An edge has said something that nobody waits for any more."""
        if self.breakers is not None:
            self.breakers.heard(lane)

    def missed(self) -> None:
        """A frame that relied on the edge got no answer from it."""
        self.reliability.missed()

    def relied(self, now_s: float, spent_s: float) -> None:
        """A frame that ends now has its edge's answer, `spent_s` after it arrived."""
        if spent_s <= self.deadline_s:
            self.reliability.answered(now_s)
