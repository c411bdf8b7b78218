"""The learned policy as a controller: a view in, the plan of greatest score out."""

from __future__ import annotations

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.planners.robust import RobustPlanner
from controller.policies.network import Policy
from controller.policies.observation import Observer, Scales
from controller.policies.probing import Prober
from controller.policies.view import View
from controller.scenario import Setting

_ALL = np.ones(1, dtype=np.bool_)


class LearnedController:
    """Decides by a `Policy` on exactly the view it was trained on (one lane).

    Where nothing was measured for the policy's `blind_s` the link is asked, as in training
    (`Prober`). Where the context leaves the range of training the robust planner decides;
    `fallbacks` counts those frames.
    """

    def __init__(self, policy: Policy, setting: Setting, name: str = "learned") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self.fallbacks = 0
        self._policy, self._setting = policy, setting
        self._view = policy.view(setting)
        self._prober = Prober(setting.table, 1, policy.card.blind_s)
        self._observer = Observer(1, Scales(setting.scenario.frames.deadline_s))
        self._robust = RobustPlanner(setting, policy.belief)

    def reset(self) -> None:
        """Forget everything seen."""
        self._observer.reset(_ALL)
        self._prober.reset(_ALL)
        self._robust.reset()

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        known_s = np.array([measurement.known_s])
        self._prober.measured(_ALL, known_s)
        # what a plan's bytes take is worked out with its headers: so is what a transfer tells
        rate = self._setting.link_model.rate_bps(
            np.array([float(measurement.payload_bytes)]), np.array([measurement.duration_s])
        )
        self._observer.measured(_ALL, known_s, rate, np.array([measurement.complete]))
        self._robust.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """Take in how a frame ended."""
        in_time = result.latency_s is not None
        self._observer.ended(_ALL, np.array([in_time]), np.array([result.by_plan]))

    def decide(self, situation: Situation) -> int:
        """The policy's plan, or the robust planner's where the policy knows nothing."""
        view = self.look(situation)
        if self._policy.outside(view.context)[0]:
            self.fallbacks += 1
            return self._robust.decide(situation)
        plan = view.plans[:, self._policy.decide(view.flat)[0]]
        return int(self._prober.applied(plan, np.array([situation.now_s]), view.advantage)[0])

    def look(self, situation: Situation) -> View:
        """What the policy sees at this moment."""
        return self._view.look(
            self._observer,
            np.array([situation.now_s]),
            np.array([situation.device_backlog_s]),
            np.array([float(situation.uplink_backlog_bytes)]),
        )
