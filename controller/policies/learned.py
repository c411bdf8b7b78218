"""The learned policy as a controller: observation in, greatest score out."""

from __future__ import annotations

import numpy as np

from controller.interface import FrameResult, Measurement, Situation
from controller.physics import PlanTable
from controller.policies.network import Policy
from controller.policies.observation import Observer, Scales

_ALL = np.ones(1, dtype=np.bool_)

BLIND_S = 0.25
"""Seconds without a measurement after which a policy that stays local sends one frame.

Chosen on the validation logs of `lte-mobilenet`: 0.8665 of an answer a frame, 0.852 without it.
"""


class LearnedController:
    """Decides by a `Policy` on exactly the observation it was trained on (one lane).

    In training it draws its plans, and so meets the link by chance; here it takes the best alone,
    and one that stays local would never hear of the link again. Where nothing was measured for
    `blind_s` the best-scored plan that sends takes its place for one frame (None: never).
    """

    def __init__(
        self,
        policy: Policy,
        table: PlanTable,
        deadline_s: float,
        name: str = "learned",
        blind_s: float | None = BLIND_S,
    ) -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._policy, self._blind_s = policy, blind_s
        self._quiet, self._senders = table.quiet, table.senders
        self._observer = Observer(1, Scales(deadline_s))
        self._sent_s = -np.inf

    def reset(self) -> None:
        """Forget everything seen."""
        self._observer.reset(_ALL)
        self._sent_s = -np.inf

    def observe(self, measurement: Measurement) -> None:
        """Take in a measurement."""
        self._sent_s = max(self._sent_s, measurement.known_s)
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
        scores = self._policy.scores(observation)[0]
        plan = int(np.argmax(scores))
        if not self._quiet[plan] or self._blind_s is None or not len(self._senders):
            return plan
        if situation.now_s - self._sent_s < self._blind_s:
            return plan
        self._sent_s = situation.now_s
        return int(self._senders[np.argmax(scores[self._senders])])
