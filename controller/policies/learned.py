"""The learned policy as a controller: an observation in, the plan of greatest score out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.planners.queue_values import LEAST_BPS
from controller.planners.robust import RobustPlanner
from controller.policies.in_flight import UploadCosts
from controller.policies.network import Policy
from controller.policies.observation import Observation
from controller.policies.single_observation import SingleEncoder
from controller.policies.single_stream import SingleInFlight, SingleObserver, SingleProber
from controller.policies.stream_state import scales_of
from controller.scenarios import Setting
from controller.sensing.pace import CLEARLY_SLOW, relative_pace


class LearnedController:
    """Decides by a `Policy` on exactly the observation it was trained on, of one lane.

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
        encoder, rates = policy.encoder(setting), np.maximum(policy.belief.rates_bps, LEAST_BPS)
        self._observer = SingleObserver(scales_of(setting), setting.link_model)
        self._in_flight = SingleInFlight(UploadCosts.of(setting), rates)
        self._prober = SingleProber(setting.table, policy.card.blind_s)
        self._encoder = SingleEncoder(encoder)
        self._robust = RobustPlanner(setting, policy.belief, values=encoder.paced)
        self._choose, self._limits = policy.weights.single(), policy.limits
        self._senders = setting.table.senders

    def reset(self) -> None:
        """Forget everything seen; `fallbacks` goes on counting."""
        self._observer.reset()
        self._in_flight.forget()
        self._prober.reset()
        self._robust.reset()

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        self._prober.measured(measurement.known_s)
        self._observer.measured(measurement)
        self._robust.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """Take in how a frame ended."""
        self._observer.ended(result)
        self._in_flight.ended(result.frame)

    def decide(self, situation: Situation) -> int:
        """The policy's plan, or the robust planner's where the policy knows nothing."""
        situation = self._by_usual_pace(situation)
        if situation.device_pace > CLEARLY_SLOW or self._outside(situation):
            self.fallbacks += 1
            plan = self._robust.decide(situation)
        else:
            plan = self._chosen(situation.now_s)
        self._in_flight.chosen(
            situation.frame, plan, situation.now_s, situation.device_backlog_s, situation.rtt_s
        )
        return plan

    def overruled(self, frame: int, plan: int) -> None:
        """The frame just decided runs by another plan: nothing is awaited of the one chosen."""
        self._in_flight.changed(frame, plan)

    def observation(self, situation: Situation) -> Observation:
        """What the policy sees at this moment."""
        self._encoder.encode(self._observer, self._in_flight, self._by_usual_pace(situation))
        return self._encoder.observation()

    def _by_usual_pace(self, situation: Situation) -> Situation:
        """The situation with the device's pace over what it takes all the time."""
        usual = self.policy.card.device_pace
        if usual == 1.0:
            return situation
        return replace(situation, device_pace=float(relative_pace(situation.device_pace, usual)))

    def _outside(self, situation: Situation) -> bool:
        """Whether the situation, which is encoded, is outside of what the policy was trained on."""
        encoder, (lowest, highest) = self._encoder, self._limits
        encoder.encode(self._observer, self._in_flight, situation)
        seen = encoder.context[:-1]
        return bool(np.count_nonzero((seen < lowest) | (seen > highest)))

    def _chosen(self, now_s: float) -> int:
        """The policy's plan in the situation encoded last, or what asks the link in its place."""
        encoder = self._encoder
        choice = self._choose(encoder.context, encoder.described, encoder.present)
        plan = encoder.plans.item(choice)
        if self._prober.asks(plan, now_s):
            return self._senders.item(encoder.advantage.take(self._senders).argmax())
        return plan
