"""The learned policy as a controller: observation in, greatest score out."""

from __future__ import annotations

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.policies.network import Policy
from controller.policies.observation import Observer, Scales

_ALL = np.ones(1, dtype=np.bool_)


class LearnedController:
    """Decides by a `Policy` on exactly the observation it was trained on (one lane)."""

    def __init__(self, policy: Policy, deadline_s: float, name: str = "learned") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._policy = policy
        self._observer = Observer(1, Scales(deadline_s))

    def reset(self) -> None:
        """Forget everything seen."""
        self._observer.reset(_ALL)

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        self._observer.measured(
            _ALL,
            np.array([measurement.known_s]),
            np.array([measurement.rate_bps]),
            np.array([measurement.complete]),
        )

    def record(self, result: FrameResult) -> None:
        """Take in how a frame ended."""
        in_time = result.latency_s is not None
        self._observer.ended(_ALL, np.array([in_time]), np.array([result.by_plan]))

    def decide(self, situation: Situation) -> int:
        """The policy's plan."""
        observation = self._observer.observe(
            np.array([situation.now_s]),
            np.array([situation.device_backlog_s]),
            np.array([float(situation.uplink_backlog_bytes)]),
        )
        return int(self._policy.decide(observation)[0])
