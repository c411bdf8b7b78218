"""The learned policy as a controller: an observation in, the plan of greatest score out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.planners.robust import RobustPlanner
from controller.policies.network import Policy
from controller.policies.observation import Observation
from controller.policies.stream_state import StreamState
from controller.scenarios import Setting
from controller.sensing.pace import CLEARLY_SLOW, relative_pace

_ALL = np.ones(1, dtype=np.bool_)


class LearnedController:
    """Decides by a `Policy` on exactly the observation it was trained on (one lane).

    Where nothing was measured for the policy's `blind_s` the link is asked, as in training
    (`Prober`). The robust planner decides where the context leaves the range of training, and on a
    device that is slow for a while: it reckons every plan anew with what jobs take, of which the
    policy has seen little. `fallbacks` counts those frames. What a device takes all the time the
    policy's card may say: it is none of being slow.
    """

    def __init__(self, policy: Policy, setting: Setting, name: str = "learned") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self.fallbacks = 0
        self.policy = policy
        setting = policy.on_device(setting)
        encoder = policy.encoder(setting)
        self._stream = StreamState(setting, encoder, 1, policy.card.blind_s)
        self._robust = RobustPlanner(setting, policy.belief, values=encoder.paced)

    def reset(self) -> None:
        """Forget everything seen; `fallbacks` goes on counting."""
        self._stream.forget(_ALL)
        self._robust.reset()

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        self._stream.measured(
            _ALL,
            np.array([measurement.known_s]),
            np.array([float(measurement.payload_bytes)]),
            np.array([measurement.duration_s]),
            np.array([measurement.complete]),
        )
        self._robust.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """Take in how a frame ended."""
        in_time, seen = result.latency_s is not None, result.noticed
        shown = (seen.size, seen.edge_queue_s, seen.confidence)
        self._stream.ended(
            _ALL,
            np.array([result.frame]),
            np.array([in_time]),
            np.array([result.by_plan]),
            np.array([np.inf if result.latency_s is None else result.latency_s]),
            np.array([[np.nan if value is None else value] for value in shown]),
        )

    def decide(self, situation: Situation) -> int:
        """The policy's plan, or the robust planner's where the policy knows nothing."""
        situation = self._by_usual_pace(situation)
        observation, now_s = self._observed(situation), np.array([situation.now_s])
        slow = situation.device_pace > CLEARLY_SLOW
        if slow or self.policy.outside(observation.context)[0]:
            self.fallbacks += 1
            plan = np.array([self._robust.decide(situation)])
        else:
            chosen = observation.plans[:, self.policy.decide(observation.flat)[0]]
            plan = self._stream.applied(chosen, observation, now_s)
        self._stream.carried_out(
            np.array([situation.frame]),
            plan,
            now_s,
            np.array([situation.device_backlog_s]),
            np.array([situation.rtt_s]),
        )
        return int(plan[0])

    def overruled(self, frame: int, plan: int) -> None:
        """The frame just decided runs by another plan: nothing is awaited of the one chosen."""
        self._stream.changed(_ALL, np.array([frame]), np.array([plan]))

    def observation(self, situation: Situation) -> Observation:
        """What the policy sees at this moment."""
        return self._observed(self._by_usual_pace(situation))

    def _by_usual_pace(self, situation: Situation) -> Situation:
        """The situation with the device's pace over what it takes all the time."""
        usual = self.policy.card.device_pace
        if usual == 1.0:
            return situation
        return replace(situation, device_pace=float(relative_pace(situation.device_pace, usual)))

    def _observed(self, situation: Situation) -> Observation:
        return self._stream.observation(
            np.array([situation.now_s]),
            np.array([situation.device_backlog_s]),
            np.array([float(situation.uplink_backlog_bytes)]),
            np.array([situation.device_pace]),
        )
