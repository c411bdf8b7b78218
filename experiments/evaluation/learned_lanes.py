"""Many streams of one learned policy decided together: what its controllers would, at once.

The lanes' form of stream and encoder, and the same weights as `controller.policies.learned`; only
sums in another order may differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts.arrays import Bools, Ints
from controller.interface import Controller, Measurement, Situation
from controller.planners.robust import RobustPlanner
from controller.policies.learned import LearnedController
from controller.policies.network import Policy
from controller.policies.stream_state import StreamState
from controller.scenarios import Setting
from controller.sensing.pace import CLEARLY_SLOW, relative_pace
from envs.simulator import Simulator


class LearnedLanes:
    """Decides for every lane of a simulator; `fallbacks` (L,) as the controllers count them."""

    def __init__(self, policy: Policy, setting: Setting, lanes: int) -> None:
        self._policy = policy
        setting = policy.on_device(setting)
        encoder = policy.encoder(setting)
        self._stream = StreamState(setting, encoder, lanes, policy.card.blind_s)
        self._stream.forget(np.ones(lanes, dtype=np.bool_))
        self._robust = [
            RobustPlanner(setting, policy.belief, values=encoder.paced) for _ in range(lanes)
        ]
        self._rtt_s = np.full(lanes, setting.scenario.link.rtt_s)
        self.fallbacks = np.zeros(lanes, dtype=np.int64)

    def decide(self, simulator: Simulator, alive: Bools) -> Ints:
        """Plans for the frames that arrive now; what has become known is taken in first."""
        for found in simulator.deliver():
            self._stream.measured(
                found.lanes, found.known_s, found.payload_bytes, found.duration_s, found.complete
            )
            for k in np.flatnonzero(found.lanes & alive).tolist():
                self._robust[k].observe(
                    Measurement(
                        float(found.known_s[k]),
                        int(found.payload_bytes[k]),
                        float(found.duration_s[k]),
                        bool(found.complete[k]),
                    )
                )
        for ended in simulator.ends():
            self._stream.ended(
                ended.lanes, ended.frame, ended.in_time, ended.by_plan,
                np.where(ended.in_time, ended.latency_s, np.inf), ended.noticed,
            )  # fmt: skip
        device_s, uplink_bytes = simulator.backlogs()
        # the device counts whole bytes
        uplink_bytes = np.floor(uplink_bytes)
        now_s = simulator.now_s
        pace = relative_pace(simulator.device_pace, self._policy.card.device_pace)
        observation = self._stream.observation(now_s, device_s, uplink_bytes, pace)
        outside = self._policy.outside(observation.context)
        outside |= pace > CLEARLY_SLOW
        plan = observation.plans[np.arange(len(now_s)), self._policy.decide(observation.flat)]
        plan = self._stream.applied(plan, observation, now_s, ~outside)
        for k in np.flatnonzero(outside & alive).tolist():
            self.fallbacks[k] += 1
            situation = Situation(
                float(now_s[k]), int(simulator.frame[k]), simulator.deadline_s,
                float(device_s[k]), int(uplink_bytes[k]), float(self._rtt_s[k]),
                float(pace[k]),
            )  # fmt: skip
            plan[k] = self._robust[k].decide(situation)
        self._stream.carried_out(simulator.frame, plan, now_s, device_s, self._rtt_s)
        return plan

    def record_fallbacks(self, controllers: Sequence[Controller]) -> None:
        """Tell the controllers how often the guard took over in their lanes."""
        for controller, count in zip(controllers, self.fallbacks.tolist(), strict=True):
            if isinstance(controller, LearnedController):
                controller.fallbacks += count


def together(controllers: Sequence[Controller], setting: Setting) -> LearnedLanes | None:
    """One decider for them all, where all are learned controllers of one policy."""
    first = controllers[0] if controllers else None
    if not isinstance(first, LearnedController):
        return None
    if any(not isinstance(c, LearnedController) or c.policy is not first.policy
           for c in controllers):  # fmt: skip
        return None
    return LearnedLanes(first.policy, setting, len(controllers))
