"""The learned policy as a controller: observation in, greatest score out."""

from __future__ import annotations

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.physics import PlanTable
from controller.policies.network import Policy
from controller.policies.observation import Observer, Scales
from controller.policies.probing import BLIND_S, Prober

_ALL = np.ones(1, dtype=np.bool_)


class LearnedController:
    """Decides by a `Policy` on exactly the observation it was trained on (one lane).

    Where nothing was measured for `blind_s` the link is asked, as in training (`Prober`).
    """

    def __init__(
        self,
        policy: Policy,
        table: PlanTable,
        deadline_s: float,
        name: str = "learned",
        blind_s: float = BLIND_S,
    ) -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._policy = policy
        self._prober = Prober(table, 1, blind_s)
        self._observer = Observer(1, Scales(deadline_s))

    def reset(self) -> None:
        """Forget everything seen."""
        self._observer.reset(_ALL)
        self._prober.reset(_ALL)

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        known_s = np.array([measurement.known_s])
        self._prober.measured(_ALL, known_s)
        self._observer.measured(
            _ALL,
            known_s,
            np.array([measurement.rate_bps]),
            np.array([measurement.complete]),
        )

    def record(self, result: FrameResult) -> None:
        """Take in how a frame ended."""
        in_time = result.latency_s is not None
        self._observer.ended(_ALL, np.array([in_time]), np.array([result.by_plan]))

    def decide(self, situation: Situation) -> int:
        """The policy's plan."""
        now_s = np.array([situation.now_s])
        observation = self._observer.observe(
            now_s,
            np.array([situation.device_backlog_s]),
            np.array([float(situation.uplink_backlog_bytes)]),
        )
        scores = self._policy.scores(observation)
        return int(self._prober.applied(scores.argmax(axis=1), now_s, scores)[0])
